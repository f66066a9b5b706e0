#include "partbackfill/engine/source.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/engine/null_bounds.hpp"
#include "partbackfill/engine/plan.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::engine {

namespace {

// Names of the table's columns with whether they are generated.
struct NamedColumn {
    std::string name;
    bool generated;
};

std::vector<NamedColumn> table_columns(Oid table) {
    const pg::Result result = pg::query(R"SQL(
        SELECT attname, attgenerated <> ''
        FROM pg_catalog.pg_attribute
        WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
    )SQL",
                                        {table});
    std::vector<NamedColumn> columns;
    for (const pg::Row &row : result.rows)
        columns.push_back({row.text(0), row.boolean(1)});
    return columns;
}

// A policy that would hide rows of the source is an error, as in the workers.
class AllRows : public pg::SettingsScope {
public:
    AllRows() { set("row_security", "off"); }
};

void check_names(const std::vector<ResultColumn> &columns, const Target &target) {
    const auto wanted = table_columns(target.oid);
    std::set<std::string> seen;
    for (const ResultColumn &column : columns) {
        if (!seen.insert(column.name).second)
            pg::raise(pg::sqlcode::kDuplicateColumn,
                      "source has more than one column \"" + column.name + "\"",
                      "Columns of the source and of the table match by name.");
        if (std::none_of(wanted.begin(), wanted.end(), [&](const auto &w) { return w.name == column.name; }))
            pg::raise(
                pg::sqlcode::kUndefinedColumn,
                fmt::format("column \"{}\" of the source does not exist in \"{}\"", column.name, target.name),
                "Columns of the source and of the table match by name.",
                "Leave the column out of the source, or give it the name of a column of the table.");
    }
    for (const NamedColumn &column : wanted)
        if (!column.generated && !seen.contains(column.name))
            pg::raise(pg::sqlcode::kUndefinedColumn, fmt::format("source has no column \"{}\"", column.name),
                      fmt::format("Table \"{}\" has that column; columns match by name.", target.name));
}

bool is_part_of(const Target &target, Oid relation) {
    const auto contains = [&](const std::vector<Oid> &oids) {
        return std::find(oids.begin(), oids.end(), relation) != oids.end();
    };
    return contains(target.descendants) || contains(target.ancestors) ||
           std::any_of(target.leaves.begin(), target.leaves.end(),
                       [&](const Leaf &leaf) { return leaf.oid == relation; });
}

void check_readable_kind(Oid relation) {
    const pg::Row row = pg::query_row(
        "SELECT relkind::text, relname FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) $1",
        {relation});
    if (std::string("rpvmf").find(row.text(0)) == std::string::npos)
        pg::raise(pg::sqlcode::kWrongObjectType, "source \"" + row.text(1) + "\" cannot be read as a table",
                  "", "Name a table or a view, or give a query.");
}

std::string relation_name(Oid relation) {
    const pg::Result result = pg::query(R"SQL(
        SELECT n.nspname, c.relname
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = $1
    )SQL",
                                        {relation});
    if (result.empty())
        pg::raise(pg::sqlcode::kUndefinedTable, "the source relation does not exist any more");
    return pg::quote_qualified(result.rows.front().text(0), result.rows.front().text(1));
}

std::string from_clause(const std::string &text, Oid relation) {
    if (relation != kNoOid)
        return relation_name(relation) + " AS source";
    // The newline ends a comment that the query may end with.
    return "(" + single_select(text) + "\n) AS source";
}

std::string column_list(const std::vector<std::string> &columns) {
    std::string list;
    for (const auto &column : columns)
        list += (list.empty() ? "source." : ", source.") + pg::quote_identifier(column);
    return list;
}

std::set<std::string> untyped_columns_of(const std::string &text, Oid relation,
                                         const std::optional<RangeKey> &key) {
    return relation == kNoOid ? untyped_columns(single_select(text), key) : std::set<std::string>();
}

// The types, without a length or the like, of these columns: the literal was read as text. Lengths are left
// to the assignment, which raises what an explicit cast would cut off.
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

// What a build reads from: the source, literals without a type given that of the table's
// column, below the partition's constraint, which may be about them.
std::string typed_from_clause(const std::string &text, Oid relation, const std::optional<RangeKey> &key,
                              Oid table) {
    const std::string from = from_clause(text, relation);
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

// The workers have sessions of their own.
void check_not_temporary(const ParsedQuery &parsed) {
    if (!parsed.temporary.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("source depends on temporary {}", parsed.temporary),
                  "The job's workers cannot see the temporary objects of this session.",
                  "Make it permanent, or UNLOGGED, for as long as the job runs.");
}

} // namespace

std::vector<std::string> assigned_columns(Oid table) {
    std::vector<std::string> names;
    for (const NamedColumn &column : table_columns(table))
        if (!column.generated)
            names.push_back(column.name);
    return names;
}

namespace {

pg::Result schemas_before_the_servers() {
    const pg::CallersPath path;
    return pg::query(R"SQL(
        SELECT s.name
        FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS s (name, place)
        WHERE s.place OPERATOR(pg_catalog.<) pg_catalog.array_position(pg_catalog.current_schemas(true), 'pg_catalog'::pg_catalog.name)
          AND s.name OPERATOR(pg_catalog.!~) '^pg_temp_'
    )SQL");
}

} // namespace

// The partition's constraint joins the caller's query as text, in which the
// server's own operators and functions stand without a schema: were others found
// before them, they would decide which rows belong to the partition. And so would
// a setting under which a value in it reads as another.
void check_settings() {
    const pg::Result other = schemas_before_the_servers();
    if (!other.empty())
        pg::raise(
            pg::sqlcode::kFeatureNotSupported,
            fmt::format("cannot backfill while schema \"{}\" is before pg_catalog in search_path",
                        other.rows.front().text(0)),
            "Its operators and functions could take the place of those that the partitions' bounds mean.",
            "Set search_path without pg_catalog, which is then searched first.");
    if (!pg::query_row("SELECT pg_catalog.current_setting('array_nulls')::pg_catalog.bool", {}).boolean(0))
        pg::raise(pg::sqlcode::kFeatureNotSupported, "cannot backfill while array_nulls is off",
                  "NULL in the bound of a partition would be read as a word.", "Set array_nulls to on.");
}

Source check_source(const std::string &text, const Target &target) {
    check_settings();
    const AllRows all_rows;
    Source source;
    source.text = text;
    source.relation = named_relation(text);
    if (source.relation != kNoOid)
        check_readable_kind(source.relation);
    // The query by itself first: an error's position then speaks of the text
    // that the caller wrote.
    if (source.relation == kNoOid)
        parse_query(single_select(text), target.key);
    check_names(parse_query("SELECT * FROM " + from_clause(text, source.relation), target.key).columns,
                target);
    const std::string from = typed_from_clause(text, source.relation, target.key, target.oid);
    const ParsedQuery parsed = parse_query("SELECT * FROM " + from, target.key);
    check_not_temporary(parsed);
    if (parsed.locks_rows)
        pg::raise(pg::sqlcode::kInvalidParameter, "source must be a query that only reads",
                  "The source locks rows with FOR UPDATE or FOR SHARE.");
    check_columns(parsed.columns, target.oid, target.key_columns);
    source.query = from;
    source.uses_start = parsed.uses_start;
    source.uses_end = parsed.uses_end;
    source.own_rows = is_part_of(target, source.relation);
    source.reads_target =
        !source.own_rows && std::any_of(parsed.relations.begin(), parsed.relations.end(),
                                        [&](Oid relation) { return is_part_of(target, relation); });
    return source;
}

LoadQuery load_query(const std::string &source_text, Oid source_relation, const std::optional<RangeKey> &key,
                     const Leaf &leaf, const std::string &constraint) {
    LoadQuery query;
    query.columns = assigned_columns(leaf.oid);
    const std::string columns = column_list(query.columns);
    query.sql = reads_own_rows(source_relation, leaf.oid)
                    ? fmt::format("SELECT {} FROM ONLY {} AS source", columns, leaf.qualified())
                    : fmt::format("SELECT {} FROM {} WHERE {}", columns,
                                  typed_from_clause(source_text, source_relation, key, leaf.oid), constraint);
    return query;
}

bool reads_own_rows(Oid source_relation, Oid leaf) {
    return source_relation != kNoOid && pg::query_row(R"SQL(
               SELECT $1 OPERATOR(pg_catalog.=) $2
                   OR $1 OPERATOR(pg_catalog.=) ANY (SELECT a.relid FROM pg_catalog.pg_partition_ancestors($2::pg_catalog.oid::pg_catalog.regclass) AS a)
           )SQL",
                                                      {source_relation, leaf})
                                            .boolean(0);
}

pg::Params key_params(const std::optional<RangeKey> &key, const Leaf &leaf) {
    if (!key)
        return {};
    return {pg::Param::typed(key->type, leaf.range_start), pg::Param::typed(key->type, leaf.range_end)};
}

std::string explain(const Source &source, const Target &target, const Leaf &leaf,
                    const std::string &constraint) {
    const AllRows all_rows;
    const pg::ReadOnlyScope read_only; // the planner calls functions
    const LoadQuery load = load_query(source.text, source.relation, target.key, leaf, constraint);
    const pg::Params bounds = key_params(target.key, leaf);
    const pg::CallersPath path;
    return pg::query_row("EXPLAIN (FORMAT JSON) " + load.sql, bounds).text(0);
}

std::vector<const Leaf *> leaves_without_rows(const Source &source, const Target &target) {
    std::map<std::pair<bool, bool>, bool> verdicts; // by which of the bounds are missing
    std::vector<const Leaf *> found;
    for (const Leaf &leaf : target.leaves) {
        const bool start = source.uses_start && !leaf.range_start;
        const bool end = source.uses_end && !leaf.range_end;
        if (!leaf.selected || (!start && !end))
            continue;
        const auto [verdict, is_new] = verdicts.try_emplace({start, end}, false);
        // By itself: of a partition's own rows the source may rightly have none.
        if (is_new)
            verdict->second = needs_bounds(single_select(source.text), target.key->type, start, end) ||
                              pg::query_row(R"SQL(
                SELECT pg_catalog.jsonb_path_exists($1::pg_catalog.jsonb, '$.** ? (@."One-Time Filter" == "false")')
            )SQL",
                                            {explain(source, target, leaf, "true")})
                                  .boolean(0);
        if (verdict->second)
            found.push_back(&leaf);
    }
    return found;
}

void raise_without_rows(const std::vector<const Leaf *> &leaves) {
    constexpr size_t kMostNames = 10;
    std::vector<std::string> names;
    for (size_t i = 0; i < leaves.size() && i < kMostNames; i++)
        names.push_back("\"" + leaves[i]->name + "\"");
    std::string list = fmt::format("{}", fmt::join(names, ", "));
    if (leaves.size() > kMostNames)
        list += fmt::format(" and {} more", leaves.size() - kMostNames);
    pg::raise(pg::sqlcode::kInvalidParameter, "source gives no rows where a partition has no bound",
              fmt::format("$1 or $2 is NULL for {}, and a condition on it is never true.", list),
              "Leave the condition out, since each partition gets only its own rows, or write "
              "($1 IS NULL OR key >= $1) AND ($2 IS NULL OR key < $2).");
}

bool reads_everything(const std::string &plan) {
    return pg::query_row(R"SQL(
        SELECT pg_catalog.jsonb_path_exists($1::jsonb,
            '$.** ? (@."Node Type" == "Subquery Scan" && @.Alias == "source" && exists(@.Filter))')
    )SQL",
                         {plan})
        .boolean(0);
}

} // namespace partbackfill::engine
