// Protocol violations, collected in words; the driver stops at the first and hands all of them to Python.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>

namespace rowcast {

class Failures {
public:
    // Note a failure in `cycle`; `format` as for printf. Text past 16 failures is dropped, they are still counted.
    void add(uint64_t cycle, const char* format, ...) __attribute__((format(printf, 3, 4))) {
        if (++count_ > 16) return;
        char line[256];
        const int start = std::snprintf(line, sizeof line, "cycle %llu: ", static_cast<unsigned long long>(cycle));
        va_list args;
        va_start(args, format);
        std::vsnprintf(line + start, sizeof line - start, format, args);
        va_end(args);
        text_ += (text_.empty() ? "" : "\n") + std::string(line);
    }

    uint64_t count() const { return count_; }
    const std::string& text() const { return text_; }
    void clear() {
        count_ = 0;
        text_.clear();
    }

private:
    uint64_t count_ = 0;
    std::string text_;
};

}  // namespace rowcast
