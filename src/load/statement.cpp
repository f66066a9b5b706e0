#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_node.h"
#include "parser/parse_param.h"
#include "parser/parse_coerce.h"
#include "parser/parser.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/varlena.h"
#include "utils/rel.h"
}

#include <fmt/format.h>

#include "partbackfill/catalog/column_origin.hpp"
#include "partbackfill/catalog/combined_rows.hpp"
#include "partbackfill/catalog/query_walk.hpp"
#include "partbackfill/load/error_position.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"

namespace partbackfill::load {

namespace {

struct RawColumn {
    char *name;
    Oid type;
    int32 typmod;
    Oid collation;
    int location; // in bytes, -1 is none
    const char *origin;
};

struct RawParsed {
    int count;
    RawColumn *columns;
    int relation_count;
    Oid *relations;
    catalog::QueryTraits traits;
    List *combined; // OIDs
};

// Locations of the query's expressions in the statement, and their origins, in the order of its columns.
void add_expressions(const Query *query, RawParsed *parsed) {
    int column = 0;
    for (int i = 0; i < list_length(query->targetList) && column < parsed->count; i++) {
        const auto *entry = static_cast<TargetEntry *>(list_nth(query->targetList, i));
        if (entry->resjunk)
            continue;
        parsed->columns[column].location = exprLocation(reinterpret_cast<Node *>(entry->expr));
        parsed->columns[column].origin = catalog::column_origin(query, column + 1);
        column++;
    }
}

void copy_plan_source(CachedPlanSource *source, MemoryContext keep, RawParsed *parsed) {
    const MemoryContext before = MemoryContextSwitchTo(keep);
    const TupleDesc desc = source->resultDesc;
    parsed->count = desc != nullptr ? desc->natts : 0;
    parsed->columns =
        static_cast<RawColumn *>(palloc0(sizeof(RawColumn) * static_cast<Size>(parsed->count + 1)));
    for (int i = 0; i < parsed->count; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(desc, i);
        parsed->columns[i] = {pstrdup(NameStr(attribute->attname)),
                              attribute->atttypid,
                              attribute->atttypmod,
                              attribute->attcollation,
                              -1,
                              nullptr};
    }
    if (list_length(source->query_list) == 1)
        add_expressions(static_cast<Query *>(linitial(source->query_list)), parsed);
    parsed->relation_count = list_length(source->relationOids);
    parsed->relations =
        static_cast<Oid *>(palloc(sizeof(Oid) * static_cast<Size>(parsed->relation_count + 1)));
    for (int i = 0; i < parsed->relation_count; i++)
        parsed->relations[i] = list_nth_oid(source->relationOids, i);
    parsed->traits = catalog::query_traits(source->query_list, source->relationOids);
    parsed->combined = catalog::combined_relations(source->query_list);
    MemoryContextSwitchTo(before);
}

RawParsed parse(const char *sql, Oid key_type) {
    RawParsed parsed{};
    const MemoryContext keep = CurrentMemoryContext;
    Oid types[2] = {key_type, key_type};
    SPI_connect();
    SPIPlanPtr plan = SPI_prepare(sql, OidIsValid(key_type) ? 2 : 0, types);
    if (plan == nullptr)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    List *sources = SPI_plan_get_plan_sources(plan);
    if (list_length(sources) != 1)
        elog(ERROR, "a statement became %d statements", list_length(sources));
    copy_plan_source(static_cast<CachedPlanSource *>(linitial(sources)), keep, &parsed);
    SPI_finish();
    return parsed;
}

// A function's text is looked up when it runs, and a temporary table of the session
// comes before any other of that name there. The function is known to read it by the names
// in its text.
std::string temporary_in_bodies(const std::vector<Oid> &functions) {
    if (functions.empty())
        return "";
    const pg::PinnedSettings pinned;
    const pg::Result found = pg::query(R"SQL(
        SELECT format('table "%s", which function %s may read', c.relname, p.oid::regprocedure)
        FROM pg_proc AS p
        JOIN pg_language AS l ON l.oid = p.prolang
        JOIN pg_class AS c ON c.relnamespace = pg_my_temp_schema() AND c.relkind IN ('r', 'v', 'p', 'S')
        WHERE p.oid = ANY ($1) AND l.lanname NOT IN ('internal', 'c') AND p.prosqlbody IS NULL
          AND (lower(c.relname) = ANY (regexp_split_to_array(lower(p.prosrc), '[^[:alnum:]_$]+'))
               OR (c.relname ~ '[^[:alnum:]_$]' AND strpos(p.prosrc, c.relname) > 0))
        ORDER BY 1
        LIMIT 1
    )SQL",
                                       {functions});
    return found.empty() ? "" : found.rows.front().text(0);
}

} // namespace

std::string type_text(Oid type, int typmod) {
    const pg::CallersPath path;
    return pg::guard([&] { return format_type_with_typemod(type, typmod); });
}

ParsedQuery parse_query(const std::string &sql, const std::optional<catalog::RangeKey> &key) {
    const Oid type = key ? key->type : kNoOid;
    const auto parsed_as_meant = [&] {
        const pg::CallersPath path;
        return pg::guard([&] { return parse(sql.c_str(), type); });
    };
    const RawParsed raw = parsed_as_meant();
    ParsedQuery parsed;
    for (int i = 0; i < raw.count; i++)
        parsed.columns.push_back({raw.columns[i].name, raw.columns[i].type, raw.columns[i].typmod,
                                  raw.columns[i].collation, character_at(sql, raw.columns[i].location),
                                  raw.columns[i].origin != nullptr ? raw.columns[i].origin : ""});
    parsed.relations.assign(raw.relations, raw.relations + raw.relation_count);
    for (int i = 0; i < list_length(raw.combined); i++)
        parsed.combined.push_back(list_nth_oid(raw.combined, i));
    parsed.locks_rows = raw.traits.locks_rows;
    parsed.uses_start = raw.traits.uses_parameter[0];
    parsed.uses_end = raw.traits.uses_parameter[1];
    std::vector<Oid> functions;
    functions.reserve(list_length(raw.traits.functions));
    for (int i = 0; i < list_length(raw.traits.functions); i++)
        functions.push_back(list_nth_oid(raw.traits.functions, i));
    parsed.temporary =
        raw.traits.temporary != nullptr ? raw.traits.temporary : temporary_in_bodies(functions);
    return parsed;
}

std::set<std::string> untyped_columns(const std::string &sql, const std::optional<catalog::RangeKey> &key) {
    const Oid type = key ? key->type : kNoOid;
    const pg::CallersPath path;
    List *names = pg::guard([&] {
        List *found = NIL;
        const Oid types[2] = {type, type};
        ParseState *state = make_parsestate(nullptr);
        state->p_sourcetext = sql.c_str();
        state->p_resolve_unknowns = false;
        setup_parse_fixed_parameters(state, types, OidIsValid(type) ? 2 : 0);
        const Query *query = transformTopLevelStmt(
            state, static_cast<RawStmt *>(linitial(raw_parser(sql.c_str(), RAW_PARSE_DEFAULT))));
        for (int i = 0; i < list_length(query->targetList); i++) {
            const auto *entry = static_cast<TargetEntry *>(list_nth(query->targetList, i));
            if (!entry->resjunk && exprType(reinterpret_cast<Node *>(entry->expr)) == UNKNOWNOID)
                found = lappend(found, pstrdup(entry->resname));
        }
        free_parsestate(state);
        return found;
    });
    std::set<std::string> columns;
    for (int i = 0; i < list_length(names); i++)
        columns.emplace(static_cast<const char *>(list_nth(names, i)));
    return columns;
}

Oid named_relation(const std::string &text) {
    const pg::CallersPath path;
    return pg::guard([&] {
        List *names = NIL;
        if (!SplitIdentifierString(pstrdup(text.c_str()), '.', &names) || names == NIL ||
            list_length(names) > 3)
            return InvalidOid;
        // A name, and so no query: a name that no relation has is an error.
        List *strings = NIL;
        for (int i = 0; i < list_length(names); i++)
            strings = lappend(strings, makeString(static_cast<char *>(list_nth(names, i))));
        return RangeVarGetRelid(makeRangeVarFromNameList(strings), NoLock, false);
    });
}

std::string single_select(const std::string &text, const std::string &what, const std::string &subject) {
    const std::string begins = subject.empty() ? "The " + what : subject;
    struct Span {
        int statements;
        bool select;
        int start;
        int length;
    };
    const auto parsed = [&] {
        List *statements = raw_parser(text.c_str(), RAW_PARSE_DEFAULT);
        Span found{list_length(statements), false, 0, 0};
        if (found.statements == 1) {
            const auto *statement = static_cast<RawStmt *>(linitial(statements));
            found.select = IsA(statement->stmt, SelectStmt);
            found.start = statement->stmt_location;
            found.length = statement->stmt_len;
        }
        return found;
    };
    const Span span = showing_position_in(text, [&] { return pg::guard(parsed); });
    if (span.statements != 1)
        pg::raise(pg::sqlcode::kSyntaxError,
                  what == "source" ? "source must be the name of a relation or one query"
                                   : what + " must be one query",
                  begins + " has " + std::to_string(span.statements) + " statements.");
    if (!span.select)
        pg::raise(pg::sqlcode::kInvalidParameter, what + " must be a query that only reads",
                  begins + " is not a SELECT, VALUES, TABLE or WITH query.");
    const auto start = static_cast<size_t>(span.start);
    return span.length > 0 ? text.substr(start, static_cast<size_t>(span.length)) : text.substr(start);
}

namespace {

struct TableColumn {
    bool found;
    Oid type;
    int32 typmod;
    Oid collation;
};

TableColumn table_column(Oid table, const char *name) {
    TableColumn column{};
    Relation relation = table_open(table, AccessShareLock);
    const TupleDesc desc = RelationGetDescr(relation);
    for (int i = 0; i < desc->natts; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(desc, i);
        if (attribute->attisdropped || strcmp(NameStr(attribute->attname), name) != 0)
            continue;
        column = {true, attribute->atttypid, attribute->atttypmod, attribute->attcollation};
        break;
    }
    table_close(relation, NoLock);
    return column;
}

bool has_type_of(const TableColumn &wanted, const ResultColumn &source) {
    return source.type == wanted.type && (wanted.typmod == -1 || source.typmod == wanted.typmod);
}

// What an error says of a key, and of a value that is converted to its type.
struct KeyWords {
    const char *key;
    const char *consequence;
};
constexpr KeyWords kPartitionKey{"partition key",
                                 "could belong to another partition than the one that reads it"};
constexpr KeyWords kRowKey{"row key", "could be the key of another row than the one that is asked for"};

void check_key_column(const ResultColumn &source, const TableColumn &wanted, const KeyWords &words) {
    const std::string column_type = type_text(wanted.type, wanted.typmod);
    if (!has_type_of(wanted, source))
        raise_at(
            source.position, pg::sqlcode::kDatatypeMismatch,
            fmt::format("column \"{}\" of the source must have the type of the {}", source.name, words.key),
            fmt::format("The source gives {}, the key is {}: a value that is converted {}.",
                        type_text(source.type, source.typmod), column_type, words.consequence),
            "Cast it in the source: " + source.name + "::" + column_type + ".");
    if (source.collation != wanted.collation)
        raise_at(source.position, pg::sqlcode::kDatatypeMismatch,
                 fmt::format("column \"{}\" of the source must have the collation of the {}", source.name,
                             words.key),
                 "", "Use COLLATE in the source.");
}

} // namespace

void check_columns(const std::vector<ResultColumn> &columns, Oid table,
                   const std::set<std::string> &key_columns, const std::set<std::string> &row_key_columns) {
    for (const ResultColumn &column : columns) {
        const TableColumn wanted = pg::guard([&] { return table_column(table, column.name.c_str()); });
        if (!wanted.found)
            continue; // the caller of this function checks the names
        if (key_columns.contains(column.name))
            check_key_column(column, wanted, kPartitionKey);
        if (row_key_columns.contains(column.name))
            check_key_column(column, wanted, kRowKey);
        const bool assignable = pg::guard([&] {
            Node *value =
                reinterpret_cast<Node *>(makeVar(1, 1, column.type, column.typmod, column.collation, 0));
            return coerce_to_target_type(nullptr, value, column.type, wanted.type, wanted.typmod,
                                         COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1) != nullptr;
        });
        if (!assignable)
            raise_at(column.position, pg::sqlcode::kDatatypeMismatch,
                     "column \"" + column.name + "\" is of type " + type_text(wanted.type, wanted.typmod) +
                         " but the source gives " + type_text(column.type, column.typmod),
                     "", "Cast it in the source.");
    }
}

std::map<std::string, std::string> inexact_columns(const std::vector<ResultColumn> &columns, Oid table,
                                                   const std::set<std::string> &names) {
    std::map<std::string, std::string> found;
    for (const ResultColumn &column : columns) {
        if (!names.contains(column.name))
            continue;
        const TableColumn wanted = pg::guard([&] { return table_column(table, column.name.c_str()); });
        if (!has_type_of(wanted, column))
            found.emplace(column.name,
                          fmt::format("is {} in the source, not {}", type_text(column.type, column.typmod),
                                      type_text(wanted.type, wanted.typmod)));
        else if (column.collation != wanted.collation)
            found.emplace(column.name, "has another collation in the source");
    }
    return found;
}

} // namespace partbackfill::load
