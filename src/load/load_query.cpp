#include "partbackfill/load/load_query.hpp"

#include <map>
#include <set>

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/load/table_columns.hpp"

namespace partbackfill::load {

namespace {

std::string column_list(const std::vector<std::string> &columns) {
    std::string list;
    for (const auto &column : columns)
        list += (list.empty() ? "source." : ", source.") + pg::quote_identifier(column);
    return list;
}

std::set<std::string> untyped_columns_of(const std::string &text, Oid relation,
                                         const std::optional<catalog::RangeKey> &key) {
    return relation == kNoOid ? untyped_columns(single_select(text), key) : std::set<std::string>();
}

// The types, without a length or the like, of these columns, whose literals were read as
// text. Lengths are left to the assignment, which raises what an explicit cast would cut off.
std::map<std::string, std::string> casts(Oid table, const std::set<std::string> &untyped) {
    std::map<std::string, std::string> types;
    if (untyped.empty())
        return types;
    for (const pg::Row &row : pg::query(R"SQL(
        SELECT a.attname, a.atttypid::bigint
        FROM pg_attribute AS a
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    )SQL",
                                        {table})
                                  .rows)
        if (untyped.contains(row.text(0)))
            // With -1, since "character" by itself is one of length 1, and so is "bit".
            types.emplace(row.text(0), type_text(row.oid(1), -1));
    return types;
}

// Columns that a load assigns: those of the table that are not generated.
std::vector<std::string> assigned_columns(Oid table) {
    std::vector<std::string> names;
    for (const NamedColumn &column : table_columns(table))
        if (!column.generated)
            names.push_back(column.name);
    return names;
}

} // namespace

std::string from_clause(const std::string &text, Oid relation) {
    if (relation != kNoOid) {
        const auto found = catalog::find_relation(relation);
        if (!found)
            pg::raise(pg::sqlcode::kUndefinedTable, "the source relation does not exist any more");
        return found->qualified() + " AS source";
    }
    // The newline ends a comment that the query may end with.
    return "(" + single_select(text) + "\n) AS source";
}

std::string typed_from_clause(const std::string &text, Oid relation,
                              const std::optional<catalog::RangeKey> &key, Oid table) {
    std::string from = from_clause(text, relation);
    const auto types = casts(table, untyped_columns_of(text, relation, key));
    if (types.empty())
        return from;
    std::string list;
    for (const ResultColumn &column : parse_query("SELECT * FROM " + from, key).columns) {
        const std::string name = pg::quote_identifier(column.name);
        const auto type = types.find(column.name);
        list += list.empty() ? "" : ", ";
        list += type == types.end() ? "source." + name
                                    : fmt::format("source.{0}::{1} AS {0}", name, type->second);
    }
    return fmt::format("(SELECT {} FROM {}) AS source", list, from);
}

LoadQuery load_query(const std::string &source_text, Oid source_relation,
                     const std::optional<catalog::RangeKey> &key, const catalog::Leaf &leaf,
                     const std::string &constraint) {
    LoadQuery query;
    query.columns = assigned_columns(leaf.oid);
    const std::string columns = column_list(query.columns);
    query.sql = reads_own_rows(source_relation, leaf.oid)
                    ? fmt::format("SELECT {} FROM ONLY {} AS source", columns, leaf.qualified())
                    : fmt::format("SELECT {} FROM {} WHERE {}", columns,
                                  typed_from_clause(source_text, source_relation, key, leaf.oid), constraint);
    return query;
}

KeyQueries key_queries(const std::string &source_text, Oid source_relation,
                       const std::optional<catalog::RangeKey> &key, const catalog::Leaf &leaf,
                       const std::string &constraint, const catalog::RowKey &row_key) {
    KeyQueries queries;
    queries.columns = assigned_columns(leaf.oid);
    const std::string columns = column_list(queries.columns);
    const bool own = reads_own_rows(source_relation, leaf.oid);
    const std::string from = own ? fmt::format("ONLY {} AS source", leaf.qualified())
                                 : typed_from_clause(source_text, source_relation, key, leaf.oid);
    const std::string condition = own ? "true" : constraint;
    std::string keys;
    std::string equal;
    for (size_t i = 0; i < row_key.columns.size(); i++) {
        const catalog::KeyColumn &column = row_key.columns[i];
        const std::string collate =
            column.collation_name.empty() ? "" : fmt::format(" COLLATE {}", column.collation_name);
        keys += fmt::format("{}{}.k{}{} AS k{}", i > 0 ? ", " : "", kKeys, i + 1, collate, i + 1);
        equal += fmt::format("{}source.{} {} keys.k{}{}", i > 0 ? " AND " : "",
                             pg::quote_identifier(column.name), column.equality, i + 1, collate);
    }
    const std::string distinct = fmt::format("(SELECT DISTINCT {} FROM {}) AS keys", keys, kKeys);
    // OFFSET 0 keeps the planner from taking the subquery apart: only within it does a key reach what a
    // source groups or combines, which would be computed for all keys otherwise.
    queries.each = fmt::format("SELECT {0} FROM {1} CROSS JOIN LATERAL "
                               "(SELECT {0} FROM {2} WHERE ({3}) AND {4} OFFSET 0) AS source",
                               columns, distinct, from, condition, equal);
    queries.joined =
        fmt::format("SELECT {0} FROM (SELECT {0} FROM {1} WHERE ({2})) AS source JOIN {3} ON {4}", columns,
                    from, condition, distinct, equal);
    return queries;
}

bool reads_own_rows(Oid source_relation, Oid leaf) {
    return source_relation != kNoOid && pg::query_row(R"SQL(
               SELECT $1 OPERATOR(pg_catalog.=) $2
                   OR $1 OPERATOR(pg_catalog.=) ANY (SELECT a.relid FROM pg_catalog.pg_partition_ancestors($2::pg_catalog.oid::pg_catalog.regclass) AS a)
           )SQL",
                                                      {source_relation, leaf})
                                            .boolean(0);
}

pg::Params key_params(const std::optional<catalog::RangeKey> &key, const catalog::Leaf &leaf) {
    if (!key)
        return {};
    return {pg::Param::typed(key->type, leaf.range_start), pg::Param::typed(key->type, leaf.range_end)};
}

} // namespace partbackfill::load
