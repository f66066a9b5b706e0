// How much of the machine's processors is idle, from the counters of Linux.
#pragma once

#include <optional>
#include <string_view>

namespace partbackfill::core {

// What all processors together have spent since the machine was started, in the ticks of /proc/stat.
struct ProcessorTimes {
    double idle = 0; // also while a disk is waited for
    double total = 0;
    int processors = 0;
};

// Reads the text of /proc/stat; nothing when that is not as Linux writes it.
std::optional<ProcessorTimes> parse_processor_times(std::string_view text);

// How many processors were idle between two readings; nothing when too little time has passed to tell.
std::optional<double> idle_processors(const ProcessorTimes &before, const ProcessorTimes &after);

} // namespace partbackfill::core
