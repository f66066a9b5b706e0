#include "partbackfill/shadow/carry.hpp"

#include "partbackfill/pg/query.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/triggers.hpp"

namespace partbackfill::shadow {

namespace {

// $1 the live partition, $2 the shadow's name, $3 the job's schema for it.
pg::Params shadow_params(const catalog::Leaf &leaf, const std::string &schema) {
    return {leaf.oid, pg::quote_qualified(schema, leaf.name), schema};
}

pg::Params shadow_params(std::int64_t job, const catalog::Leaf &leaf) {
    return shadow_params(leaf, new_schema(job));
}

// Statements that set the statistics targets and options of columns.
constexpr const char *kStatisticsSettings = R"SQL(
    SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', $2, a.attname, a.attstattarget)
    FROM pg_attribute AS a
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
    UNION ALL
    SELECT format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', $2, a.attname, options.list)
    FROM pg_attribute AS a
    CROSS JOIN LATERAL (
        SELECT string_agg(quote_ident(split_part(o, '=', 1)) || '=' || quote_literal(substr(o, strpos(o, '=') + 1)),
                          ', ') AS list
        FROM unnest(a.attoptions) AS o
    ) AS options
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND options.list IS NOT NULL
    UNION ALL
    SELECT format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', $3, ic.relname, ia.attnum, ia.attstattarget)
    FROM pg_index AS i
    JOIN pg_class AS ic ON ic.oid = i.indexrelid
    JOIN pg_attribute AS ia ON ia.attrelid = i.indexrelid
    WHERE i.indrelid = $1 AND i.indisvalid AND ia.attstattarget >= 0
)SQL";

constexpr const char *kStatisticsObjects = R"SQL(
    SELECT command.text
    FROM pg_statistic_ext AS s
    CROSS JOIN LATERAL (
        SELECT string_agg(kind.name, ', ') AS list
        FROM (VALUES ('d', 'ndistinct'), ('f', 'dependencies'), ('m', 'mcv')) AS kind (letter, name)
        WHERE kind.letter = ANY (s.stxkind::text[])
    ) AS kinds
    CROSS JOIN LATERAL (VALUES
        -- One expression alone has statistics of that expression, and takes no kinds.
        (1, format('CREATE STATISTICS %I.%I%s ON %s FROM %s', $3, s.stxname,
                   CASE WHEN kinds.list IS NULL THEN '' ELSE ' (' || kinds.list || ')' END,
                   pg_get_statisticsobjdef_columns(s.oid), $2)),
        (2, CASE WHEN s.stxstattarget >= 0
                 THEN format('ALTER STATISTICS %I.%I SET STATISTICS %s', $3, s.stxname, s.stxstattarget) END)
    ) AS command (step, text)
    WHERE s.stxrelid = $1 AND command.text IS NOT NULL
    ORDER BY s.oid, command.step
)SQL";

constexpr const char *kStatisticsOwners = R"SQL(
    SELECT command.text
    FROM pg_statistic_ext AS s
    CROSS JOIN LATERAL (VALUES
        (1, format('COMMENT ON STATISTICS %I.%I IS %L', $3, s.stxname, obj_description(s.oid, 'pg_statistic_ext'))),
        (2, format('ALTER STATISTICS %I.%I OWNER TO %I', $3, s.stxname, pg_get_userbyid(s.stxowner)))
    ) AS command (step, text)
    WHERE s.stxrelid = $1 AND $2 <> '' AND (command.step <> 1 OR obj_description(s.oid, 'pg_statistic_ext') IS NOT NULL)
    ORDER BY s.oid, command.step
)SQL";

// A constraint that is not valid would keep rows of the load out; it is added as it was, for new
// rows only. Row security would concern the load, too.
constexpr const char *kAfterLoad = R"SQL(
    SELECT statement.text
    FROM (
        SELECT 2 AS step, k.oid, format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2, k.conname, pg_get_constraintdef(k.oid)) AS text
        FROM pg_constraint AS k
        WHERE k.conrelid = $1 AND k.contype IN ('c', 'n') AND NOT k.convalidated AND k.oid <> ALL ($4)
        UNION ALL
        SELECT 3, k.oid, format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, $2, obj_description(k.oid, 'pg_constraint'))
        FROM pg_constraint AS k
        WHERE k.conrelid = $1 AND k.contype IN ('c', 'n') AND NOT k.convalidated
          AND obj_description(k.oid, 'pg_constraint') IS NOT NULL
        UNION ALL
        SELECT 4, p.oid, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, $2,
                                CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                                CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                              WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                                (SELECT string_agg(CASE r.oid WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.oid)) END, ', ')
                                 FROM unnest(p.polroles) AS r (oid)),
                                ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                                ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
        FROM pg_policy AS p WHERE p.polrelid = $1
        UNION ALL
        SELECT 5, p.oid, format('COMMENT ON POLICY %I ON %s IS %L', p.polname, $2, obj_description(p.oid, 'pg_policy'))
        FROM pg_policy AS p WHERE p.polrelid = $1 AND obj_description(p.oid, 'pg_policy') IS NOT NULL
        UNION ALL
        SELECT 6, c.oid, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', $2)
        FROM pg_class AS c WHERE c.oid = $1 AND c.relrowsecurity
        UNION ALL
        SELECT 7, c.oid, format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', $2)
        FROM pg_class AS c WHERE c.oid = $1 AND c.relforcerowsecurity
    ) AS statement
    WHERE statement.text IS NOT NULL AND $3 <> ''
    ORDER BY statement.step, statement.oid
)SQL";

} // namespace

void carry_statistics(const catalog::Leaf &leaf, const std::string &schema) {
    pg::execute_each(kStatisticsSettings, shadow_params(leaf, schema));
    pg::execute_each(kStatisticsObjects, shadow_params(leaf, schema));
}

void carry_statistics_owners(std::int64_t job, const catalog::Leaf &leaf) {
    pg::execute_each(kStatisticsOwners, shadow_params(job, leaf));
}

void leave_out_invalid_constraints(std::int64_t job, const catalog::Leaf &leaf,
                                   const std::vector<Oid> &proofs) {
    pg::Params params = shadow_params(job, leaf);
    params.emplace_back(proofs);
    pg::execute_each(R"SQL(
        SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', $2, k.conname)
        FROM pg_constraint AS k WHERE k.conrelid = $1 AND k.contype IN ('c', 'n') AND NOT k.convalidated AND $3 <> ''
          AND k.oid <> ALL ($4)
    )SQL",
                     params);
}

void carry_after_load(std::int64_t job, const catalog::Leaf &leaf, Oid shadow,
                      const std::vector<Oid> &proofs) {
    pg::Params params = shadow_params(job, leaf);
    params.emplace_back(proofs);
    pg::execute_each(kAfterLoad, params);
    copy_triggers(leaf.oid, shadow);
}

// The old partition keeps its objects in backfill_<job>_old; statistics objects do not follow the
// schema of a table by themselves. Triggers that the server clones from the parent are new: they
// are enabled or disabled as the parent's, and have no comment.
SwapExtras swap_extras(std::int64_t job, const catalog::Leaf &leaf, const std::string &from,
                       const std::string &aside) {
    SwapExtras extras;
    extras.before_move = pg::query(R"SQL(
        SELECT command.text
        FROM pg_statistic_ext AS s
        JOIN pg_namespace AS n ON n.oid = s.stxnamespace
        CROSS JOIN LATERAL (VALUES
            (1, format('ALTER STATISTICS %I.%I SET SCHEMA %I', n.nspname, s.stxname, $3)),
            (2, format('ALTER STATISTICS %I.%I SET SCHEMA %I', $4, s.stxname, n.nspname))
        ) AS command (step, text)
        WHERE s.stxrelid = $1 AND $2 <> ''
        ORDER BY s.oid, command.step
    )SQL",
                                   {leaf.oid, leaf.qualified(), aside, from})
                             .texts();
    if (aside != old_schema(job))
        extras.to_old = pg::query("SELECT format('ALTER STATISTICS %I.%I SET SCHEMA %I', $2, stxname, $3)"
                                  " FROM pg_statistic_ext WHERE stxrelid = $1 ORDER BY oid",
                                  {leaf.oid, aside, old_schema(job)})
                            .texts();
    extras.after_attach = pg::query(R"SQL(
        SELECT format('ALTER TABLE %s %s TRIGGER %I', $2,
                      CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS'
                                       ELSE 'ENABLE' END, t.tgname)
        FROM pg_trigger AS t
        JOIN pg_trigger AS parent ON parent.oid = t.tgparentid
        WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND parent.tgenabled <> t.tgenabled
        UNION ALL
        SELECT format('COMMENT ON TRIGGER %I ON %s IS %L', t.tgname, $2, obj_description(t.oid, 'pg_trigger'))
        FROM pg_trigger AS t
        WHERE t.tgrelid = $1 AND t.tgparentid <> 0 AND obj_description(t.oid, 'pg_trigger') IS NOT NULL
        UNION ALL
        SELECT format('COMMENT ON CONSTRAINT %I ON %s IS %L', t.tgname, $2, obj_description(t.tgconstraint, 'pg_constraint'))
        FROM pg_trigger AS t
        WHERE t.tgrelid = $1 AND t.tgparentid <> 0 AND NOT t.tgisinternal
          AND obj_description(t.tgconstraint, 'pg_constraint') IS NOT NULL
        UNION ALL
        SELECT command.text
        FROM pg_publication_rel AS r
        JOIN pg_publication AS pub ON pub.oid = r.prpubid
        CROSS JOIN LATERAL (VALUES
            (1, format('ALTER PUBLICATION %I DROP TABLE ONLY %I.%I', pub.pubname, $3, (SELECT relname FROM pg_class WHERE oid = $1))),
            (2, format('ALTER PUBLICATION %I ADD TABLE ONLY %s%s%s', pub.pubname, $2,
                       ' (' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
                                FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum = ANY (r.prattrs::int2[])) || ')',
                       ' WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')'))
        ) AS command (step, text)
        WHERE r.prrelid = $1
    )SQL",
                                    {leaf.oid, leaf.qualified(), old_schema(job)})
                              .texts();
    return extras;
}

} // namespace partbackfill::shadow
