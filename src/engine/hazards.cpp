#include "partbackfill/pg/server.hpp"

#include "partbackfill/engine/hazards.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/engine/swap.hpp"
#include "partbackfill/pg/compat.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

std::vector<Oid> selected_oids(const Target &target) {
    std::vector<Oid> oids;
    for (const Leaf &leaf : target.leaves)
        if (leaf.selected)
            oids.push_back(leaf.oid);
    return oids;
}

namespace {

// One row for each thing that DETACH, SET SCHEMA, LIKE and ATTACH would not
// bring along, for the leaves in $1.
constexpr const char *kAttachRefusals = R"SQL(
    WITH leaf AS (
        SELECT c.*, i.inhparent
        FROM pg_class AS c
        LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid -- a shadow has no parent
        WHERE c.oid = ANY ($1)
    )
    SELECT leaf.oid::bigint, reason.text
    FROM leaf
    CROSS JOIN LATERAL (
        SELECT 'is a foreign table' WHERE leaf.relkind = 'f'
        UNION ALL
        SELECT 'is a temporary table' WHERE leaf.relpersistence = 't'
        UNION ALL
        SELECT 'has foreign key ' || quote_ident(k.conname)
        FROM pg_constraint AS k WHERE k.contype = 'f' AND k.conrelid = leaf.oid
        UNION ALL
        -- Each partition has a constraint of its own, with a name that nobody gave.
        SELECT 'is referenced by foreign key ' || quote_ident(COALESCE(up.conname, k.conname)) || ' of ' || k.conrelid::regclass::text
        FROM pg_constraint AS k LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
        WHERE k.contype = 'f' AND k.confrelid = leaf.oid
        UNION ALL
        SELECT 'has index ' || quote_ident(ic.relname) || ', which is not valid (drop it or rebuild it with REINDEX)'
        FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = leaf.oid AND NOT i.indisvalid
        UNION ALL
        SELECT 'has constraint ' || quote_ident(k.conname) || ', which is not valid'
        FROM pg_constraint AS k
        WHERE k.conrelid = leaf.oid AND NOT k.convalidated AND k.contype = 'c' AND k.coninhcount > 0
          AND pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
        UNION ALL
        SELECT 'has a constraint named ' || quote_ident(k.conname)
        FROM pg_constraint AS k WHERE k.conrelid = leaf.oid AND k.conname = $2
        UNION ALL
        SELECT 'is in publication ' || quote_ident(pub.pubname) || ', whose owner you are not'
        FROM pg_publication_rel AS r JOIN pg_publication AS pub ON pub.oid = r.prpubid
        WHERE r.prrelid = leaf.oid AND NOT pg_has_role(pub.pubowner, 'USAGE')
        UNION ALL
        SELECT 'is fed by subscription ' || quote_ident(s.subname)
        FROM pg_subscription_rel AS r JOIN pg_subscription AS s ON s.oid = r.srsubid
        WHERE r.srrelid = leaf.oid
        UNION ALL
        SELECT 'has rule ' || quote_ident(r.rulename) FROM pg_rewrite AS r WHERE r.ev_class = leaf.oid
        UNION ALL
        SELECT 'has a security label'
        WHERE EXISTS (SELECT FROM pg_seclabel AS l
                      WHERE (l.classoid = 'pg_class'::regclass AND l.objoid = leaf.oid)
                         OR (l.classoid = 'pg_type'::regclass AND l.objoid = leaf.reltype))
        UNION ALL
        SELECT 'has a comment on its row type'
        WHERE EXISTS (SELECT FROM pg_description AS d WHERE d.classoid = 'pg_type'::regclass AND d.objoid = leaf.reltype)
        UNION ALL
        SELECT 'has privileges on its row type'
        FROM pg_type AS t WHERE t.oid = leaf.reltype AND t.typacl IS NOT NULL
        UNION ALL
        SELECT 'has the replica identity of an index that was dropped'
        WHERE leaf.relreplident = 'i'
          AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = leaf.oid AND i.indisreplident)
        UNION ALL
        SELECT 'has statistics object ' || quote_ident(s.stxname) || ', whose owner you are not'
        FROM pg_statistic_ext AS s WHERE s.stxrelid = leaf.oid AND NOT pg_has_role(s.stxowner, 'USAGE')
        UNION ALL
        SELECT 'is of a composite type' WHERE leaf.reloftype <> 0
        UNION ALL
        -- What LIKE makes has a TOAST table only when some column can be long.
        SELECT 'has options of a TOAST table that none of its columns needs any more'
        FROM pg_class AS toast
        WHERE toast.oid = leaf.reltoastrelid AND toast.reloptions IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_attribute AS a
                          WHERE a.attrelid = leaf.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1
                            AND a.attstorage <> 'p')
        UNION ALL
        SELECT 'belongs to an extension'
        WHERE EXISTS (SELECT FROM pg_depend AS d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = leaf.oid AND d.deptype IN ('e', 'x'))
        UNION ALL
        SELECT 'has identity column ' || quote_ident(a.attname)
        FROM pg_attribute AS a
        LEFT JOIN pg_attribute AS pa ON pa.attrelid = leaf.inhparent AND pa.attname = a.attname
        WHERE a.attrelid = leaf.oid AND a.attidentity <> '' AND NOT a.attisdropped
          AND COALESCE(pa.attidentity, '') = ''
        UNION ALL
        SELECT 'lacks an index for ' || pi.indexrelid::regclass::text || ' of its parent'
        FROM pg_index AS pi
        WHERE pi.indrelid = leaf.inhparent
          AND NOT EXISTS (SELECT FROM pg_inherits AS ii JOIN pg_index AS ci ON ci.indexrelid = ii.inhrelid
                          WHERE ii.inhparent = pi.indexrelid AND ci.indrelid = leaf.oid AND ci.indisvalid)
        UNION ALL
        -- ATTACH would make another one, with a scan of the partition under its lock.
        SELECT 'has constraint ' || quote_ident(k.conname) || ', which is of another kind than ' || quote_ident(up.conname)
            || ' of its parent'
        FROM pg_constraint AS k JOIN pg_constraint AS up ON up.oid = k.conparentid
        WHERE $4 AND k.conrelid = leaf.oid AND k.contype <> up.contype
        UNION ALL
        SELECT 'is beside DEFAULT partition ' || d.oid::regclass::text || ', whose owner you are not'
        FROM pg_partitioned_table AS p JOIN pg_class AS d ON d.oid = p.partdefid
        WHERE p.partrelid = leaf.inhparent AND d.oid <> leaf.oid AND NOT pg_has_role(d.relowner, 'USAGE')
          AND pg_relation_size(d.oid) > $3 * current_setting('block_size')::bigint
        UNION ALL
        SELECT 'has index ' || quote_ident(ic.relname) || ', which depends on an extension'
        FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = leaf.oid
          AND EXISTS (SELECT FROM pg_depend AS d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = ic.oid AND d.deptype = 'x')
        UNION ALL
        SELECT 'has trigger ' || quote_ident(t.tgname) || ', which depends on an extension'
        FROM pg_trigger AS t
        WHERE t.tgrelid = leaf.oid
          AND EXISTS (SELECT FROM pg_depend AS d
                      WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'x')
        UNION ALL
        -- Whatever names the row type, or the table in a query of its own, would
        -- name those of the partition that is moved away.
        SELECT 'has trigger ' || quote_ident(t.tgname) || ', whose condition computes a row of the partition'
        FROM pg_trigger AS t
        WHERE t.tgrelid = leaf.oid AND t.tgparentid = 0
          AND replace(t.tgqual::text, ':vartype ' || leaf.reltype || ' ', '') ~ ('type(id)? ' || leaf.reltype || ' ')
        UNION ALL
        SELECT 'has policy ' || quote_ident(p.polname) || ', which queries the partition itself'
        FROM pg_policy AS p
        WHERE p.polrelid = leaf.oid AND concat(p.polqual::text, p.polwithcheck::text) ~ (':relid ' || leaf.oid || ' ')
        UNION ALL
        SELECT 'has constraint ' || quote_ident(k.conname) || ', which uses whole rows'
        FROM pg_constraint AS k WHERE k.conrelid = leaf.oid AND k.contype = 'c' AND k.conname <> $2 AND k.conbin::text LIKE '%:varattno 0 %'
        UNION ALL
        SELECT 'has index ' || quote_ident(ic.relname) || ', which uses whole rows'
        FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = leaf.oid AND concat(i.indexprs::text, i.indpred::text) LIKE '%:varattno 0 %'
        UNION ALL
        -- Views, functions, sequences, row-type users: whatever else hangs on the
        -- table and is not a part of it, or on its row type.
        SELECT 'is used by ' || pg_describe_object(d.classid, d.objid, d.objsubid)
        FROM pg_depend AS d
        WHERE ((d.refclassid = 'pg_class'::regclass AND d.refobjid = leaf.oid)
               OR (d.refclassid = 'pg_type'::regclass
                   AND d.refobjid IN (leaf.reltype, (SELECT t.typarray FROM pg_type AS t WHERE t.oid = leaf.reltype))))
          AND NOT (d.classid = 'pg_type'::regclass
                   AND d.objid IN (leaf.reltype, (SELECT t.typarray FROM pg_type AS t WHERE t.oid = leaf.reltype)))
          AND (d.refclassid = 'pg_type'::regclass OR NOT (
              EXISTS (SELECT FROM pg_constraint AS k
                      WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
                        AND (k.conrelid = leaf.oid OR k.contype = 'f'))
              OR EXISTS (SELECT FROM pg_trigger AS t
                         WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
                           AND (t.tgrelid = leaf.oid OR t.tgisinternal))
              OR EXISTS (SELECT FROM pg_attrdef AS a
                         WHERE d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid AND a.adrelid = leaf.oid)
              OR EXISTS (SELECT FROM pg_policy AS p
                         WHERE d.classid = 'pg_policy'::regclass AND p.oid = d.objid AND p.polrelid = leaf.oid)
              OR EXISTS (SELECT FROM pg_statistic_ext AS s
                         WHERE d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid AND s.stxrelid = leaf.oid)
              OR EXISTS (SELECT FROM pg_publication_rel AS r
                         WHERE d.classid = 'pg_publication_rel'::regclass AND r.oid = d.objid AND r.prrelid = leaf.oid)
              OR (d.classid = 'pg_class'::regclass
                  AND (d.objid = leaf.oid OR d.objid = leaf.reltoastrelid
                       OR d.objid IN (SELECT i.indexrelid FROM pg_index AS i WHERE i.indrelid = leaf.oid)))
              OR (d.classid = 'pg_rewrite'::regclass
                  AND d.objid IN (SELECT r.oid FROM pg_rewrite AS r WHERE r.ev_class = leaf.oid))))
    ) AS reason(text)
    ORDER BY leaf.oid, reason.text
)SQL";

// The same for an exchange of files, by which everything stays where it is but
// the rows.
constexpr const char *kStorageRefusals = R"SQL(
    SELECT leaf.oid::bigint, reason.text
    FROM pg_class AS leaf
    CROSS JOIN LATERAL (
        SELECT 'is a foreign table' WHERE leaf.relkind = 'f'
        UNION ALL
        SELECT 'is a temporary table' WHERE leaf.relpersistence = 't'
        UNION ALL
        -- Its file would be left with entries of the old rows.
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
        FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.confrelid = leaf.oid AND pg_get_constraintdef(k.oid) LIKE '%, PERIOD %'
          AND pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
        UNION ALL
        SELECT 'has a constraint named ' || quote_ident(k.conname)
        FROM pg_constraint AS k WHERE k.conrelid = leaf.oid AND k.conname = $2
    ) AS reason(text)
    WHERE leaf.oid = ANY ($1) AND $3 >= 0 AND $4 IS NOT NULL
    ORDER BY leaf.oid, reason.text
)SQL";

std::vector<Hazard> refusals(const std::vector<Oid> &leaves, const std::string &method) {
    std::vector<Hazard> hazards;
    const pg::Result result = pg::query(method == kStorageName ? kStorageRefusals : kAttachRefusals,
                                        {leaves, kBoundsConstraint, kSmallPages, pg::attach_minds_kinds()});
    hazards.reserve(result.rows.size());
    for (const pg::Row &row : result.rows)
        hazards.push_back({row.oid(0), row.text(1)});
    return hazards;
}

} // namespace

std::vector<std::string> attach_refusals(Oid table) {
    const std::string ours = fmt::format("has a constraint named {}", kBoundsConstraint);
    std::vector<std::string> reasons;
    for (const Hazard &hazard : refusals(std::vector<Oid>{table}, kAttachName))
        if (hazard.text != ours)
            reasons.push_back(hazard.text);
    return reasons;
}

namespace {

std::string way_out(const std::vector<Oid> &leaves, const std::string &method) {
    return method == kAttachName && refusals(leaves, kStorageName).empty()
               ? "Use swap => 'storage', by which the partition keeps everything but its rows."
               : "What a swap cannot carry over is refused, so that it is not lost; backfill_plan shows "
                 "every reason.";
}

[[noreturn]] void refuse(const Leaf &leaf, const Hazard &reason, const std::string &method,
                         const char *leave_out = "") {
    pg::raise(pg::sqlcode::kFeatureNotSupported, fmt::format("cannot rebuild partition \"{}\"", leaf.name),
              fmt::format("It {}.", reason.text), way_out({leaf.oid}, method) + leave_out);
}

// The first reason of each of them, a line each.
[[noreturn]] void refuse(const Target &target, const std::vector<Hazard> &reasons,
                         const std::string &method) {
    constexpr size_t kMostLines = 10;
    std::vector<Oid> refused;
    std::vector<std::string> lines;
    for (const Leaf &leaf : target.leaves) {
        const auto reason =
            std::find_if(reasons.begin(), reasons.end(), [&](const Hazard &h) { return h.leaf == leaf.oid; });
        if (reason == reasons.end())
            continue;
        refused.push_back(leaf.oid);
        if (refused.size() <= kMostLines)
            lines.push_back(fmt::format("Partition \"{}\" {}.", leaf.name, reason->text));
    }
    if (refused.size() > kMostLines)
        lines.push_back(fmt::format("And {} more.", refused.size() - kMostLines));
    pg::raise(pg::sqlcode::kFeatureNotSupported,
              fmt::format("cannot rebuild {} partitions of \"{}\"", refused.size(), target.name),
              fmt::format("{}", fmt::join(lines, "\n")),
              way_out(refused, method) + " To leave partitions out, name the others in partitions.");
}

} // namespace

std::vector<Hazard> refusals(const Target &target, const std::string &method) {
    return refusals(selected_oids(target), method);
}

void check_refusals(const Target &target, const std::string &method) {
    const auto found = refusals(selected_oids(target), method);
    if (found.empty())
        return;
    const bool is_one = std::all_of(found.begin(), found.end(),
                                    [&](const Hazard &h) { return h.leaf == found.front().leaf; });
    if (!is_one)
        refuse(target, found, method);
    for (const Leaf &leaf : target.leaves)
        if (leaf.oid == found.front().leaf)
            refuse(leaf, found.front(), method,
                   selected_oids(target).size() > 1
                       ? " To leave the partition out, name the others in partitions."
                       : "");
}

void check_can_be_carried(const Leaf &leaf, const std::string &method) {
    const auto found = refusals(std::vector<Oid>{leaf.oid}, method);
    if (!found.empty())
        refuse(leaf, found.front(), method);
}

void check_can_ignore_writes(const std::vector<Oid> &leaves) {
    const pg::Result found = pg::query(R"SQL(
        SELECT c.relname, COALESCE(up.conname, k.conname), k.conrelid::regclass::text
        FROM pg_constraint AS k
        JOIN pg_class AS c ON c.oid = k.confrelid
        LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
        WHERE k.contype = 'f' AND k.confrelid = ANY ($1) AND pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
        ORDER BY c.oid, k.oid
        LIMIT 1
    )SQL",
                                       {leaves});
    if (found.empty())
        return;
    const pg::Row &row = found.rows.front();
    pg::raise(
        pg::sqlcode::kFeatureNotSupported,
        fmt::format("cannot rebuild partition \"{}\" with on_write => 'ignore'", row.text(0)),
        fmt::format(
            "It is referenced by foreign key {} of {}: a row that is added during the build and referred to "
            "would be lost.",
            pg::quote_identifier(row.text(1)), row.text(2)),
        "Use on_write => 'rebuild' or on_write => 'block'.");
}

} // namespace partbackfill::engine
