#include "partbackfill/throttle/helper_gate.hpp"

#include <fstream>
#include <iterator>
#include <string>

#include "partbackfill/pg/guc.hpp"

namespace partbackfill::throttle {

namespace {

// The worker itself takes a part of one processor meanwhile.
constexpr double kIdleEnough = 0.5;

std::optional<core::ProcessorTimes> read_processor_times() {
    std::ifstream file("/proc/stat");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return core::parse_processor_times(text);
}

} // namespace

HelperGate::HelperGate() : since_(read_processor_times()) {}

bool HelperGate::is_open() {
    if (pg::helpers_setting() != pg::Helpers::where_idle)
        return pg::helpers_setting() == pg::Helpers::always;
    const auto now = read_processor_times();
    if (!since_ || !now)
        return true;
    if (const auto idle = core::idle_processors(*since_, *now)) {
        open_ = *idle >= kIdleEnough;
        since_ = now;
    }
    return open_;
}

void HelperGate::helpers_ended() {
    since_ = read_processor_times();
}

} // namespace partbackfill::throttle
