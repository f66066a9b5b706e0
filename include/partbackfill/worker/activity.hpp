// What a worker is doing, where others can see it: the text that
// pg_stat_activity shows for it, and lines in the server's log.
#pragma once

#include <string>

#include "partbackfill/job/job.hpp"

namespace partbackfill::worker {

// Phases of a running partition, by their names in backfill_progress.
enum class Phase { creating, loading, indexing, analyzing, validating, swapping };

// "backfill job 7 partition 3 public.events_2024_02: loading", with the part of
// the phase as " 2/3". The views read it back (parse_activity).
void show_phase(const job::Partition &partition, Phase phase, int part = 0, int parts = 0);
void show_idle(std::int64_t job);

// One line at level LOG.
void log_line(const std::string &text);
// The same as WARNING, for what an administrator should look at.
void log_warning(const std::string &text);

} // namespace partbackfill::worker
