// Seeded random numbers: the same seed stalls the same cycles on every machine.
#pragma once
#include <cstdint>

namespace rowcast {

// splitmix64 (Steele, Lea, Flood 2014): one 64-bit word of state, any seed is good.
class Random {
public:
    explicit Random(uint64_t seed = 0) : state_(seed) {}

    uint64_t next() {
        uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }

    // True with the given probability.
    bool chance(double probability) {
        return probability > 0 && static_cast<double>(next() >> 11) * 0x1.0p-53 < probability;
    }

private:
    uint64_t state_;
};

}  // namespace rowcast
