#include "partbackfill/engine/row_triggers.hpp"

#include <fmt/format.h>

#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

std::vector<Hazard> row_triggers(const std::vector<Oid> &leaves) {
    std::vector<Hazard> found;
    // Bits of tgtype: 1 for each row, 2 BEFORE, 4 INSERT.
    for (const pg::Row &row : pg::query(R"SQL(
        SELECT t.tgrelid::bigint, t.tgname
        FROM pg_trigger AS t
        WHERE t.tgrelid = ANY ($1) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 7 = 7
        ORDER BY t.tgrelid, t.tgname
    )SQL",
                                        {leaves})
                                  .rows)
        found.push_back({row.oid(0), row.text(1)});
    return found;
}

void check_row_triggers(const std::vector<Oid> &leaves) {
    const auto found = row_triggers(leaves);
    if (found.empty())
        return;
    pg::raise(pg::sqlcode::kFeatureNotSupported,
              fmt::format(
                  "trigger \"{}\" of partition \"{}\" would not fire for the new rows", found.front().text,
                  pg::query_row("SELECT relname FROM pg_class WHERE oid = $1", {found.front().leaf}).text(0)),
              "It may change rows before they are inserted; a backfill loads them as the source gives them.",
              "Let the source compute what the trigger would, and use skip_triggers => true.");
}

} // namespace partbackfill::engine
