#include "partbackfill/engine/default_sibling.hpp"
#include "partbackfill/engine/hazards.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

namespace {

// Above this many siblings ATTACH needs a noticeable time, under its locks, to
// find out that a DEFAULT partition's constraint is what its rows were checked for:
// the proof grows with the square (1.5 s at 1,000).
constexpr int kManySiblings = 300;

} // namespace

std::vector<Hazard> warnings(const Target &target) {
    std::vector<Hazard> hazards;
    const pg::Result result = pg::query(R"SQL(
        WITH leaf AS (
            SELECT c.oid, c.relname, n.nspname, p.partrelid AS parent, NULLIF(p.partdefid, 0) AS default_oid
            FROM pg_class AS c
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            JOIN pg_inherits AS i ON i.inhrelid = c.oid
            JOIN pg_partitioned_table AS p ON p.partrelid = i.inhparent
            WHERE c.oid = ANY ($1)
        ), published AS (
            SELECT DISTINCT l.oid, t.pubname
            FROM leaf AS l
            CROSS JOIN LATERAL (SELECT l.oid AS relid UNION SELECT a.relid FROM pg_partition_ancestors(l.oid) AS a) AS up
            JOIN pg_class AS c ON c.oid = up.relid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            JOIN pg_publication_tables AS t ON t.schemaname = n.nspname AND t.tablename = c.relname
        )
        SELECT leaf.oid::bigint, hazard.text
        FROM leaf
        CROSS JOIN LATERAL (
            SELECT 1, 'subscribers of publication ' || quote_ident(p.pubname) || ' do not get the corrected rows'
            FROM published AS p WHERE p.oid = leaf.oid
            UNION ALL
            SELECT 2, format('attach: DEFAULT partition %s (%s) is scanned before the swap, to prove that it has no row of '
                             'the partition', d.oid::regclass, pg_size_pretty(pg_relation_size(d.oid)))
            FROM pg_class AS d
            WHERE d.oid = leaf.default_oid AND d.oid <> leaf.oid AND d.relkind = 'r'
              AND pg_relation_size(d.oid) > $2 * current_setting('block_size')::bigint
            UNION ALL
            SELECT 3, format('attach: is the DEFAULT partition beside %s others; its swap holds its locks longer', others.count)
            FROM (SELECT count(*) AS count FROM pg_inherits AS i
                  WHERE i.inhparent = leaf.parent AND i.inhrelid <> leaf.oid) AS others
            WHERE leaf.oid = leaf.default_oid AND others.count > $3
            UNION ALL
            SELECT 4, format('storage: the swap locks table %s, to which foreign key %I refers', k.confrelid::regclass, k.conname)
            FROM pg_constraint AS k WHERE k.contype = 'f' AND k.conrelid = leaf.oid AND k.convalidated
            UNION ALL
            SELECT 5, format('storage: the source must give every key of the partition, since foreign key %I of table %s may '
                             'refer to it', COALESCE(up.conname, k.conname), k.conrelid::regclass)
            FROM pg_constraint AS k LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
            WHERE k.contype = 'f' AND k.confrelid = leaf.oid
            UNION ALL
            SELECT 6, format('trigger %I does not fire for the new rows', t.tgname)
            FROM pg_trigger AS t
            WHERE t.tgrelid = leaf.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 5 = 5
            UNION ALL
            SELECT 7, format('publication %I is FOR ALL TABLES: while it has tables of the job in schemas backfill_<job>_new '
                             'and _old, ALTER SUBSCRIPTION ... REFRESH PUBLICATION fails where they do not exist', p.pubname)
            FROM pg_publication AS p WHERE p.puballtables
            UNION ALL
            SELECT 8, format('logical replication slot %I queues the new rows, and may spill them to pg_replslot, before it passes '
                             'over them', s.slot_name)
            FROM pg_replication_slots AS s
            WHERE s.slot_type = 'logical' AND s.database = current_database()
        ) AS hazard (step, text)
        ORDER BY leaf.oid, hazard.step, hazard.text
    )SQL",
                                        {selected_oids(target), kSmallPages, kManySiblings});
    hazards.reserve(result.rows.size());
    for (const pg::Row &row : result.rows)
        hazards.push_back({row.oid(0), row.text(1)});
    return hazards;
}

} // namespace partbackfill::engine
