// Fault points: places at which a developer makes a worker stop, fail or die.
//
// partbackfill.fault = 'POINT ACTION' or 'POINT/ORDINAL ACTION', where the ordinal is
// that of a partition, and the action one of
//   stop    waits until the setting says something else
//   fail    raises an error
//   exit    ends the process, as pg_terminate_backend() does
//   crash   ends it as kill -9 does; the server restarts all its processes
// Only superusers may set it; it is of no use to anybody but tests.
#pragma once

#include <chrono>

namespace partbackfill::pg {

// Makes the library's own settings known; when it is loaded, C-style.
void define_settings();

enum class Fault { none, stop, fail, exit, crash };

// What shall happen at that point.
Fault fault_at(const char *point, int ordinal);
// Does it; of `stop`, waits a little and reads the configuration again.
void suffer(Fault fault, const char *point);

// partbackfill.max_workers: how many workers of all jobs in the server may run at once;
// three quarters of max_worker_processes unless it is set, beyond which only the first
// worker of a job comes.
bool max_workers_is_set();
int max_workers();

// partbackfill.crash_pause: how long a partition whose worker died is left alone,
// times its attempts.
std::chrono::milliseconds crash_pause_unit();

} // namespace partbackfill::pg
