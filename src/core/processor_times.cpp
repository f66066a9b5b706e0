#include "partbackfill/core/processor_times.hpp"

#include <charconv>

namespace partbackfill::core {

namespace {

// A processor ticks a hundred times a second.
constexpr double kFewestTicks = 3;

// Takes the next number off the line.
std::optional<double> next_number(std::string_view &line) {
    const auto begin = line.find_first_not_of(' ');
    if (begin == std::string_view::npos)
        return std::nullopt;
    line.remove_prefix(begin);
    unsigned long long number = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), number);
    if (error != std::errc())
        return std::nullopt;
    line.remove_prefix(static_cast<std::size_t>(end - line.data()));
    return static_cast<double>(number);
}

} // namespace

std::optional<ProcessorTimes> parse_processor_times(std::string_view text) {
    constexpr std::string_view kAll = "cpu ";
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in them already.
    constexpr int kColumns = 8;
    constexpr int kIdle = 3;
    constexpr int kWaiting = 4;
    if (!text.starts_with(kAll))
        return std::nullopt;
    std::string_view line = text.substr(kAll.size(), text.find('\n') - kAll.size());
    ProcessorTimes times;
    for (int column = 0; column < kColumns; column++) {
        const auto ticks = next_number(line);
        if (!ticks)
            return std::nullopt;
        times.total += *ticks;
        if (column == kIdle || column == kWaiting)
            times.idle += *ticks;
    }
    for (auto at = text.find("\ncpu"); at != std::string_view::npos; at = text.find("\ncpu", at + 1))
        times.processors++;
    return times.processors > 0 ? std::optional(times) : std::nullopt;
}

std::optional<double> idle_processors(const ProcessorTimes &before, const ProcessorTimes &after) {
    const double ticks = after.total - before.total;
    if (ticks < kFewestTicks * after.processors)
        return std::nullopt;
    return (after.idle - before.idle) / ticks * after.processors;
}

} // namespace partbackfill::core
