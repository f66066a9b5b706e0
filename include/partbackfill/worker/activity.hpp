// What a worker is doing, where others can see it: the text that
// pg_stat_activity shows for it, and lines in the server's log.
#pragma once

#include <chrono>
#include <string>

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

// Phases of a running partition, by their names in backfill_progress.
enum class Phase { creating, loading, indexing, analyzing, validating, swapping };

// "backfill job 7 partition 3 public.events_2024_02: loading", with the part of
// the phase as " 2/3". The views read it back (ControlTables::live).
void show_phase(const job::Partition &partition, Phase phase, int part = 0, int parts = 0);
// Adds to that line, for the phases to come too, what has been loaded: "; 1200 rows".
void show_rows(std::int64_t rows);
// The same for what the load in hand reports of its progress, before that is wiped out.
void show_rows();
// The same for how long it has been made to wait: "; throttled 3.2 s; held 1.0 s".
// Until it is called again also on what it waits now: "; waiting on WAL 12 MB/s > 8 MB/s".
struct Waited {
    std::chrono::duration<double> throttled{0};
    std::chrono::duration<double> held{0};   // of the job's time, what was lost while nothing could be done
    std::chrono::duration<double> locked{0}; // for a lock of the build's; not shown
};
void show_waiting(const Waited &waited, const std::string &waiting_on);
// For tests: "; waiting on fault point swap".
void show_fault(const char *point);
// Between partitions; may be waiting, as above.
void show_idle(std::int64_t job, const std::string &waiting_on = "");

// One line at level LOG.
void log_line(const std::string &text);
// The same as WARNING, for what an administrator should look at.
void log_warning(const std::string &text);

} // namespace partbackfill::worker
