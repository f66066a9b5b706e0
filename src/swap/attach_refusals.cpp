#include "partbackfill/pg/server.hpp"

#include "partbackfill/catalog/foreign_tables.hpp"
#include "partbackfill/catalog/referring_keys.hpp"
#include "partbackfill/catalog/shards.hpp"
#include "partbackfill/catalog/topmost_key.hpp"
#include "partbackfill/pg/indexes.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/shadow/default_sibling.hpp"
#include "partbackfill/shadow/definition.hpp"
#include "partbackfill/swap/attach_refusals.hpp"

namespace partbackfill::swap {

namespace {

// A row for each part of a leaf ($1) that DETACH, SET SCHEMA, LIKE and ATTACH would not bring
// along. $2 is the name of the bounds constraint, $3 kSmallPages, and $4 says whether ATTACH
// compares the kinds of constraints.
constexpr const char *kRefusals = R"SQL(
    WITH leaf AS (
        SELECT c.*, i.inhparent
        FROM pg_class AS c
        LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid -- a shadow has no parent
        WHERE c.oid = ANY ($1)
    )
    SELECT leaf.oid::bigint, reason.text
    FROM leaf
    CROSS JOIN LATERAL ()SQL";

// What follows the reason of a foreign table.
constexpr const char *kOtherRefusals = R"SQL(
        UNION ALL
        SELECT 'is a temporary table' WHERE leaf.relpersistence = 't'
        UNION ALL
        -- A key to a partitioned table has a row for each of its partitions, too.
        SELECT 'has foreign key ' || quote_ident(k.conname) || reason.text
        FROM pg_constraint AS k
        LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
        CROSS JOIN LATERAL (
            SELECT ' to its own table'
            WHERE pg_partition_root(k.confrelid) = pg_partition_root(leaf.oid)
            UNION ALL
            SELECT ' to table ' || k.confrelid::regclass::text || ', which you may not reference'
            WHERE NOT has_table_privilege(k.confrelid, 'REFERENCES')
            UNION ALL
            -- VALIDATE asks only whether the periods overlap (18.6).
            SELECT ' with PERIOD' WHERE k.convalidated AND pg_get_constraintdef(k.oid) LIKE '%, PERIOD %'
            UNION ALL
            -- ATTACH takes whichever it finds first for a part of the parent's.
            SELECT ', which is like ' || quote_ident(other.conname)
            FROM pg_constraint AS other
            WHERE other.contype = 'f' AND other.conrelid = k.conrelid AND other.oid <> k.oid AND other.conkey = k.conkey
              AND other.confrelid = k.confrelid AND other.confkey = k.confkey
            UNION ALL
            -- The server takes the first unique index of the columns.
            SELECT ' by index ' || k.conindid::regclass::text || ', and index ' || i.indexrelid::regclass::text || ' is like it'
            FROM pg_index AS i
            WHERE i.indrelid = k.confrelid AND i.indexrelid < k.conindid AND i.indisunique AND i.indimmediate AND i.indisvalid
              AND i.indpred IS NULL AND i.indexprs IS NULL
              AND ARRAY(SELECT a FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS a ORDER BY a)
                  = ARRAY(SELECT a FROM unnest(k.confkey) AS a ORDER BY a)
            UNION ALL
            SELECT ', which is defined in another way than ' || quote_ident(up.conname) || ' of its parent'
            FROM )SQL";

// What follows the relation of the topmost foreign key.
constexpr const char *kRefusedKeys = R"SQL( AS top, pg_get_constraintdef(k.oid) AS d (text)
            WHERE top.oid <> k.oid
              AND top.definition <> CASE WHEN right(d.text, 10) = ' NOT VALID' THEN left(d.text, -10) ELSE d.text END
            UNION ALL
            SELECT ', whose triggers are disabled or enabled in another way'
            WHERE EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgconstraint = k.oid AND t.tgenabled <> 'O')
        ) AS reason (text)
        WHERE k.contype = 'f' AND k.conrelid = leaf.oid AND up.conrelid IS DISTINCT FROM k.conrelid
        UNION ALL
        -- Each partition has a constraint of its own, with a name that the server chose.
        SELECT 'is referenced by foreign key ' || quote_ident(COALESCE(up.conname, k.conname)) || ' of ' || k.conrelid::regclass::text
        FROM )SQL";

// What follows the relation of the foreign keys that refer to the leaf.
constexpr const char *kMoreRefusals = R"SQL( AS k
        LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
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
        SELECT 'is in publication ' || quote_ident(pub.pubname) || ', which you do not own'
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
        SELECT 'has the replica identity of an index that was dropped'
        WHERE leaf.relreplident = 'i'
          AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = leaf.oid AND i.indisreplident)
        UNION ALL
        SELECT 'has statistics object ' || quote_ident(s.stxname) || ', which you do not own'
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
          -- From the few indexes of the leaf to their parents: those have a child in every partition.
          AND pi.indexrelid <> ALL (ARRAY (SELECT ii.inhparent FROM pg_index AS ci JOIN pg_inherits AS ii ON ii.inhrelid = ci.indexrelid
                                           WHERE ci.indrelid = leaf.oid AND ci.indisvalid))
        UNION ALL
        -- ATTACH would make another one, with a scan of the partition under its lock.
        SELECT 'has constraint ' || quote_ident(k.conname) || ', which is of another kind than ' || quote_ident(up.conname)
            || ' of its parent'
        FROM pg_constraint AS k JOIN pg_constraint AS up ON up.oid = k.conparentid
        WHERE $4 AND k.conrelid = leaf.oid AND k.contype <> up.contype
        UNION ALL
        SELECT 'is beside DEFAULT partition ' || d.oid::regclass::text || ', which you do not own'
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
        -- An expression that names the row type, or the table in a query of its own, would
        -- still name those of the partition that is moved away.
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
        -- Views, functions, sequences, users of the row type: each object that depends on the
        -- table or its row type and is no part of the table.
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

} // namespace

std::vector<Hazard> attach_refusals(const std::vector<Oid> &leaves) {
    static const std::string sql = kRefusals + catalog::foreign_table_reason("leaf.oid") + kOtherRefusals +
                                   catalog::topmost_key("k.oid") + kRefusedKeys +
                                   catalog::referring_keys("leaf.oid") + kMoreRefusals;
    std::vector<Hazard> hazards =
        find_hazards(sql, {leaves, shadow::kBoundsConstraint, shadow::kSmallPages, pg::attach_minds_kinds()});
    // They would write to the table that has the old rows.
    constexpr const char *kShards = R"SQL(
        SELECT leaf::bigint, (SELECT 'is a shard of Citus, of which sessions keep plans that name its table')
        FROM unnest($1::oid[]) AS leaf
        WHERE relation_is_a_known_shard(leaf)
    )SQL";
    if (catalog::has_citus())
        for (Hazard &hazard : find_hazards(kShards, {leaves}))
            hazards.push_back(std::move(hazard));
    return hazards;
}

} // namespace partbackfill::swap
