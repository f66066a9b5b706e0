#include "partbackfill/engine/swap.hpp"

#include <fmt/format.h>

#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

namespace {

std::optional<Oid> default_sibling(const Leaf &leaf) {
    const pg::Result found = pg::query(
        "SELECT partdefid::bigint FROM pg_partitioned_table WHERE partrelid = $1 AND partdefid NOT IN (0, $2)",
        {leaf.parent, leaf.oid});
    if (found.empty())
        return std::nullopt;
    return found.rows.front().oid(0);
}

// The parent first: whoever reads or writes through it waits there, once, and
// holds nothing of what follows.
std::vector<Oid> tables_to_lock(const Leaf &leaf, Oid shadow) {
    std::vector<Oid> tables{leaf.parent, leaf.oid};
    if (const auto sibling = default_sibling(leaf))
        tables.push_back(*sibling);
    tables.push_back(shadow);
    return tables;
}

// Both tables have one name and their indexes have one name each, in two
// schemas: nothing has to be renamed. The bounds constraint on the shadow
// implies the partition's, so ATTACH does not scan.
Oid exchange(std::int64_t job, const Leaf &leaf, Oid) {
    const std::string parent = pg::query_row("SELECT $1::regclass::text", {leaf.parent}).text(0);
    const std::string live = leaf.qualified();
    const std::string shadow = pg::quote_qualified(new_schema(job), leaf.name);
    pg::execute(fmt::format("ALTER TABLE {} DETACH PARTITION {}", parent, live));
    pg::execute(fmt::format("ALTER TABLE {} SET SCHEMA {}", live, old_schema(job)));
    pg::execute(fmt::format("ALTER TABLE {} SET SCHEMA {}", shadow, pg::quote_identifier(leaf.schema)));
    pg::execute(fmt::format("ALTER TABLE {} ATTACH PARTITION {} {}", parent, live, leaf.bound));
    pg::execute(fmt::format("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}", live, kBoundsConstraint));
    return leaf.oid;
}

} // namespace

const SwapMethod kAttach{tables_to_lock, exchange};

} // namespace partbackfill::engine
