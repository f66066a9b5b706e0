// Lines of the workers in the server's log.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::process {

// Lines have the label of the process's job from then on: "backfill job 7 (LABEL) TEXT".
void show_label(const std::optional<std::string> &label);
// "backfill job 7 TEXT" at level LOG.
void log_line(std::int64_t job, const std::string &text);
// A WARNING with that text, for what an administrator should look at.
void log_warning(const std::string &text);
// "backfill job 7 TEXT" as a WARNING.
void log_warning(std::int64_t job, const std::string &text);
// "backfill job 7: MESSAGE" as a WARNING, for an error that fails no attempt.
void log_error(std::int64_t job, const pg::ErrorFields &error);

} // namespace partbackfill::process
