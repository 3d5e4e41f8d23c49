// AXI4 memory: settable latency, one beat per cycle each way, several bursts outstanding, optional random stalls.
// It checks what the master does (stability, burst shape, WLAST) and notes violations.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>

#include "dram.h"
#include "failures.h"
#include "random.h"
#include "stable.h"

namespace rowcast {

struct MemoryOptions {
    uint32_t read_latency = 64;   // cycles from the AR handshake to the first R beat
    uint32_t write_latency = 64;  // cycles from the last W handshake to B
    uint32_t outstanding = 16;    // bursts accepted per direction before AxREADY falls
    double stall = 0.0;           // probability per cycle and channel of holding back READY or VALID
};

// Drives the subordinate side of `Top`'s m_axi_* ports. Call sample() on settled signals, then drive() after the edge.
template <class Top>
class AxiMemory {
public:
    static constexpr uint32_t kBytes = sizeof(Top::m_axi_wdata);  // data widths are 64 bits and more: exact

    AxiMemory(Dram& dram, Failures& failures) : dram_(dram), failures_(failures) {}

    void configure(const MemoryOptions& options, uint64_t seed) {
        options_ = options;
        random_ = Random(seed);
    }

    // Bursts that have not been answered completely.
    uint32_t outstanding() const { return static_cast<uint32_t>(reads_.size() + writes_.size() + (beats_.empty() ? 0 : 1)); }
    uint64_t read_beats() const { return read_beats_; }
    uint64_t write_beats() const { return write_beats_; }

    void reset(Top& top) {
        reads_.clear(), writes_.clear(), beats_.clear();
        r_waits_ = b_waits_ = false;
        ar_.reset(), aw_.reset(), w_.reset();
        top.m_axi_arready = top.m_axi_awready = top.m_axi_wready = 0;
        top.m_axi_rvalid = top.m_axi_bvalid = 0;
    }

    void sample(const Top& top, uint64_t cycle) {
        sample_read(top, cycle);
        sample_write(top, cycle);
    }

    void drive(Top& top, uint64_t cycle) {
        drive_read(top, cycle);
        drive_write(top, cycle);
    }

private:
    struct Burst {
        uint64_t addr = 0;
        uint32_t id = 0, len = 0, size = 0, burst = 0;
        bool operator==(const Burst&) const = default;
    };
    struct OpenRead : Burst {
        uint64_t due = 0;
        uint32_t beat = 0;
    };
    struct Beat {
        std::array<uint8_t, kBytes> data;
        std::array<uint8_t, (kBytes + 7) / 8> strobe;
        bool last = false;
        bool operator==(const Beat&) const = default;
    };
    struct OpenWrite : Burst {
        uint64_t due = 0;
        std::deque<Beat> beats;
        bool complete = false;
    };

    void check_burst(const Burst& burst, const char* channel, uint64_t cycle) {
        if ((1u << burst.size) != kBytes || burst.burst != 1) {
            failures_.add(cycle, "%s at 0x%llx: AxSIZE %u, AxBURST %u; full-width INCR is expected", channel,
                          static_cast<unsigned long long>(burst.addr), burst.size, burst.burst);
        }
        const uint64_t first = burst.addr & ~uint64_t(kBytes - 1);
        if (((first ^ (first + uint64_t(burst.len + 1) * kBytes - 1)) >> 12) != 0) {
            failures_.add(cycle, "%s at 0x%llx: %u beats cross a 4 KiB boundary", channel,
                          static_cast<unsigned long long>(burst.addr), burst.len + 1);
        }
    }

    // --- reads: AR -> (latency) -> R, in order ---

    void sample_read(const Top& top, uint64_t cycle) {
        Burst burst;
        if (top.m_axi_arvalid) {
            burst = {top.m_axi_araddr, top.m_axi_arid, top.m_axi_arlen, top.m_axi_arsize, top.m_axi_arburst};
        }
        ar_.sample(cycle, top.m_axi_arvalid, top.m_axi_arready, burst, failures_);
        r_waits_ = top.m_axi_rvalid && !top.m_axi_rready;
        if (top.m_axi_rvalid && top.m_axi_rready) {
            ++read_beats_;
            if (reads_.front().beat++ == reads_.front().len) reads_.pop_front();
        }
        if (top.m_axi_arvalid && top.m_axi_arready) {
            check_burst(burst, "AR", cycle);
            reads_.push_back({burst, cycle + options_.read_latency, 0});
        }
    }

    void drive_read(Top& top, uint64_t cycle) {
        top.m_axi_arready = reads_.size() < options_.outstanding && !random_.chance(options_.stall);
        if (r_waits_) return;  // VALID stays with its payload until READY
        top.m_axi_rvalid = 0;
        if (reads_.empty() || reads_.front().due > cycle + 1 || random_.chance(options_.stall)) return;
        const OpenRead& read = reads_.front();
        std::array<uint8_t, kBytes> data;
        const uint64_t aligned = (read.addr & ~uint64_t(kBytes - 1)) + uint64_t(read.beat) * kBytes;
        top.m_axi_rresp = dram_.read(aligned, data.data(), kBytes);
        std::memcpy(&top.m_axi_rdata, data.data(), kBytes);
        top.m_axi_rid = read.id;
        top.m_axi_rlast = read.beat == read.len;
        top.m_axi_rvalid = 1;
    }

    // --- writes: AW and W in any order -> (latency) -> B; memory changes only when B is sent, so a design that does
    // not wait for B reads stale bytes ---

    void sample_write(const Top& top, uint64_t cycle) {
        Burst burst;
        if (top.m_axi_awvalid) {
            burst = {top.m_axi_awaddr, top.m_axi_awid, top.m_axi_awlen, top.m_axi_awsize, top.m_axi_awburst};
        }
        aw_.sample(cycle, top.m_axi_awvalid, top.m_axi_awready, burst, failures_);
        Beat beat{};
        if (top.m_axi_wvalid) {
            std::memcpy(beat.data.data(), &top.m_axi_wdata, kBytes);
            std::memcpy(beat.strobe.data(), &top.m_axi_wstrb, beat.strobe.size());
            beat.last = top.m_axi_wlast;
        }
        w_.sample(cycle, top.m_axi_wvalid, top.m_axi_wready, beat, failures_);
        b_waits_ = top.m_axi_bvalid && !top.m_axi_bready;
        if (top.m_axi_bvalid && top.m_axi_bready) writes_.pop_front();
        if (top.m_axi_awvalid && top.m_axi_awready) {
            check_burst(burst, "AW", cycle);
            writes_.push_back({burst, 0, {}, false});
        }
        if (top.m_axi_wvalid && top.m_axi_wready) {
            ++write_beats_;
            beats_.push_back(beat);
        }
        assign_beats(cycle);
    }

    void assign_beats(uint64_t cycle) {
        for (OpenWrite& write : writes_) {
            while (!write.complete && !beats_.empty()) {
                write.beats.push_back(beats_.front());
                beats_.pop_front();
                write.complete = write.beats.size() == write.len + 1;
                if (write.beats.back().last != write.complete) {
                    failures_.add(cycle, "W: WLAST is %d at beat %zu of %u", write.beats.back().last,
                                  write.beats.size(), write.len + 1);
                }
                if (write.complete) write.due = cycle + options_.write_latency;
            }
        }
    }

    void drive_write(Top& top, uint64_t cycle) {
        top.m_axi_awready = writes_.size() < options_.outstanding && !random_.chance(options_.stall);
        top.m_axi_wready = beats_.size() < options_.outstanding && !random_.chance(options_.stall);
        if (b_waits_) return;
        top.m_axi_bvalid = 0;
        if (writes_.empty() || !writes_.front().complete || writes_.front().due > cycle + 1 ||
            random_.chance(options_.stall)) {
            return;
        }
        OpenWrite& write = writes_.front();
        uint64_t addr = write.addr & ~uint64_t(kBytes - 1);
        uint8_t worst = OKAY;
        for (const Beat& beat : write.beats) {
            const uint8_t response = dram_.write(addr, beat.data.data(), beat.strobe.data(), kBytes);
            if (response > worst) worst = response;
            addr += kBytes;
        }
        write.beats.clear();
        top.m_axi_bresp = worst;
        top.m_axi_bid = write.id;
        top.m_axi_bvalid = 1;
    }

    Dram& dram_;
    Failures& failures_;
    MemoryOptions options_;
    Random random_;
    StableChannel<Burst> ar_{"AR"}, aw_{"AW"};
    StableChannel<Beat> w_{"W"};
    std::deque<OpenRead> reads_;
    std::deque<OpenWrite> writes_;
    std::deque<Beat> beats_;  // W beats whose address has not arrived
    bool r_waits_ = false, b_waits_ = false;
    uint64_t read_beats_ = 0, write_beats_ = 0;
};

}  // namespace rowcast
