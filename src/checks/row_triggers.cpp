#include "partbackfill/checks/row_triggers.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::checks {

std::vector<swap::Hazard> row_triggers(const std::vector<Oid> &leaves) {
    // Bits of tgtype: 1 for each row, 2 BEFORE, 4 INSERT.
    return swap::find_hazards(R"SQL(
        SELECT t.tgrelid::bigint, t.tgname
        FROM pg_trigger AS t
        WHERE t.tgrelid = ANY ($1) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 7 = 7
        ORDER BY t.tgrelid, t.tgname
    )SQL",
                              {leaves});
}

void check_row_triggers(const std::vector<Oid> &leaves) {
    const auto found = row_triggers(leaves);
    if (found.empty())
        return;
    pg::raise(pg::sqlcode::kFeatureNotSupported,
              fmt::format("trigger \"{}\" of partition \"{}\" would not fire for the new rows",
                          found.front().text, catalog::relation_entry(found.front().leaf).name),
              "It may change rows before they are inserted; a backfill loads them as the source gives them.",
              "Let the source compute what the trigger would, and use skip_triggers => true.");
}

} // namespace partbackfill::checks
