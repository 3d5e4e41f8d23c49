// The compiled test bench of one accelerator: clock, reset, AXI memory, control port, waves; a C API for ctypes.
// It reads every size off the model's ports, so the same source serves every configuration.
#include <cstdint>
#include <memory>
#include <string>

#include "Vrowcast.h"
#include "verilated.h"
#if defined(ROWCAST_TRACED)
#include "verilated_fst_c.h"
using Waves = VerilatedFstC;
#elif defined(ROWCAST_ACTIVITY)
#define ROWCAST_TRACED
#include "verilated_saif_c.h"
using Waves = VerilatedSaifC;
#endif

#include "axi_memory.h"
#include "axil_master.h"
#include "dram.h"
#include "events.h"
#include "failures.h"

namespace rowcast {

// Active-high `rst` or active-low `aresetn`, whichever the generator was asked for.
template <class Top>
void set_reset(Top& top, bool active) {
    if constexpr (requires { top.rst; }) {
        top.rst = active;
    } else {
        top.aresetn = !active;
    }
}

enum Outcome : int { INTERRUPT = 0, LIMIT = 1, VIOLATION = 2 };

class Harness {
public:
    Harness() : memory(dram, failures), control(failures), top_(std::make_unique<Vrowcast>(&context_)) { power_on(); }

    ~Harness() {
        close_waves();
        top_->final();
    }

    // Hold the reset for some cycles; DRAM keeps its bytes.
    void power_on() {
        memory.reset(*top_);
        control.reset(*top_);
        set_reset(*top_, true);
        for (int i = 0; i < 4; ++i) cycle();
        set_reset(*top_, false);
        events.clear();
    }

    void cycle() {
        top_->clk = 0;
        top_->eval();
        dump(0);
        memory.sample(*top_, now);
        control.sample(*top_, now);
        events.sample(*top_, now);
        top_->clk = 1;
        top_->eval();
        dump(1);
        memory.drive(*top_, now);
        control.drive(*top_);
        ++now;
    }

    bool irq() const { return top_->irq; }

    int run(uint64_t cycles) {
        const uint64_t end = now + cycles;
        while (now < end) {
            if (failures.count()) return VIOLATION;
            cycle();
            if (top_->irq) return failures.count() ? VIOLATION : INTERRUPT;
        }
        return LIMIT;
    }

    // Finish one control access; false if the port never answers.
    bool finish_access() {
        for (int i = 0; i < 100000 && !control.done(); ++i) cycle();
        return control.done();
    }

    // Write waves of cycles [start, stop) to an FST file, or how often each signal changes in them to a SAIF file; false
    // without tracing compiled in.
    bool open_waves(const char* path, uint64_t start, uint64_t stop) {
#ifdef ROWCAST_TRACED
        close_waves();
        context_.traceEverOn(true);
        waves_ = std::make_unique<Waves>();
        top_->trace(waves_.get(), 99);
        waves_->open(path);
        waves_start_ = start;
        waves_stop_ = stop;
        return waves_->isOpen();
#else
        (void)path, (void)start, (void)stop;
        return false;
#endif
    }

    void close_waves() {
#ifdef ROWCAST_TRACED
        if (waves_) waves_->close();
        waves_.reset();
#endif
    }

    Failures failures;
    Dram dram;
    AxiMemory<Vrowcast> memory;
    AxilMaster<Vrowcast> control;
    Events<Vrowcast> events;
    uint64_t now = 0;

private:
    void dump([[maybe_unused]] int phase) {
#ifdef ROWCAST_TRACED
        if (waves_ && now >= waves_start_ && now < waves_stop_) waves_->dump(2 * now + phase);
#endif
    }

    VerilatedContext context_;
    std::unique_ptr<Vrowcast> top_;
#ifdef ROWCAST_TRACED
    std::unique_ptr<Waves> waves_;
    uint64_t waves_start_ = 0, waves_stop_ = 0;
#endif
};

}  // namespace rowcast

using rowcast::Harness;

extern "C" {

Harness* rc_create() { return new Harness(); }
void rc_destroy(Harness* h) { delete h; }
void rc_power_on(Harness* h) { h->power_on(); }

void rc_configure(Harness* h, uint32_t read_latency, uint32_t write_latency, uint32_t outstanding, double stall,
                  uint64_t seed) {
    h->memory.configure({read_latency, write_latency, outstanding, stall}, seed);
    h->control.configure(stall, ~seed);
}

uint8_t* rc_map(Harness* h, uint64_t base, uint64_t size) { return h->dram.map(base, size); }
void rc_unmap_all(Harness* h) { h->dram.clear(); }
void rc_fault(Harness* h, uint64_t base, uint64_t size, int reads, int writes) {
    h->dram.fault(base, size, reads != 0, writes != 0);
}

// Control accesses: the AXI response (0 OKAY), or -1 if the port did not answer.
int rc_csr_read(Harness* h, uint32_t addr, uint32_t* data) {
    h->control.begin_read(addr);
    if (!h->finish_access()) return -1;
    *data = h->control.data();
    return static_cast<int>(h->control.response());
}
int rc_csr_write(Harness* h, uint32_t addr, uint32_t data) {
    h->control.begin_write(addr, data);
    return h->finish_access() ? static_cast<int>(h->control.response()) : -1;
}

int rc_run(Harness* h, uint64_t cycles) { return h->run(cycles); }
void rc_step(Harness* h, uint64_t cycles) {
    for (uint64_t i = 0; i < cycles; ++i) h->cycle();
}
int rc_irq(const Harness* h) { return h->irq(); }
uint64_t rc_now(const Harness* h) { return h->now; }
uint32_t rc_outstanding(const Harness* h) { return h->memory.outstanding(); }
uint64_t rc_read_beats(const Harness* h) { return h->memory.read_beats(); }
uint64_t rc_write_beats(const Harness* h) { return h->memory.write_beats(); }

uint64_t rc_failure_count(const Harness* h) { return h->failures.count(); }
const char* rc_failure_text(const Harness* h) { return h->failures.text().c_str(); }
void rc_clear_failures(Harness* h) { h->failures.clear(); }

uint64_t rc_event_count(const Harness* h) { return h->events.list().size(); }
const rowcast::Event* rc_events(const Harness* h) { return h->events.list().data(); }
void rc_clear_events(Harness* h) { h->events.clear(); }

int rc_open_waves(Harness* h, const char* path, uint64_t start, uint64_t stop) {
    return h->open_waves(path, start, stop);
}
void rc_close_waves(Harness* h) { h->close_waves(); }

}  // extern "C"
