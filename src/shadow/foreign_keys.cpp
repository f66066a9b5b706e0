#include "partbackfill/shadow/foreign_keys.hpp"

#include <fmt/format.h>

#include "partbackfill/catalog/catalog_drop.hpp"
#include "partbackfill/catalog/partition_tree.hpp"
#include "partbackfill/catalog/referring_keys.hpp"
#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/catalog/topmost_key.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/table_owner.hpp"

namespace partbackfill::shadow {

void check_referenced_keys(const catalog::Leaf &leaf, Oid shadow) {
    // A key with a NULL in it cannot be referred to.
    const pg::Result keys = pg::query(R"SQL(
        SELECT COALESCE(up.conname, k.conname), k.conrelid::regclass::text, columns.list, columns.present
        FROM )SQL" + catalog::referring_keys("$1") +
                                          R"SQL( AS k
        LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid -- has the name that a person gave
        CROSS JOIN LATERAL (
            SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY n.position) AS list,
                   -- IS NOT NULL would ask for every field of a composite value.
                   'pg_catalog.num_nulls(' || string_agg(quote_ident(a.attname), ', ' ORDER BY n.position)
                       || ') OPERATOR(pg_catalog.=) 0' AS present
            FROM unnest(k.confkey) WITH ORDINALITY AS n (attnum, position)
            JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = n.attnum
        ) AS columns
        WHERE pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
        ORDER BY k.oid
    )SQL",
                                      {leaf.oid});
    const std::string rebuilt = catalog::relation_entry(shadow).qualified();
    for (const pg::Row &key : keys.rows) {
        const pg::CallersPath path;
        const pg::AsTableOwner as_owner(leaf.oid); // the planner looks at the tables' indexes
        const pg::Result missing = pg::query(
            fmt::format(
                "SELECT ROW({0})::pg_catalog.text "
                "FROM (SELECT {0} FROM ONLY {1} WHERE {2} EXCEPT SELECT {0} FROM ONLY {3}) AS k LIMIT 1",
                key.text(2), leaf.qualified(), key.text(3), rebuilt),
            {}, pg::Read::active_snapshot);
        if (!missing.empty())
            pg::raise(
                pg::sqlcode::kForeignKeyViolation,
                fmt::format(
                    "the rebuilt rows of partition \"{}\" lack a key that foreign key \"{}\" of table {} may "
                    "refer to",
                    leaf.name, key.text(0), key.text(1)),
                fmt::format("Key ({})={} is in the live partition and not in the rebuilt rows.", key.text(2),
                            missing.rows.front().text(0)),
                "Let the source give a row for every key of the partition.");
    }
}

std::optional<ForeignKeyStep> next_foreign_key_step(const catalog::Leaf &leaf, Oid shadow, Keys keys) {
    // The columns of SET NULL (...) are named rightly by the topmost key alone (18.6): the server copies
    // their numbers to partitions, where other columns may have these.
    const pg::Result step = pg::query(R"SQL(
        SELECT mine.oid IS NULL, k.confrelid::bigint,
               CASE WHEN mine.oid IS NULL
                    THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', $2::regclass, k.conname, top.definition,
                                CASE WHEN top.definition NOT LIKE '% NOT ENFORCED' THEN ' NOT VALID' END)
                    ELSE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', $2::regclass, k.conname) END,
               CASE WHEN mine.oid IS NULL AND $3 AND obj_description(k.oid, 'pg_constraint') IS NOT NULL
                    THEN format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, $2::regclass,
                                obj_description(k.oid, 'pg_constraint')) END
        FROM pg_constraint AS k
        LEFT JOIN pg_constraint AS mine ON mine.conrelid = $2 AND mine.contype = 'f' AND mine.conname = k.conname
        LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
        CROSS JOIN LATERAL )SQL" + catalog::topmost_key("k.oid") +
                                          R"SQL( AS top
        WHERE k.contype = 'f' AND k.conrelid = $1
          AND CASE WHEN k.convalidated THEN mine.convalidated IS NOT TRUE ELSE $3 AND mine.oid IS NULL END
          -- A key to a partitioned table has a row for each of its partitions, too.
          AND up.conrelid IS DISTINCT FROM k.conrelid
        ORDER BY k.oid
        LIMIT 1
    )SQL",
                                      {leaf.oid, shadow, keys == Keys::all});
    if (step.empty())
        return std::nullopt;
    const pg::Row &row = step.rows.front();
    const locks::LockMode mode =
        row.boolean(0) ? locks::LockMode::share_row_exclusive : locks::LockMode::row_share;
    ForeignKeyStep next{{row.text(2)}, {{row.oid(1), mode}}, !row.boolean(0)};
    if (!row.is_null(3))
        next.statements.push_back(row.text(3));
    // Below a partitioned table each partition gets triggers of its own.
    for (const pg::Row &part : pg::query("SELECT t.oid::bigint FROM " + catalog::partition_tree("$1::oid") +
                                             " AS t WHERE t.level > 0 ORDER BY t.level, t.oid",
                                         {row.oid(1)})
                                   .rows)
        next.locks.push_back({part.oid(0), mode});
    return next;
}

void drop_foreign_keys(Oid table) {
    catalog::drop_triggers(pg::query(R"SQL(
        SELECT t.oid::bigint
        FROM pg_constraint AS k
        JOIN pg_trigger AS t ON t.tgconstraint = k.oid
        WHERE k.contype = 'f' AND k.conrelid = $1 AND t.tgrelid <> $1
        ORDER BY t.tgrelid, t.oid
    )SQL",
                                     {table})
                               .oids());
    catalog::drop_constraints(pg::query(R"SQL(
        SELECT k.oid::bigint
        FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.conrelid = $1 AND k.conparentid = 0
    )SQL",
                                        {table})
                                  .oids());
}

void drop_keys_of_partition(const catalog::Leaf &leaf) {
    const pg::Result keys = pg::query(R"SQL(
        SELECT k.oid::bigint, up.conrelid IS NOT NULL AND up.conrelid <> k.conrelid
        FROM pg_constraint AS k LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
        WHERE k.contype = 'f' AND k.conrelid = $1
    )SQL",
                                      {leaf.oid});
    if (keys.empty())
        return;
    std::vector<Oid> inherited;
    for (const pg::Row &row : keys.rows)
        if (row.boolean(1))
            inherited.push_back(row.oid(0));
    const std::vector<Oid> triggers = pg::query(R"SQL(
        SELECT t.oid::bigint FROM pg_trigger AS t WHERE t.tgconstraint = ANY ($1) AND t.tgrelid = $2 AND t.tgparentid <> 0
    )SQL",
                                                {inherited, leaf.oid})
                                          .oids();
    catalog::make_independent(leaf.oid, inherited, triggers);
    drop_foreign_keys(leaf.oid);
}

void mark_parts_valid(Oid shadow) {
    const pg::AsExtensionOwner as_owner;
    pg::execute(R"SQL(
        UPDATE pg_constraint AS part SET convalidated = true
        FROM pg_constraint AS k
        WHERE k.conrelid = $1 AND k.contype = 'f' AND k.convalidated
          AND part.conrelid = $1 AND part.contype = 'f' AND part.conparentid = k.oid AND NOT part.convalidated
    )SQL",
                {shadow});
}

std::vector<AdoptedKey> keys_to_adopt(const catalog::Leaf &leaf, Oid shadow) {
    std::vector<AdoptedKey> keys;
    for (const pg::Row &row : pg::query(R"SQL(
        SELECT mine.oid::bigint, up.oid::bigint
        FROM pg_constraint AS k
        JOIN pg_constraint AS up ON up.oid = k.conparentid AND up.conrelid <> k.conrelid
        JOIN pg_constraint AS mine ON mine.conrelid = $2 AND mine.contype = 'f' AND mine.conname = k.conname
        WHERE k.contype = 'f' AND k.conrelid = $1
        ORDER BY mine.oid
    )SQL",
                                        {leaf.oid, shadow})
                                  .rows)
        keys.push_back({row.oid(0), row.oid(1)});
    return keys;
}

namespace {

std::vector<Oid> oids_of(const std::vector<AdoptedKey> &keys) {
    std::vector<Oid> oids;
    oids.reserve(keys.size());
    for (const AdoptedKey &key : keys)
        oids.push_back(key.key);
    return oids;
}

} // namespace

// A key to a partitioned table has a row for each of its partitions, with triggers there.
void drop_action_triggers(const std::vector<AdoptedKey> &keys) {
    if (keys.empty())
        return;
    catalog::drop_triggers(pg::query(R"SQL(
        SELECT t.oid::bigint
        FROM pg_constraint AS mine
        JOIN pg_constraint AS k ON k.conrelid = mine.conrelid AND k.contype = 'f' AND mine.oid IN (k.oid, k.conparentid)
        JOIN pg_trigger AS t ON t.tgconstraint = k.oid AND t.tgrelid <> k.conrelid
        WHERE mine.oid = ANY ($1)
        ORDER BY t.tgrelid, t.oid
    )SQL",
                                     {oids_of(keys)})
                               .oids());
}

void check_adopted(const catalog::Leaf &leaf, const std::vector<AdoptedKey> &keys) {
    for (const AdoptedKey &key : keys) {
        const pg::Result other = pg::query(
            "SELECT conname FROM pg_constraint WHERE oid = $1 AND conparentid <> $2", {key.key, key.parent});
        if (!other.empty())
            pg::raise(
                pg::sqlcode::kObjectNotInPrerequisiteState,
                fmt::format("foreign key \"{}\" of partition \"{}\" is not a part of the same key as before",
                            other.rows.front().text(0), leaf.name));
    }
}

std::vector<Oid> tables_of_keys(const catalog::Leaf &leaf) {
    return pg::query(R"SQL(
        SELECT t.oid::bigint
        FROM (SELECT DISTINCT k.confrelid
              FROM pg_constraint AS k
              LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
              WHERE k.contype = 'f' AND k.conrelid = $1 AND up.conrelid IS DISTINCT FROM k.conrelid) AS k
        CROSS JOIN LATERAL )SQL" +
                         catalog::partition_tree("k.confrelid") +
                         R"SQL( AS t
        ORDER BY k.confrelid, t.level, t.oid
    )SQL",
                     {leaf.oid})
        .oids();
}

std::vector<Oid> tables_referred_to(Oid shadow) {
    return pg::query(R"SQL(
        SELECT DISTINCT t.tgrelid::bigint
        FROM pg_constraint AS k
        JOIN pg_trigger AS t ON t.tgconstraint = k.oid
        WHERE k.contype = 'f' AND k.conrelid = $1 AND t.tgrelid <> $1
        ORDER BY 1
    )SQL",
                     {shadow})
        .oids();
}

} // namespace partbackfill::shadow
