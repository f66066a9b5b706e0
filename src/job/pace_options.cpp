#include "partbackfill/job/pace_options.hpp"

#include <fmt/format.h>

#include "partbackfill/core/quantity.hpp"
#include "partbackfill/engine/plan.hpp"
#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::job {

namespace {

constexpr const char *kUnits = "valid units are \"B\", \"kB\", \"MB\", \"GB\" and \"TB\".";

[[noreturn]] void raise_invalid(const char *name, const std::string &text, const std::string &hint) {
    pg::raise(pg::sqlcode::kInvalidParameter, fmt::format("invalid value for {}: \"{}\"", name, text), "",
              hint);
}

} // namespace

std::optional<std::string> checked_wal_rate(const std::optional<std::string> &text) {
    if (!text || text->empty())
        return std::nullopt;
    const auto bytes = core::parse_bytes(*text);
    if (!bytes)
        raise_invalid("max_wal_rate", *text, fmt::format("Give a size such as \"16MB\"; {}", kUnits));
    return *bytes > 0 ? text : std::nullopt;
}

std::optional<std::string> checked_free_disk(const std::optional<std::string> &text) {
    if (!text || text->empty())
        return std::nullopt;
    const auto room = core::parse_room(*text);
    if (!room)
        raise_invalid("min_free_disk", *text,
                      fmt::format("Give a size such as \"20GB\" or a percentage such as \"5%\"; {}", kUnits));
    return room->wanted() ? text : std::nullopt;
}

std::optional<std::string> checked_replica_lag(const std::optional<std::string> &interval) {
    if (!interval || !pg::query_row("SELECT $1::interval <> '0'", {*interval}).boolean(0))
        return std::nullopt;
    return interval;
}

std::optional<std::string> checked_throttle_query(const std::optional<std::string> &text) {
    if (!text || text->empty())
        return std::nullopt;
    const std::string query = engine::single_select(*text, "throttle_query");
    const engine::ParsedQuery parsed = engine::parse_query(query, std::nullopt);
    engine::parse_query("SELECT * FROM (" + query + "\n) AS probe",
                        std::nullopt); // a WITH that writes is refused there
    if (!parsed.temporary.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("throttle_query depends on temporary {}", parsed.temporary),
                  "The job's workers cannot see the temporary objects of this session.");
    if (parsed.locks_rows)
        pg::raise(pg::sqlcode::kInvalidParameter, "throttle_query must be a query that only reads",
                  "The throttle_query locks rows with FOR UPDATE or FOR SHARE.");
    const bool usable =
        parsed.columns.size() == 1 &&
        pg::query_row("SELECT typcategory::pg_catalog.text OPERATOR(pg_catalog.=) ANY (ARRAY['B', 'N']) FROM "
                      "pg_catalog.pg_type WHERE oid OPERATOR(pg_catalog.=) $1",
                      {parsed.columns[0].type})
            .boolean(0);
    if (!usable)
        pg::raise(pg::sqlcode::kDatatypeMismatch, "throttle_query must give one column, boolean or numeric",
                  "The job waits while it is true or a number above 0.");
    return query;
}

int checked_workers(int workers) {
    if (workers < 1)
        pg::raise(pg::sqlcode::kInvalidParameter, "workers must be at least 1");
    return workers;
}

double checked_nice_ratio(double ratio) {
    constexpr double kMost = 1000;
    if (!(ratio >= 0 && ratio <= kMost))
        pg::raise(pg::sqlcode::kInvalidParameter,
                  fmt::format("nice_ratio must be between 0 and {:g}", kMost));
    return ratio;
}

} // namespace partbackfill::job
