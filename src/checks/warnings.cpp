#include "partbackfill/checks/warnings.hpp"

#include "partbackfill/swap/method.hpp"

namespace partbackfill::checks {

namespace {

std::vector<swap::Hazard> publications_of(const std::vector<Oid> &leaves) {
    return swap::find_hazards(R"SQL(
        SELECT DISTINCT leaf.oid::bigint,
               'subscribers of publication ' || quote_ident(t.pubname) || ' do not get the corrected rows' AS text
        FROM unnest($1::oid[]) AS leaf (oid)
        CROSS JOIN LATERAL (SELECT leaf.oid AS relid UNION SELECT a.relid FROM pg_partition_ancestors(leaf.oid) AS a) AS up
        JOIN pg_class AS c ON c.oid = up.relid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_publication_tables AS t ON t.schemaname = n.nspname AND t.tablename = c.relname
        ORDER BY 1, 2
    )SQL",
                              {leaves});
}

std::vector<swap::Hazard> triggers_and_decoding(const std::vector<Oid> &leaves) {
    return swap::find_hazards(R"SQL(
        SELECT leaf.oid::bigint, warning.text
        FROM unnest($1::oid[]) AS leaf (oid)
        CROSS JOIN LATERAL (
            SELECT 1, format('trigger %I does not fire for the new rows', t.tgname)
            FROM pg_trigger AS t
            WHERE t.tgrelid = leaf.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 5 = 5
            UNION ALL
            SELECT 1, format('is stored by access method %I: its swap waits until no transaction is older than its build, and readers on '
                             'standbys that are older see none of its rows', am.amname)
            FROM pg_class AS c JOIN pg_am AS am ON am.oid = c.relam
            WHERE c.oid = leaf.oid AND am.amhandler <> 'heap_tableam_handler'::regproc
            UNION ALL
            SELECT 2, format('publication %I is FOR ALL TABLES: while it has tables of the job in schemas backfill_<job>_new '
                             'and _old, ALTER SUBSCRIPTION ... REFRESH PUBLICATION fails where they do not exist', p.pubname)
            FROM pg_publication AS p WHERE p.puballtables
            UNION ALL
            SELECT 3, format('logical replication slot %I queues the new rows, and may spill them to pg_replslot, before it passes '
                             'over them', s.slot_name)
            FROM pg_replication_slots AS s
            WHERE s.slot_type = 'logical' AND s.database = current_database()
        ) AS warning (step, text)
        ORDER BY leaf.oid, warning.step, warning.text
    )SQL",
                              {leaves});
}

} // namespace

std::vector<swap::Hazard> warnings(const catalog::Target &target) {
    const std::vector<Oid> leaves = target.selected_oids();
    std::vector<swap::Hazard> found = publications_of(leaves);
    for (const swap::SwapMethod *method : swap::swap_methods())
        for (const swap::Hazard &warning : method->warnings(leaves))
            found.push_back({warning.leaf, std::string(method->name) + ": " + warning.text});
    for (const swap::Hazard &warning : triggers_and_decoding(leaves))
        found.push_back(warning);
    return found;
}

} // namespace partbackfill::checks
