// The activity of a worker: the text that pg_stat_activity shows for it.
//
// The text is made of parts that change at different times, and the views parse it
// (job::ActivityView):
//   backfill job 7 partition 3 public.events_2024_02: indexing 2/3; 1200 rows; 15 keys behind (2 s);
//   throttled 3.2 s; stalled 1.0 s; waiting on WAL 12 MB/s > 8 MB/s
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "partbackfill/job/job.hpp"

namespace partbackfill::throttle {

// Phases of a running partition, by their names in backfill_progress.
enum class Phase { creating, loading, indexing, analyzing, validating, catching_up, auditing, swapping };

// Shows the phase; in a phase of several parts, also which of them. Clears waiting_on and the keys
// behind; when the partition is another one, or is created anew, the rows and times too.
void show_phase(const job::Partition &partition, Phase phase, int part = 0, int parts_of_phase = 0);
// Adds the number of rows loaded, for the phases to come too.
void show_rows(std::int64_t rows);
// Adds the number of rows that the server's progress view shows of the load in hand, before
// the view loses it.
void show_rows_of_load();
// Adds the number of keys that were written to the live partition and are not caught up with in the
// shadow, for this phase; and how long it will take to do so, if that is known.
void show_keys_behind(std::int64_t keys, std::optional<std::chrono::duration<double>> time_left);

// How long a partition has waited.
struct Waited {
    std::chrono::duration<double> throttled{0};
    std::chrono::duration<double> stalled{0}; // the job's time lost while a throttle condition held
    std::chrono::duration<double> locked{0};  // for a lock of the build; not shown
};
// Shows these times, and what the worker waits for until the text changes again.
void show_waiting(const Waited &waited, const std::string &waiting_on);
// For tests: shows the injection point at which the worker is stopped.
void show_injection_point(const char *point);
// Between partitions: shows the job only, and what the worker waits for.
void show_idle(std::int64_t job, const std::string &waiting_on = "");

} // namespace partbackfill::throttle
