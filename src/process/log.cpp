#include "partbackfill/pg/server.hpp"

#include <fmt/format.h>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/process/log.hpp"

namespace partbackfill::process {

namespace {

// After the number of the process's job; empty without a label.
std::string label_in_lines;

std::string name_of(std::int64_t job) {
    return fmt::format("backfill job {}{}", job, label_in_lines);
}

} // namespace

void show_label(const std::optional<std::string> &label) {
    label_in_lines = label ? fmt::format(" ({})", *label) : "";
}

void log_line(std::int64_t job, const std::string &text) {
    const std::string line = fmt::format("{} {}", name_of(job), text);
    pg::guard([&] {
        ereport(LOG, (errmsg_internal("%s", line.c_str()), errhidestmt(true), errhidecontext(true)));
    });
}

void log_warning(const std::string &text) {
    pg::guard([&] {
        ereport(WARNING, (errmsg_internal("%s", text.c_str()), errhidestmt(true), errhidecontext(true)));
    });
}

void log_warning(std::int64_t job, const std::string &text) {
    log_warning(fmt::format("{} {}", name_of(job), text));
}

void log_error(std::int64_t job, const pg::ErrorFields &error) {
    log_warning(fmt::format("{}: {}", name_of(job), error.message));
}

} // namespace partbackfill::process
