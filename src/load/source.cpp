#include "partbackfill/load/source.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/load/error_position.hpp"
#include "partbackfill/load/load_query.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/load/table_columns.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"

namespace partbackfill::load {

namespace {

void check_names(const std::vector<ResultColumn> &columns, const catalog::Target &target) {
    const auto wanted = table_columns(target.oid);
    std::set<std::string> seen;
    for (const ResultColumn &column : columns) {
        if (!seen.insert(column.name).second)
            raise_at(column.position, pg::sqlcode::kDuplicateColumn,
                     "source has more than one column \"" + column.name + "\"",
                     "Columns of the source and of the table match by name.");
        if (std::none_of(wanted.begin(), wanted.end(), [&](const auto &w) { return w.name == column.name; }))
            raise_at(
                column.position, pg::sqlcode::kUndefinedColumn,
                fmt::format("column \"{}\" of the source does not exist in \"{}\"", column.name, target.name),
                "Columns of the source and of the table match by name.",
                "Leave the column out of the source, or give it the name of a column of the table.");
    }
    for (const NamedColumn &column : wanted)
        if (!column.generated && !seen.contains(column.name))
            pg::raise(pg::sqlcode::kUndefinedColumn, fmt::format("source has no column \"{}\"", column.name),
                      fmt::format("Table \"{}\" has that column; columns match by name.", target.name));
}

bool is_part_of(const catalog::Target &target, Oid relation) {
    const auto contains = [&](const std::vector<Oid> &oids) {
        return std::find(oids.begin(), oids.end(), relation) != oids.end();
    };
    return contains(target.descendants) || contains(target.ancestors) ||
           std::any_of(target.leaves.begin(), target.leaves.end(),
                       [&](const catalog::Leaf &leaf) { return leaf.oid == relation; });
}

void check_readable_kind(Oid relation) {
    const catalog::RelationEntry entry = catalog::relation_entry(relation);
    if (std::string("rpvmf").find(entry.kind) == std::string::npos)
        pg::raise(pg::sqlcode::kWrongObjectType, "source \"" + entry.name + "\" cannot be read as a table",
                  "", "Name a table or a view, or give a query.");
}

// Positions of the query's columns. The query is parsed by itself: a mistake in it is
// found in the text that the caller wrote.
std::vector<int> column_positions(const std::string &query, const std::optional<catalog::RangeKey> &key) {
    std::vector<int> positions;
    for (const ResultColumn &column : parse_query(query, key).columns)
        positions.push_back(column.position);
    return positions;
}

ParsedQuery parse_all_of(const std::string &from, const std::optional<catalog::RangeKey> &key,
                         const std::vector<int> &positions) {
    ParsedQuery parsed = parse_query("SELECT * FROM " + from, key);
    for (size_t i = 0; i < parsed.columns.size(); i++)
        parsed.columns[i].position = i < positions.size() ? positions[i] : 0;
    return parsed;
}

// The workers have sessions of their own.
void check_not_temporary(const ParsedQuery &parsed) {
    if (!parsed.temporary.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("source depends on temporary {}", parsed.temporary),
                  "The job's workers cannot see the temporary objects of this session.",
                  "Make it permanent, or UNLOGGED, for as long as the job runs.");
}

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

AllRows::AllRows() {
    set("row_security", "off");
}

// The partition's constraint joins the caller's query as text, in which the
// server's own operators and functions stand without a schema: were others found
// before them, they would decide which rows belong to the partition, and so would
// a setting under which a value in the constraint reads as another.
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

namespace {

// Checks the source, of which the relation or the columns' positions are known, and adds
// what a build has to know of it.
void check_against(const catalog::Target &target, const std::set<std::string> &row_key_columns,
                   const std::vector<int> &positions, Source &source) {
    check_names(parse_all_of(from_clause(source.text, source.relation), target.key, positions).columns,
                target);
    const std::string from = typed_from_clause(source.text, source.relation, target.key, target.oid);
    const ParsedQuery parsed = parse_all_of(from, target.key, positions);
    check_not_temporary(parsed);
    if (parsed.locks_rows)
        pg::raise(pg::sqlcode::kInvalidParameter, "source must be a query that only reads",
                  "The source locks rows with FOR UPDATE or FOR SHARE.");
    check_columns(parsed.columns, target.oid, target.key_columns, row_key_columns);
    source.columns = parsed.columns;
    source.uses_start = parsed.uses_start;
    source.uses_end = parsed.uses_end;
    source.own_rows = is_part_of(target, source.relation);
    const auto are_of_target = [&](const std::vector<Oid> &relations) {
        return !source.own_rows && std::any_of(relations.begin(), relations.end(),
                                               [&](Oid relation) { return is_part_of(target, relation); });
    };
    source.reads_target = are_of_target(parsed.relations);
    source.combines_target = are_of_target(parsed.combined);
}

} // namespace

Source check_source(const std::string &text, const catalog::Target &target,
                    const std::set<std::string> &row_key_columns) {
    check_settings();
    const AllRows all_rows;
    Source source;
    source.text = text;
    source.relation = named_relation(text);
    if (source.relation != kNoOid) {
        check_readable_kind(source.relation);
        check_against(target, row_key_columns, {}, source);
        return source;
    }
    const std::string query = single_select(text);
    showing_position_in(
        query, [&] { check_against(target, row_key_columns, column_positions(query, target.key), source); });
    return source;
}

} // namespace partbackfill::load
