#include "partbackfill/catalog/foreign_tables.hpp"
#include "partbackfill/catalog/referring_keys.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/shadow/definition.hpp"
#include "partbackfill/swap/storage_refusals.hpp"

namespace partbackfill::swap {

namespace {

// A row for each reason for which the files of a leaf ($1) cannot be exchanged; all but the rows
// stays where it is. $2 is the name of the bounds constraint.
const std::string &refusals() {
    static const std::string sql = R"SQL(
    SELECT leaf.oid::bigint, reason.text
    FROM pg_class AS leaf
    CROSS JOIN LATERAL ()SQL" + catalog::foreign_table_reason("leaf.oid") +
                                   R"SQL(
        UNION ALL
        SELECT 'is a temporary table' WHERE leaf.relpersistence = 't'
        UNION ALL
        -- The file of the index would be left with entries of the old rows.
        SELECT 'has index ' || quote_ident(ic.relname) || ', which is not valid (drop it or rebuild it with REINDEX)'
        FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = leaf.oid AND NOT i.indisvalid
        UNION ALL
        SELECT 'has index ' || quote_ident(ic.relname) || ', which uses whole rows'
        FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = leaf.oid AND concat(i.indexprs::text, i.indpred::text) LIKE '%:varattno 0 %'
        UNION ALL
        -- The new rows would be checked against the old ones.
        SELECT 'has foreign key ' || quote_ident(k.conname) || ' to its own table'
        FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.conrelid = leaf.oid AND pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
          AND (k.confrelid = leaf.oid OR k.confrelid IN (SELECT a.relid FROM pg_partition_ancestors(leaf.oid) AS a))
        UNION ALL
        SELECT 'has foreign key ' || quote_ident(k.conname) || ' to table ' || k.confrelid::regclass::text
            || ', which you may not reference'
        FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.conrelid = leaf.oid AND k.convalidated
          AND NOT has_table_privilege(k.confrelid, 'REFERENCES')
        UNION ALL
        -- VALIDATE asks only whether the periods overlap (18.6).
        SELECT 'has foreign key ' || quote_ident(k.conname) || ' with PERIOD'
        FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.conrelid = leaf.oid AND k.convalidated AND pg_get_constraintdef(k.oid) LIKE '%, PERIOD %'
        UNION ALL
        SELECT 'is referenced by foreign key ' || quote_ident(k.conname) || ' with PERIOD'
        FROM )SQL" + catalog::referring_keys("leaf.oid") +
                                   R"SQL( AS k
        WHERE pg_get_constraintdef(k.oid) LIKE '%, PERIOD %'
          AND pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
        UNION ALL
        SELECT 'has a constraint named ' || quote_ident(k.conname)
        FROM pg_constraint AS k WHERE k.conrelid = leaf.oid AND k.conname = $2
    ) AS reason(text)
    WHERE leaf.oid = ANY ($1)
    ORDER BY leaf.oid, reason.text
)SQL";
    return sql;
}

} // namespace

std::vector<Hazard> storage_refusals(const std::vector<Oid> &leaves) {
    return find_hazards(refusals(), {leaves, shadow::kBoundsConstraint});
}

} // namespace partbackfill::swap
