#include "partbackfill/pg/server.hpp"

#include <fmt/format.h>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/worker/log.hpp"

namespace partbackfill::worker {

void log_line(std::int64_t job, const std::string &text) {
    const std::string line = fmt::format("backfill job {} {}", job, text);
    pg::guard([&] {
        ereport(LOG, (errmsg_internal("%s", line.c_str()), errhidestmt(true), errhidecontext(true)));
    });
}

void log_warning(const std::string &text) {
    pg::guard([&] {
        ereport(WARNING, (errmsg_internal("%s", text.c_str()), errhidestmt(true), errhidecontext(true)));
    });
}

void log_error(std::int64_t job, const pg::ErrorFields &error) {
    log_warning(fmt::format("backfill job {}: {}", job, error.message));
}

} // namespace partbackfill::worker
