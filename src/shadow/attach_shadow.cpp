#include "partbackfill/shadow/attach_shadow.hpp"

#include <fmt/format.h>

#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/shadow/carry.hpp"
#include "partbackfill/shadow/default_sibling.hpp"
#include "partbackfill/shadow/definition.hpp"
#include "partbackfill/shadow/job_schemas.hpp"

namespace partbackfill::shadow {

namespace {

// The USING, WITH and TABLESPACE clauses of the leaf.
std::string storage_clauses(const catalog::Leaf &leaf) {
    return pg::query_row(R"SQL(
        SELECT ' USING ' || quote_ident(am.amname)
            || COALESCE(' WITH (' || options.list || ')', '')
            || COALESCE(' TABLESPACE ' || quote_ident(space.spcname), '')
        FROM pg_class AS c
        JOIN pg_am AS am ON am.oid = c.relam
        LEFT JOIN pg_class AS toast ON toast.oid = c.reltoastrelid
        LEFT JOIN pg_tablespace AS space ON space.oid = c.reltablespace
        CROSS JOIN LATERAL (
            SELECT string_agg(o.prefix || quote_ident(split_part(o.option, '=', 1)) || '='
                              || quote_literal(substr(o.option, strpos(o.option, '=') + 1)), ', ') AS list
            FROM (
                SELECT '' AS prefix, unnest(c.reloptions) AS option
                UNION ALL
                SELECT 'toast.', unnest(toast.reloptions)
            ) AS o
        ) AS options
        WHERE c.oid = $1
    )SQL",
                         {leaf.oid})
        .text(0);
}

// LIKE leaves out the CLUSTER mark, the replica identity and the comment on the table.
void copy_marks_and_comment(const catalog::Leaf &leaf, const std::string &shadow) {
    pg::execute_each(R"SQL(
        SELECT format('ALTER TABLE %s CLUSTER ON %I', $2, ic.relname)
        FROM pg_index AS i
        JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = $1 AND i.indisclustered AND i.indisvalid
        UNION ALL
        SELECT format('ALTER TABLE %s REPLICA IDENTITY %s', $2,
                      CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
                           ELSE 'USING INDEX ' || quote_ident(ic.relname) END)
        FROM pg_class AS c
        LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisreplident
        LEFT JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE c.oid = $1 AND c.relreplident <> 'd' AND (c.relreplident <> 'i' OR i.indisvalid)
        UNION ALL
        SELECT format('COMMENT ON TABLE %s IS %L', $2, obj_description($1, 'pg_class'))
        WHERE obj_description($1, 'pg_class') IS NOT NULL
    )SQL",
                     {leaf.oid, shadow});
}

void set_owner(const catalog::Leaf &leaf, const std::string &shadow) {
    pg::execute(
        fmt::format("ALTER TABLE {} OWNER TO {}", shadow, pg::quote_identifier(pg::role_name(leaf.owner))));
}

} // namespace

Oid create_attach_shadow(std::int64_t job, const catalog::Leaf &leaf, const std::vector<Oid> &proofs) {
    const std::string schema = new_schema(job);
    const std::string shadow = pg::quote_qualified(schema, leaf.name);
    const std::string create = fmt::format("CREATE {}TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY "
                                           "EXCLUDING INDEXES EXCLUDING STATISTICS){}",
                                           leaf.persistence == 'u' ? "UNLOGGED " : "", shadow,
                                           leaf.qualified(), storage_clauses(leaf));
    {
        const pg::CallersPath path; // CHECK constraints are planned
        pg::execute(create);
    }
    const Oid oid = pg::query_row("SELECT $1::regclass::oid::bigint", {shadow}).oid(0);
    drop_copies_of_proofs(oid, proofs);
    copy_array_type_name(leaf.oid, oid);
    set_owner(leaf, shadow);
    copy_privileges(leaf.oid, oid);
    copy_row_type(leaf.oid, oid);
    clone_indexes(leaf.oid, oid);
    copy_marks_and_comment(leaf, shadow);
    carry_statistics(leaf, schema);
    carry_statistics_owners(job, leaf);
    leave_out_invalid_constraints(job, leaf, proofs);
    add_bounds_constraint(leaf.oid, oid);
    return oid;
}

} // namespace partbackfill::shadow
