// Bytes behind the AXI port: separate regions at chosen addresses, everything else unmapped.
#pragma once
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

namespace rowcast {

enum Response : uint8_t { OKAY = 0, SLVERR = 2, DECERR = 3 };

class Dram {
public:
    // Map `size` zero bytes at `base`; the returned pointer stays valid until clear().
    uint8_t* map(uint64_t base, uint64_t size) {
        regions_.push_back({base, std::vector<uint8_t>(size)});
        return regions_.back().bytes.data();
    }

    // Answer SLVERR to accesses that touch [base, base + size): reads, writes or both.
    void fault(uint64_t base, uint64_t size, bool reads, bool writes) { faults_.push_back({base, size, reads, writes}); }

    void clear() {
        regions_.clear();
        faults_.clear();
    }

    Response read(uint64_t addr, uint8_t* data, uint64_t count) const {
        const Region* region = find(addr, count);
        if (region == nullptr) {
            std::memset(data, 0xde, count);  // a design that uses data of an error response shows it
            return DECERR;
        }
        std::memcpy(data, region->bytes.data() + (addr - region->base), count);
        return faulty(addr, count, true) ? SLVERR : OKAY;
    }

    Response write(uint64_t addr, const uint8_t* data, const uint8_t* strobe, uint64_t count) {
        const Region* found = find(addr, count);
        if (found == nullptr) return DECERR;
        if (faulty(addr, count, false)) return SLVERR;
        uint8_t* bytes = const_cast<Region*>(found)->bytes.data() + (addr - found->base);
        for (uint64_t i = 0; i < count; ++i) {
            if (strobe[i / 8] >> (i % 8) & 1) bytes[i] = data[i];
        }
        return OKAY;
    }

private:
    struct Region {
        uint64_t base;
        std::vector<uint8_t> bytes;
    };
    struct Fault {
        uint64_t base, size;
        bool reads, writes;
    };

    const Region* find(uint64_t addr, uint64_t count) const {
        for (const Region& region : regions_) {
            if (addr >= region.base && addr - region.base + count <= region.bytes.size()) return &region;
        }
        return nullptr;
    }

    bool faulty(uint64_t addr, uint64_t count, bool is_read) const {
        for (const Fault& fault : faults_) {
            if ((is_read ? fault.reads : fault.writes) && addr < fault.base + fault.size && fault.base < addr + count) {
                return true;
            }
        }
        return false;
    }

    std::deque<Region> regions_;  // a deque never moves its elements, so pointers handed out stay valid
    std::vector<Fault> faults_;
};

}  // namespace rowcast
