// Starts and ends of instructions, per unit, with their cycle: what timelines and hang reports are drawn from.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <vector>

namespace rowcast {

// Layout shared with Python (EVENT_DTYPE in model.py).
struct Event {
    uint64_t cycle;
    uint32_t pc;
    uint8_t unit;  // hw.spec.isa.Queue
    uint8_t kind;  // 0 start, 1 done
    uint8_t unused[2];
};
static_assert(sizeof(Event) == 16);

template <class Top>
class Events {
public:
    void sample(const Top& top, uint64_t cycle) {
        sample(0, top.trace_load_start, top.trace_load_pc, top.trace_load_done, cycle);
        sample(1, top.trace_exec_start, top.trace_exec_pc, top.trace_exec_done, cycle);
        sample(2, top.trace_store_start, top.trace_store_pc, top.trace_store_done, cycle);
    }

    const std::vector<Event>& list() const { return list_; }
    void clear() {
        list_.clear();
        for (auto& open : open_) open.clear();
    }

private:
    // A unit finishes its instructions in order, so `done` belongs to the oldest one that has started.
    void sample(uint8_t unit, bool start, uint32_t pc, bool done, uint64_t cycle) {
        if (start) {
            open_[unit].push_back(pc);
            list_.push_back({cycle, pc, unit, 0, {}});
        }
        if (done && !open_[unit].empty()) {
            list_.push_back({cycle, open_[unit].front(), unit, 1, {}});
            open_[unit].pop_front();
        }
    }

    std::array<std::deque<uint32_t>, 3> open_;
    std::vector<Event> list_;
};

}  // namespace rowcast
