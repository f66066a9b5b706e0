#include "partbackfill/catalog/definition_digest.hpp"

#include <algorithm>

#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings_scope.hpp"

namespace partbackfill::catalog {

namespace {

// Makes the planner read each catalog by its index, however many tables the database has, since
// readers may be waiting. In the queries OFFSET 0 keeps the planner from entering pg_depend by a
// class alone.
class QuickPlans {
public:
    QuickPlans() {
        scope_.set("enable_seqscan", "off");
        scope_.set("enable_hashjoin", "off");
        scope_.set("enable_mergejoin", "off");
    }

private:
    pg::SettingsScope scope_;
    pg::KeepPlans keep_;
};

// With by_content ($3) a row of pg_class or pg_index counts by its content instead of its version, without
// the columns that are no definition: files and their sizes, hints, the number of CHECKs, and which TOAST
// table it is. The proofs ($4) on a DEFAULT partition do not count.
// NOLINTNEXTLINE(readability-function-size): one statement of SQL.
std::string digest(Oid leaf, Oid shadow, const std::vector<Oid> &proofs, bool by_content) {
    const QuickPlans plans;
    return pg::query_row(R"SQL(
        WITH leaf AS (
            SELECT c.oid, c.reltype, c.reltoastrelid, i.inhparent
            FROM pg_class AS c
            JOIN pg_inherits AS i ON i.inhrelid = c.oid
            WHERE c.oid = $1
        ), relation (oid, is_toast) AS ( -- the leaf, its TOAST table and its indexes
            SELECT oid, false FROM leaf
            UNION ALL
            SELECT reltoastrelid, true FROM leaf WHERE reltoastrelid <> 0
            UNION ALL
            SELECT i.indexrelid, false FROM pg_index AS i JOIN leaf ON i.indrelid = leaf.oid
        ), version (text) AS (
            SELECT format('class %s %s', CASE WHEN $3 AND r.is_toast THEN 'TOAST' ELSE c.oid::text END, CASE WHEN $3 THEN (to_jsonb(c)
                       - CASE WHEN r.is_toast THEN ARRAY['oid', 'relname'] ELSE '{}' END - ARRAY[
                       'reltoastrelid', 'relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid',
                       'relhasindex', 'relhasrules', 'relhastriggers', 'relhassubclass', 'relchecks', 'relrewrite'])::text
                   ELSE c.xmin::text END)
            FROM pg_class AS c JOIN relation AS r ON r.oid = c.oid
            UNION ALL
            SELECT format('column %s %s %s', a.attrelid, a.attnum, a.xmin)
            FROM pg_attribute AS a JOIN relation AS r ON r.oid = a.attrelid WHERE a.attnum > 0 AND NOT ($3 AND r.is_toast)
            UNION ALL
            SELECT format('column %s %s %s', a.attrelid, a.attnum, a.xmin)
            FROM pg_attribute AS a JOIN leaf ON leaf.inhparent = a.attrelid WHERE a.attnum > 0
            UNION ALL
            SELECT format('default %s %s', d.oid, d.xmin) FROM pg_attrdef AS d JOIN leaf ON leaf.oid = d.adrelid
            UNION ALL
            SELECT format('constraint %s %s', k.oid, k.xmin)
            FROM pg_constraint AS k JOIN leaf ON k.conrelid IN (leaf.oid, leaf.inhparent)
            WHERE k.oid <> ALL ($4)
            UNION ALL
            -- There is no index on confrelid, but what refers to a table depends on it.
            SELECT format('constraint %s %s', k.oid, k.xmin)
            FROM (SELECT d.classid, d.objid FROM pg_depend AS d
                  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 OFFSET 0) AS d
            JOIN pg_constraint AS k ON k.oid = d.objid AND k.confrelid = $1
            WHERE d.classid = 'pg_constraint'::regclass
            UNION ALL
            SELECT format('index %s %s', i.indexrelid,
                          CASE WHEN $3 THEN (to_jsonb(i) - 'indcheckxmin')::text ELSE i.xmin::text END)
            FROM pg_index AS i JOIN leaf ON i.indrelid IN (leaf.oid, leaf.inhparent)
            UNION ALL
            SELECT format('parent %s %s %s', i.inhrelid, i.inhparent, i.xmin)
            FROM pg_inherits AS i JOIN relation AS r ON r.oid = i.inhrelid
            UNION ALL
            SELECT format('trigger %s %s', t.oid, t.xmin)
            FROM pg_trigger AS t JOIN leaf ON t.tgrelid IN (leaf.oid, leaf.inhparent)
            UNION ALL
            SELECT format('policy %s %s', p.oid, p.xmin) FROM pg_policy AS p JOIN leaf ON leaf.oid = p.polrelid
            UNION ALL
            SELECT format('rule %s %s', w.oid, w.xmin) FROM pg_rewrite AS w JOIN leaf ON leaf.oid = w.ev_class
            UNION ALL
            SELECT format('statistics %s %s', s.oid, s.xmin)
            FROM pg_statistic_ext AS s JOIN leaf ON leaf.oid = s.stxrelid
            UNION ALL
            SELECT format('publication %s %s', p.oid, p.xmin)
            FROM pg_publication_rel AS p JOIN leaf ON leaf.oid = p.prrelid
            UNION ALL
            SELECT format('type %s %s', t.oid, t.xmin) FROM pg_type AS t JOIN leaf ON leaf.reltype = t.oid
            UNION ALL
            SELECT format('label %s %s', l.provider, l.xmin)
            FROM pg_seclabel AS l
            JOIN leaf ON (l.classoid, l.objoid) IN (('pg_class'::regclass, leaf.oid), ('pg_type'::regclass, leaf.reltype))
            UNION ALL
            SELECT format('extension %s %s %s', d.classid, d.objid, d.refobjid)
            FROM (SELECT 'pg_class'::regclass AS class, r.oid FROM relation AS r
                  UNION ALL
                  SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger AS t JOIN leaf ON leaf.oid = t.tgrelid
            ) AS o
            CROSS JOIN LATERAL (SELECT d.* FROM pg_depend AS d WHERE d.classid = o.class AND d.objid = o.oid OFFSET 0) AS d
            WHERE d.refclassid = 'pg_extension'::regclass
            UNION ALL
            SELECT format('comment %s %s %s %s', d.classoid, d.objoid, d.objsubid, d.xmin)
            FROM pg_description AS d
            JOIN (SELECT 'pg_class'::regclass AS class, r.oid FROM relation AS r
                  UNION ALL
                  SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint AS k JOIN leaf ON leaf.oid = k.conrelid
                  UNION ALL
                  SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger AS t JOIN leaf ON leaf.oid = t.tgrelid
                  UNION ALL
                  SELECT 'pg_policy'::regclass, p.oid FROM pg_policy AS p JOIN leaf ON leaf.oid = p.polrelid
                  UNION ALL
                  SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext AS s JOIN leaf ON leaf.oid = s.stxrelid
                  UNION ALL
                  SELECT 'pg_type'::regclass, leaf.reltype FROM leaf
                  UNION ALL
                  SELECT 'pg_type'::regclass, t.typarray FROM pg_type AS t JOIN leaf ON t.oid = leaf.reltype
            ) AS o ON d.classoid = o.class AND d.objoid = o.oid
            UNION ALL
            SELECT format('dependent %s %s %s %s', d.classid, d.objid, d.objsubid, d.deptype)
            FROM pg_depend AS d
            JOIN (SELECT 'pg_class'::regclass AS class, leaf.oid FROM leaf
                  UNION ALL
                  SELECT 'pg_type'::regclass, leaf.reltype FROM leaf
                  UNION ALL
                  SELECT 'pg_type'::regclass, t.typarray FROM pg_type AS t JOIN leaf ON t.oid = leaf.reltype
            ) AS o ON d.refclassid = o.class AND d.refobjid = o.oid
            -- Expressions of the shadow may name the row type as those of the leaf do.
            WHERE NOT (d.classid = 'pg_constraint'::regclass AND d.objid = ANY ($4))
              -- REPACK (CONCURRENTLY) gives a table another TOAST table, whose row is above.
              AND NOT ($3 AND d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM relation AS r WHERE r.is_toast AND r.oid = d.objid))
              AND NOT EXISTS (SELECT FROM pg_constraint AS k
                              WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.conrelid = $2)
              AND NOT EXISTS (SELECT FROM pg_index AS i
                              WHERE d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid AND i.indrelid = $2)
              AND NOT EXISTS (SELECT FROM pg_attrdef AS a
                              WHERE d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid AND a.adrelid = $2)
              AND NOT EXISTS (SELECT FROM pg_statistic_ext AS s
                              WHERE d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid AND s.stxrelid = $2)
            UNION ALL
            SELECT format('default partition %s', p.partdefid)
            FROM pg_partitioned_table AS p JOIN leaf ON leaf.inhparent = p.partrelid AND p.partdefid <> leaf.oid
            WHERE NOT $3 -- the swap looks at the DEFAULT as it is by then
        )
        SELECT md5(COALESCE(string_agg(v.text, ',' ORDER BY v.text), '')) FROM version AS v
    )SQL",
                         {leaf, shadow, by_content, proofs})
        .text(0);
}

} // namespace

std::string definition_digest(Oid leaf, Oid shadow, const std::vector<Oid> &proofs) {
    return digest(leaf, shadow, proofs, false) + ' ' + digest(leaf, shadow, proofs, true);
}

bool matches_definition_digest(Oid leaf, Oid shadow, const std::vector<Oid> &proofs, std::string &known) {
    const std::string versions = digest(leaf, shadow, proofs, false);
    const auto split = std::min(known.find(' '), known.size());
    if (known.compare(0, split, versions) == 0)
        return true;
    const std::string content = digest(leaf, shadow, proofs, true);
    if (known.compare(split, std::string::npos, ' ' + content) != 0)
        return false;
    known = versions + ' ' + content;
    return true;
}

std::string shadow_digest(Oid shadow) {
    const QuickPlans plans;
    return pg::query_row(R"SQL(
        SELECT md5(COALESCE(string_agg(v.text, ',' ORDER BY v.text), ''))
        FROM (
            SELECT format('class %s %s', c.oid, c.xmin) FROM pg_class AS c WHERE c.oid = $1
            UNION ALL
            SELECT format('toast %s %s', c.oid, c.xmin)
            FROM pg_class AS t JOIN pg_class AS c ON c.oid = t.reltoastrelid WHERE t.oid = $1
            UNION ALL
            SELECT format('index %s %s %s', i.indexrelid, i.xmin, c.xmin)
            FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
            WHERE i.indrelid = $1
            UNION ALL
            SELECT format('column %s %s', a.attnum, a.xmin) FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0
            UNION ALL
            SELECT format('default %s %s', d.oid, d.xmin) FROM pg_attrdef AS d WHERE d.adrelid = $1
            UNION ALL
            SELECT format('constraint %s %s', k.oid, k.xmin) FROM pg_constraint AS k WHERE k.conrelid = $1
            UNION ALL
            SELECT format('trigger %s %s', t.oid, t.xmin) FROM pg_trigger AS t WHERE t.tgrelid = $1
            UNION ALL
            SELECT format('statistics %s %s', s.oid, s.xmin) FROM pg_statistic_ext AS s WHERE s.stxrelid = $1
            UNION ALL
            SELECT format('policy %s %s', p.oid, p.xmin) FROM pg_policy AS p WHERE p.polrelid = $1
            UNION ALL
            SELECT format('rule %s %s', w.oid, w.xmin) FROM pg_rewrite AS w WHERE w.ev_class = $1
            UNION ALL
            SELECT format('publication %s %s', p.oid, p.xmin) FROM pg_publication_rel AS p WHERE p.prrelid = $1
            UNION ALL
            SELECT format('comment %s %s', d.objsubid, d.xmin)
            FROM pg_description AS d WHERE d.classoid = 'pg_class'::regclass AND d.objoid = $1
        ) AS v (text)
    )SQL",
                         {shadow})
        .text(0);
}

} // namespace partbackfill::catalog
