// AXI4-Lite manager for the control port: one access at a time, with checks of the answers and optional stalls.
#pragma once
#include <cstdint>

#include "failures.h"
#include "random.h"
#include "stable.h"

namespace rowcast {

template <class Top>
class AxilMaster {
public:
    explicit AxilMaster(Failures& failures) : failures_(failures) {}

    void configure(double stall, uint64_t seed) {
        stall_ = stall;
        random_ = Random(seed);
    }

    void reset(Top& top) {
        state_ = State::Idle;
        r_.reset(), b_.reset();
        top.s_axil_awvalid = top.s_axil_wvalid = top.s_axil_bready = 0;
        top.s_axil_arvalid = top.s_axil_rready = 0;
    }

    void begin_read(uint32_t addr) { begin(State::Read, addr, 0); }
    void begin_write(uint32_t addr, uint32_t data) { begin(State::Write, addr, data); }

    bool done() const { return state_ == State::Idle; }
    uint32_t data() const { return data_; }
    uint32_t response() const { return response_; }

    void sample(const Top& top, uint64_t cycle) {
        const Answer read{top.s_axil_rdata, top.s_axil_rresp}, written{0, top.s_axil_bresp};
        r_.sample(cycle, top.s_axil_rvalid, top.s_axil_rready, read, failures_);
        b_.sample(cycle, top.s_axil_bvalid, top.s_axil_bready, written, failures_);
        // An answer may come only after its request has been accepted.
        if (top.s_axil_rvalid && !(state_ == State::Read && address_sent_)) failures_.add(cycle, "RVALID unasked on s_axil");
        if (top.s_axil_bvalid && !(state_ == State::Write && address_sent_ && data_sent_)) {
            failures_.add(cycle, "BVALID unasked on s_axil");
        }
        if (state_ == State::Read) {
            if (top.s_axil_arvalid && top.s_axil_arready) address_sent_ = true;
            if (top.s_axil_rvalid && top.s_axil_rready) finish(read);
        } else if (state_ == State::Write) {
            if (top.s_axil_awvalid && top.s_axil_awready) address_sent_ = true;
            if (top.s_axil_wvalid && top.s_axil_wready) data_sent_ = true;
            if (top.s_axil_bvalid && top.s_axil_bready) finish(written);
        }
    }

    void drive(Top& top) {
        const bool read = state_ == State::Read, write = state_ == State::Write;
        // VALID is held back at random only before it rises; READY at any time.
        top.s_axil_arvalid = read && !address_sent_ && (top.s_axil_arvalid || go());
        top.s_axil_awvalid = write && !address_sent_ && (top.s_axil_awvalid || go());
        top.s_axil_wvalid = write && !data_sent_ && (top.s_axil_wvalid || go());
        top.s_axil_rready = read && go();
        top.s_axil_bready = write && go();
        top.s_axil_araddr = top.s_axil_awaddr = addr_;
        top.s_axil_arprot = top.s_axil_awprot = 0;
        top.s_axil_wdata = data_;
        top.s_axil_wstrb = 0xf;
    }

private:
    enum class State { Idle, Read, Write };
    struct Answer {
        uint32_t data = 0, response = 0;
        bool operator==(const Answer&) const = default;
    };

    bool go() { return !random_.chance(stall_); }

    void begin(State state, uint32_t addr, uint32_t data) {
        state_ = state;
        addr_ = addr;
        data_ = data;
        address_sent_ = data_sent_ = false;
    }

    void finish(const Answer& answer) {
        if (state_ == State::Read) data_ = answer.data;
        response_ = answer.response;
        state_ = State::Idle;
    }

    Failures& failures_;
    Random random_;
    double stall_ = 0.0;
    StableChannel<Answer> r_{"s_axil R"}, b_{"s_axil B"};
    State state_ = State::Idle;
    uint32_t addr_ = 0, data_ = 0, response_ = 0;
    bool address_sent_ = false, data_sent_ = false;
};

}  // namespace rowcast
