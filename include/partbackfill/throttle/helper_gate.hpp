// Whether a build is helped by other processes: one that reads ahead, some that build indexes.
#pragma once

#include <optional>

#include "partbackfill/core/processor_times.hpp"

namespace partbackfill::throttle {

// Helpers cost more processor time than they take over: work is handed from one process to another.
// Where no processor is idle they make a build slower. What is measured is the time between builds and
// without helpers, so that a worker's own helpers do not count as others.
class HelperGate {
public:
    HelperGate();
    // What partbackfill.helpers says; when that is auto, whether helpers would find an idle processor, by the
    // time since the gate was made or helpers_ended(). As before when that is too short to tell, and true
    // where the machine does not tell.
    bool is_open();
    void helpers_ended();

private:
    std::optional<core::ProcessorTimes> since_;
    bool open_ = true;
};

} // namespace partbackfill::throttle
