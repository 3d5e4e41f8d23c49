// The AXI rule for every channel's source: VALID, once high, stays high with the same payload until READY.
#pragma once
#include "failures.h"

namespace rowcast {

template <class Payload>
class StableChannel {
public:
    explicit StableChannel(const char* name) : name_(name) {}

    // Call once per cycle with the channel's settled signals.
    void sample(uint64_t cycle, bool valid, bool ready, const Payload& payload, Failures& failures) {
        if (waiting_) {
            if (!valid) {
                failures.add(cycle, "%sVALID fell before %sREADY", name_, name_);
            } else if (!(payload == payload_)) {
                failures.add(cycle, "%s payload changed while VALID waited for READY", name_);
            }
        }
        waiting_ = valid && !ready;
        if (waiting_) payload_ = payload;
    }

    void reset() { waiting_ = false; }

private:
    const char* name_;
    bool waiting_ = false;
    Payload payload_{};
};

}  // namespace rowcast
