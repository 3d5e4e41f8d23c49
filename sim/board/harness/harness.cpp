// The test bench of a board's SoC: clock, reset, and the far end of its UART, bit by bit; a C API for ctypes.
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "Vrowcast.h"
#include "verilated.h"

namespace {

// Sends bytes on the SoC's rx: a start bit, eight of data, least significant first, a stop bit.
class Sender {
public:
    void put(uint8_t byte) { queue_.push_back(byte); }
    bool idle() const { return queue_.empty() && left_ == 0; }

    bool next(uint32_t bit_clocks) {
        if (left_ == 0) {
            if (queue_.empty()) return true;
            frame_ = 0x200u | uint32_t{queue_.front()} << 1;
            queue_.pop_front();
            left_ = 10 * bit_clocks;
        }
        const uint32_t bit = (10 * bit_clocks - left_--) / bit_clocks;
        return frame_ >> bit & 1;
    }

private:
    std::deque<uint8_t> queue_;
    uint32_t frame_ = 0, left_ = 0;
};

// Receives what the SoC sends on tx, sampling the middle of each bit.
class Receiver {
public:
    bool idle() const { return !busy_; }

    void sample(bool level, uint32_t bit_clocks, std::vector<uint8_t>& bytes, uint64_t& framing_errors) {
        if (!busy_) {
            if (level) return;
            busy_ = true;
            clocks_ = bits_ = 0;
        }
        if (clocks_++ != bits_ * bit_clocks + bit_clocks / 2) return;
        shift_ = shift_ >> 1 | uint32_t{level} << 9;
        if (++bits_ < 10) return;
        busy_ = false;
        if ((shift_ & 1) || !(shift_ & 0x200)) ++framing_errors;
        bytes.push_back(static_cast<uint8_t>(shift_ >> 1));
    }

private:
    bool busy_ = false;
    uint32_t clocks_ = 0, bits_ = 0, shift_ = 0;
};

class Board {
public:
    explicit Board(uint32_t bit_clocks) : bit_clocks_(bit_clocks), top_(std::make_unique<Vrowcast>(&context_)) {
        top_->rx = 1;
        top_->rst = 1;
        for (int i = 0; i < 4; ++i) clock();
        top_->rst = 0;
    }

    ~Board() { top_->final(); }

    void put(const uint8_t* bytes, uint64_t count) {
        for (uint64_t i = 0; i < count; ++i) sender_.put(bytes[i]);
    }

    void step(uint64_t cycles) {
        for (uint64_t i = 0; i < cycles; ++i) {
            top_->rx = sender_.next(bit_clocks_);
            clock();
            receiver_.sample(top_->tx, bit_clocks_, bytes, framing_errors);
            quiet = sender_.idle() && receiver_.idle() ? quiet + 1 : 0;
        }
    }

    std::vector<uint8_t> bytes;  // received and not yet taken
    uint64_t framing_errors = 0;
    uint64_t quiet = 0;  // cycles since something was on the wires
    uint64_t now = 0;

private:
    void clock() {
        top_->clk = 0;
        top_->eval();
        top_->clk = 1;
        top_->eval();
        ++now;
    }

    const uint32_t bit_clocks_;
    Sender sender_;
    Receiver receiver_;
    VerilatedContext context_;
    std::unique_ptr<Vrowcast> top_;
};

}  // namespace

extern "C" {

Board* rb_create(uint32_t bit_clocks) { return new Board(bit_clocks); }
void rb_destroy(Board* board) { delete board; }
void rb_put(Board* board, const uint8_t* bytes, uint64_t count) { board->put(bytes, count); }
void rb_step(Board* board, uint64_t cycles) { board->step(cycles); }
uint64_t rb_now(const Board* board) { return board->now; }
uint64_t rb_quiet(const Board* board) { return board->quiet; }
uint64_t rb_framing_errors(const Board* board) { return board->framing_errors; }

uint64_t rb_take(Board* board, uint8_t* bytes, uint64_t room) {
    uint64_t count = board->bytes.size() < room ? board->bytes.size() : room;
    for (uint64_t i = 0; i < count; ++i) bytes[i] = board->bytes[i];
    board->bytes.erase(board->bytes.begin(), board->bytes.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
}

}  // extern "C"
