#include "partbackfill/job/control_table.hpp"

#include <optional>

#include <fmt/format.h>

#include "partbackfill/pg/settings_scope.hpp"

namespace partbackfill::job {

pg::Result ControlTable::run(const std::string &sql, const pg::Params &params, pg::Read read) const {
    // A kept plan stays while the tables grow: one that was made when they were small must not read
    // the whole of them.
    std::optional<pg::SettingsScope> scope;
    if (pg::KeepPlans::kept()) {
        scope.emplace();
        scope->set("enable_seqscan", "off");
    }
    return pg::query(fmt::format(fmt::runtime(sql), fmt::arg("s", schema())), params, read);
}

// Costs a scan of an index each time that rows are to be written. Locks rows of pg_class only where
// the mark is missing.
void UndecodedMark::restore() const {
    run(R"SQL(
        UPDATE pg_class AS c SET relrewrite = c.oid
        FROM pg_extension AS e
        WHERE e.extname = 'partbackfill' AND c.relnamespace = e.extnamespace
          AND c.relname IN ('backfill_job', 'backfill_control', 'backfill_write') AND c.relrewrite <> c.oid
    )SQL");
}

} // namespace partbackfill::job
