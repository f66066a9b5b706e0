#include "partbackfill/swap/shadow_comparison.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/pg/query.hpp"
#include "partbackfill/shadow/definition.hpp"
#include "partbackfill/swap/attach_refusals.hpp"

namespace partbackfill::swap {

namespace {

// A line for each part of a table's definition that the attach method carries itself; kPlace has what ATTACH
// and the statements after it give a partition. The schema of the table is left out, since it differs until
// the exchange.
constexpr const char *kDefinition = R"SQL(
    SELECT described.text
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
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
        SELECT format('its row type has privileges %s, comment %L, comment %L on its array type', t.typacl,
                      obj_description(t.oid, 'pg_type'), obj_description(t.typarray, 'pg_type'))
        FROM pg_type AS t WHERE t.oid = c.reltype
        UNION ALL
        SELECT format('option %s', o) FROM unnest(c.reloptions) AS o
        UNION ALL
        SELECT format('option toast.%s', o) FROM unnest(toast.reloptions) AS o
        UNION ALL
        SELECT format('comment %L', obj_description(c.oid, 'pg_class')) WHERE obj_description(c.oid, 'pg_class') IS NOT NULL
        UNION ALL
        SELECT format('column %I is %s%s%s, place %s, storage "%s", compression "%s", statistics %s, options %s, privileges %s, comment %L',
                      a.attname, format_type(a.atttypid, a.atttypmod),
                      ' COLLATE ' || NULLIF(a.attcollation, 0)::regcollation::text,
                      CASE WHEN a.attnotnull THEN ' NOT NULL' END, row_number() OVER (ORDER BY a.attnum), a.attstorage, a.attcompression,
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
        -- Constraints of triggers are in the lines of the triggers; foreign keys come later.
        SELECT format('constraint %I %s, comment %L', k.conname, pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'))
        FROM pg_constraint AS k
        WHERE k.conrelid = c.oid AND k.contype NOT IN ('t', 'f') AND k.conname <> $2 AND k.oid <> ALL ($3)
        UNION ALL
        -- CREATE INDEX name ON schema.table USING ...
        SELECT format('%sindex %I%s%s%s, tablespace %s, statistics %s, comment %L', CASE WHEN i.indisunique THEN 'unique ' END, ic.relname,
                      split.rest,
                      CASE WHEN i.indisreplident THEN ', replica identity' END,
                      CASE WHEN i.indisclustered THEN ', CLUSTER mark' END, ic.reltablespace,
                      (SELECT array_agg(NULLIF(a.attstattarget, -1) ORDER BY a.attnum) FROM pg_attribute AS a WHERE a.attrelid = ic.oid),
                      obj_description(ic.oid, 'pg_class'))
        FROM pg_index AS i
        JOIN pg_class AS ic ON ic.oid = i.indexrelid
        CROSS JOIN LATERAL (VALUES (pg_get_indexdef(ic.oid), format(' INDEX %I ON %I.%I', ic.relname, n.nspname, c.relname))) AS d (text, head)
        CROSS JOIN LATERAL (VALUES (substr(d.text, strpos(d.text, d.head) + length(d.head)))) AS split (rest)
        WHERE i.indrelid = c.oid AND i.indisvalid
        UNION ALL
        SELECT format('policy %I, %s, permissive %s, for %s, using %s, check %s, comment %L', p.polname, p.polroles::regrole[],
                      p.polpermissive, p.polcmd, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
                      obj_description(p.oid, 'pg_policy'))
        FROM pg_policy AS p WHERE p.polrelid = c.oid
        UNION ALL
        -- CREATE TRIGGER name BEFORE ... ON schema.table ...
        SELECT format('trigger %I%s%s, constraint %s, state "%s", comment %L, of its constraint %L', t.tgname,
                      left(split.rest, strpos(split.rest, d.place) - 1), substr(split.rest, strpos(split.rest, d.place) + length(d.place)),
                      t.tgconstraint <> 0, t.tgenabled, obj_description(t.oid, 'pg_trigger'), obj_description(t.tgconstraint, 'pg_constraint'))
        FROM pg_trigger AS t
        CROSS JOIN LATERAL (VALUES (pg_get_triggerdef(t.oid), format(' TRIGGER %I', t.tgname), format(' ON %I.%I', n.nspname, c.relname))) AS d (text, head, place)
        CROSS JOIN LATERAL (VALUES (substr(d.text, strpos(d.text, d.head) + length(d.head)))) AS split (rest)
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgparentid = 0
        UNION ALL
        SELECT format('statistics object %I (%s), kinds %s, target %s, owner %I, comment %L', s.stxname,
                      pg_get_statisticsobjdef_columns(s.oid), s.stxkind, NULLIF(s.stxstattarget, -1),
                      pg_get_userbyid(s.stxowner), obj_description(s.oid, 'pg_statistic_ext'))
        FROM pg_statistic_ext AS s WHERE s.stxrelid = c.oid
    ) AS described (text)
    WHERE c.oid = $1
)SQL";

// A line for each foreign key. The operators, too, decide which key of the parent ATTACH takes it for.
constexpr const char *kForeignKeys = R"SQL(
    SELECT format('foreign key %I %s, by index %s, operators %s, triggers "%s", comment %L', k.conname, pg_get_constraintdef(k.oid),
                  k.conindid::regclass, k.conpfeqop,
                  (SELECT string_agg(DISTINCT t.tgenabled::text, '') FROM pg_trigger AS t WHERE t.tgconstraint = k.oid),
                  obj_description(k.oid, 'pg_constraint'))
    FROM pg_constraint AS k
    LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
    WHERE k.conrelid = $1 AND k.contype = 'f' AND up.conrelid IS DISTINCT FROM k.conrelid
)SQL";

// A line for each part of the definition that a partition is given as it takes its place.
constexpr const char *kPlace = R"SQL(
    SELECT described.text
    FROM pg_class AS c
    CROSS JOIN LATERAL (
        SELECT format('its bound is %s', pg_get_expr(c.relpartbound, c.oid))
        UNION ALL
        SELECT format('column %I is an identity', a.attname)
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity <> ''
        UNION ALL
        SELECT format('index %I is a part of %s', ic.relname, i.inhparent::regclass)
        FROM pg_index AS x JOIN pg_class AS ic ON ic.oid = x.indexrelid JOIN pg_inherits AS i ON i.inhrelid = x.indexrelid
        WHERE x.indrelid = c.oid
        UNION ALL
        SELECT format('constraint %I is a part of %I', k.conname, up.conname)
        FROM pg_constraint AS k JOIN pg_constraint AS up ON up.oid = k.conparentid
        WHERE k.conrelid = c.oid AND k.contype = 'f' AND up.conrelid <> k.conrelid
        UNION ALL
        SELECT format('trigger %s, state "%s", comment %L, of its constraint %L', pg_get_triggerdef(t.oid), t.tgenabled,
                      obj_description(t.oid, 'pg_trigger'), obj_description(t.tgconstraint, 'pg_constraint'))
        FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgparentid <> 0
        UNION ALL
        SELECT format('statistics object %I is in schema %I', s.stxname, n.nspname)
        FROM pg_statistic_ext AS s JOIN pg_namespace AS n ON n.oid = s.stxnamespace WHERE s.stxrelid = c.oid
        UNION ALL
        SELECT format('publication %I, columns %s, rows %s', pub.pubname, r.prattrs, pg_get_expr(r.prqual, r.prrelid))
        FROM pg_publication_rel AS r JOIN pg_publication AS pub ON pub.oid = r.prpubid WHERE r.prrelid = c.oid
    ) AS described (text)
    WHERE c.oid = $1
)SQL";

// A line for each condition that the rows of the storage method's shadow were checked for, and for each
// property that goes with the files.
constexpr const char *kContents = R"SQL(
    SELECT described.text
    FROM pg_class AS c
    CROSS JOIN LATERAL (
        SELECT format('its access method is %I', (SELECT am.amname FROM pg_am AS am WHERE am.oid = c.relam))
        UNION ALL
        SELECT format('its persistence is "%s"', c.relpersistence)
        UNION ALL
        SELECT format('its tablespace has OID %s', c.reltablespace)
        UNION ALL
        SELECT format('column %I is generated as %s', a.attname, pg_get_expr(d.adbin, d.adrelid))
        FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attgenerated <> ''
        UNION ALL
        SELECT format('column %I is NOT NULL', a.attname)
        FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attnotnull
          AND NOT EXISTS (SELECT FROM pg_constraint AS k
                          WHERE k.conrelid = c.oid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated)
        UNION ALL
        SELECT format('constraint %I CHECK (%s)', k.conname, pg_get_expr(k.conbin, k.conrelid))
        FROM pg_constraint AS k
        WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.convalidated AND k.conname <> $2 AND k.oid <> ALL ($3)
        UNION ALL
        SELECT format('index %I is in the tablespace of OID %s', ic.relname, ic.reltablespace)
        FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = c.oid
    ) AS described (text)
    WHERE c.oid = $1
)SQL";

// The TOAST table that comes with the shadow's files brings its options. When the shadow has no TOAST table,
// the leaf keeps its own.
constexpr const char *kToastOptions = R"SQL(
    SELECT format('TOAST options are %s for the shadow, %s for the partition', st.reloptions, lt.reloptions)
    FROM pg_class AS s
    JOIN pg_class AS st ON st.oid = s.reltoastrelid
    CROSS JOIN pg_class AS l
    LEFT JOIN pg_class AS lt ON lt.oid = l.reltoastrelid
    WHERE l.oid = $1 AND s.oid = $2 AND st.reloptions IS DISTINCT FROM lt.reloptions
)SQL";

constexpr std::size_t kNamed = 3; // differences that an error names

using Lines = std::vector<std::string>;

void add_lines(Lines &lines, const char *sql, const pg::Params &params) {
    const Lines more = pg::query(sql, params).texts();
    lines.insert(lines.end(), more.begin(), more.end());
}

Lines lines_of(const char *sql, Oid table, const std::vector<Oid> &proofs) {
    Lines lines;
    add_lines(lines, sql, {table, shadow::kBoundsConstraint, proofs});
    return lines;
}

Lines only_of(const char *whose, const Lines &lines, const Lines &others) {
    Lines found;
    for (const std::string &line : lines)
        if (std::find(others.begin(), others.end(), line) == others.end())
            found.push_back(fmt::format("only of the {}: {}", whose, line));
    return found;
}

Lines differences(const Lines &live, const Lines &shadow) {
    Lines found = only_of("partition", live, shadow);
    const Lines more = only_of("shadow", shadow, live);
    found.insert(found.end(), more.begin(), more.end());
    return found;
}

// Adds what the attach method would refuse of the table, but for the bounds constraint of a shadow.
void add_refusals(Lines &found, Oid table) {
    const std::string ours = fmt::format("has a constraint named {}", shadow::kBoundsConstraint);
    for (const Hazard &hazard : attach_refusals({table}))
        if (hazard.text != ours)
            found.push_back(fmt::format("the shadow {}", hazard.text));
}

void check_none(const catalog::Leaf &leaf, Lines found) {
    if (found.empty())
        return;
    const std::size_t more = found.size() - std::min(found.size(), kNamed);
    found.resize(found.size() - more);
    pg::raise(
        pg::sqlcode::kObjectNotInPrerequisiteState,
        fmt::format("the table that was built for partition \"{}\" is not defined like it", leaf.name),
        fmt::format("{}{}.", fmt::join(found, "; "), more == 0 ? "" : fmt::format("; and {} more", more)),
        "An event trigger or an extension may change each new table; make it leave schemas of the name "
        "backfill_*, "
        "and what comes out of them, alone.");
}

} // namespace

void check_same_as_live(const catalog::Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs,
                        const std::function<bool()> &live_unchanged) {
    Lines found = differences(lines_of(kDefinition, leaf.oid, proofs), lines_of(kDefinition, shadow, proofs));
    add_refusals(found, shadow);
    if (!found.empty() && live_unchanged())
        check_none(leaf, found);
}

void check_same_keys(const catalog::Leaf &leaf, Oid shadow) {
    Lines live;
    Lines mine;
    add_lines(live, kForeignKeys, {leaf.oid});
    if (live.empty())
        return; // the shadow's digest says that none came
    add_lines(mine, kForeignKeys, {shadow});
    check_none(leaf, differences(live, mine));
}

Lines definition_of(Oid partition, const std::vector<Oid> &proofs) {
    Lines lines = lines_of(kDefinition, partition, proofs);
    add_lines(lines, kForeignKeys, {partition});
    add_lines(lines, kPlace, {partition});
    return lines;
}

void check_definition(const catalog::Leaf &leaf, Oid partition, const Lines &before) {
    Lines found = differences(before, definition_of(partition, {}));
    add_refusals(found, partition);
    check_none(leaf, found);
}

void check_contents(const catalog::Leaf &leaf, Oid shadow, const std::vector<Oid> &proofs, bool is_bounded) {
    Lines wanted = lines_of(kContents, leaf.oid, proofs);
    Lines had = lines_of(kContents, shadow, {});
    Lines found = only_of("partition", wanted, had);
    if (is_bounded &&
        pg::query("SELECT FROM pg_constraint WHERE conrelid = $1 AND conname = $2 AND convalidated",
                  {shadow, shadow::kBoundsConstraint})
            .empty())
        found.push_back("the shadow has no CHECK of the partition's bounds");
    add_lines(found, kToastOptions, {leaf.oid, shadow});
    check_none(leaf, found);
}

} // namespace partbackfill::swap
