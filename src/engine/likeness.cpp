#include "partbackfill/engine/likeness.hpp"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/engine/shadow.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

namespace {

// One line for each thing that a table is defined by and the attach method carries itself. What ATTACH or the statements
// after it give a partition is left out: inheritance, identity, clones of the parent's triggers, publications. Names are
// the same in both schemas.
constexpr const char *kDefinition = R"SQL(
    SELECT described.text
    FROM pg_class AS c
    LEFT JOIN pg_class AS toast ON toast.oid = c.reltoastrelid
    JOIN pg_am AS am ON am.oid = c.relam
    CROSS JOIN LATERAL (
        SELECT format('its owner is %I', pg_get_userbyid(c.relowner))
        UNION ALL
        SELECT format('its access method is %I', am.amname)
        UNION ALL
        SELECT format('its tablespace has OID %s', c.reltablespace)
        UNION ALL
        SELECT format('its persistence is "%s"', c.relpersistence)
        UNION ALL
        SELECT 'row security is enabled' WHERE c.relrowsecurity
        UNION ALL
        SELECT 'row security is forced' WHERE c.relforcerowsecurity
        UNION ALL
        SELECT format('its replica identity is "%s"', c.relreplident)
        UNION ALL
        SELECT format('privilege %s', a) FROM unnest(c.relacl) AS a
        UNION ALL
        SELECT 'its privileges are the default' WHERE c.relacl IS NULL
        UNION ALL
        SELECT format('option %s', o) FROM unnest(c.reloptions) AS o
        UNION ALL
        SELECT format('option toast.%s', o) FROM unnest(toast.reloptions) AS o
        UNION ALL
        SELECT format('comment %L', obj_description(c.oid, 'pg_class')) WHERE obj_description(c.oid, 'pg_class') IS NOT NULL
        UNION ALL
        SELECT format('column %I is %s%s%s, storage "%s", compression "%s", statistics %s, options %s, privileges %s, comment %L',
                      a.attname, format_type(a.atttypid, a.atttypmod),
                      ' COLLATE ' || NULLIF(a.attcollation, 0)::regcollation::text,
                      CASE WHEN a.attnotnull THEN ' NOT NULL' END, a.attstorage, a.attcompression,
                      NULLIF(a.attstattarget, -1),
                      -- A server may keep a version of each column there, which is its own.
                      (SELECT array_agg(o) FROM unnest(a.attoptions) AS o WHERE NOT starts_with(o, 'pg_attver=')), a.attacl, col_description(c.oid, a.attnum))
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT format('column %I has %s %s', a.attname, CASE a.attgenerated WHEN '' THEN 'default' ELSE 'expression' END,
                      pg_get_expr(d.adbin, d.adrelid))
        FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND NOT a.attisdropped
        UNION ALL
        SELECT format('constraint %I %s, comment %L', k.conname, pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'))
        FROM pg_constraint AS k
        WHERE k.conrelid = c.oid AND k.contype IN ('c', 'n') AND k.conname <> $2 AND k.oid <> ALL ($3)
        UNION ALL
        SELECT format('index %s%s%s%s, comment %L',
                      -- The definition, but for the table's schema.
                      replace(pg_get_indexdef(i.indexrelid), format(' ON %I.%I ', n.nspname, c.relname), ' '),
                      CASE WHEN NOT i.indisvalid THEN ', not valid' END, CASE WHEN i.indisreplident THEN ', replica identity' END,
                      CASE WHEN i.indisclustered THEN ', CLUSTER mark' END, obj_description(i.indexrelid, 'pg_class'))
        FROM pg_index AS i JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE i.indrelid = c.oid AND i.indisvalid
        UNION ALL
        SELECT format('policy %I, %s, permissive %s, for %s, using %s, check %s', p.polname, p.polroles::regrole[], p.polpermissive,
                      p.polcmd, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM pg_policy AS p WHERE p.polrelid = c.oid
        UNION ALL
        SELECT format('trigger %I of function %s, state "%s", type %s', t.tgname, t.tgfoid::regprocedure, t.tgenabled, t.tgtype)
        FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgparentid = 0
        UNION ALL
        SELECT format('rule %I', r.rulename) FROM pg_rewrite AS r WHERE r.ev_class = c.oid
        UNION ALL
        SELECT format('statistics object %I (%s)', s.stxname, pg_get_statisticsobjdef_columns(s.oid))
        FROM pg_statistic_ext AS s WHERE s.stxrelid = c.oid
    ) AS described (text)
    WHERE c.oid = $1
)SQL";

constexpr std::size_t kNamed = 3; // differences that an error tells of

} // namespace

void check_likeness(const Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs) {
    std::vector<std::string> differences;
    for (const auto &[of, other, whose] : {std::tuple{leaf.oid, shadow, "partition"}, std::tuple{shadow, leaf.oid, "shadow"}}) {
        std::vector<std::string> has;
        for (const pg::Row &row : pg::query(kDefinition, {other, kBoundsConstraint, proofs}).rows)
            has.push_back(row.text(0));
        for (const pg::Row &row : pg::query(kDefinition, {of, kBoundsConstraint, proofs}).rows)
            if (std::find(has.begin(), has.end(), row.text(0)) == has.end())
                differences.push_back(fmt::format("only of the {}: {}", whose, row.text(0)));
    }
    if (differences.empty())
        return;
    const std::size_t more = differences.size() - std::min(differences.size(), kNamed);
    differences.resize(differences.size() - more);
    pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
              fmt::format("the table that was built for partition \"{}\" is not defined like it", leaf.name),
              fmt::format("{}{}.", fmt::join(differences, "; "), more == 0 ? "" : fmt::format("; and {} more", more)),
              "An event trigger or an extension may change each new table; make it leave schemas of the name backfill_* alone, "
              "or use swap => 'storage'.");
}

} // namespace partbackfill::engine
