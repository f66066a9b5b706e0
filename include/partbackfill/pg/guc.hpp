// The library's own settings, partbackfill.*.
#pragma once

#include <chrono>

namespace partbackfill::pg {

// Makes the settings known to the server, as the library is loaded. C-style.
void define_settings();

// partbackfill.injection_point, as it is set now (worker/injection_points.hpp); never nullptr.
const char *injection_point_setting();

// partbackfill.max_workers: how many workers of all jobs in the server may run at once;
// three quarters of max_worker_processes unless it is set, beyond which only the first
// worker of a job comes.
bool max_workers_is_set();
int max_workers();

// partbackfill.helpers: whether parallel workers read ahead for a build, and build its indexes side by
// side (auto, on, off).
enum class Helpers { where_idle, always, never };
Helpers helpers_setting();

// partbackfill.crash_pause: how long a partition whose worker died is left alone,
// times its attempts.
std::chrono::milliseconds crash_pause_unit();

} // namespace partbackfill::pg
