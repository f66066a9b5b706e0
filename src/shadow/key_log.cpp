#include "partbackfill/shadow/key_log.hpp"

#include <fmt/format.h>

#include "partbackfill/load/loader.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/shadow/job_schemas.hpp"

namespace partbackfill::shadow {

namespace {

std::string log_name(Oid partition) {
    return fmt::format("partbackfill_keys_{}", partition);
}

std::string qualified_name(std::int64_t job, Oid partition) {
    return pg::quote_qualified(new_schema(job), log_name(partition));
}

std::vector<int> numbers_of(const catalog::RowKey &key) {
    std::vector<int> numbers;
    for (const catalog::KeyColumn &column : key.columns)
        numbers.push_back(column.number);
    return numbers;
}

std::vector<Oid> types_of(const catalog::RowKey &key) {
    std::vector<Oid> types;
    for (const catalog::KeyColumn &column : key.columns)
        types.push_back(column.type);
    return types;
}

std::string definition_of(const catalog::RowKey &key) {
    std::string columns = "xid pg_catalog.xid8 NOT NULL";
    for (size_t i = 0; i < key.columns.size(); i++) {
        const catalog::KeyColumn &column = key.columns[i];
        columns += fmt::format(", k{} {}", i + 1, column.type_name);
        if (!column.collation_name.empty())
            columns += " COLLATE " + column.collation_name;
    }
    return columns;
}

} // namespace

std::optional<writes::KeyLog> find_key_log(std::int64_t job, Oid partition, const catalog::RowKey &key) {
    const pg::AsExtensionOwner owner;
    const pg::Result found =
        pg::query(R"SQL(
        SELECT c.oid::bigint
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relowner = $3 AND c.relrewrite = $4
          AND (SELECT array_agg(a.atttypid::oid ORDER BY a.attnum) FROM pg_attribute AS a
               WHERE a.attrelid = c.oid AND a.attnum > 1 AND NOT a.attisdropped) = $5
    )SQL",
                  {new_schema(job), log_name(partition), owner.extension().owner, partition, types_of(key)});
    if (found.empty())
        return std::nullopt;
    return writes::KeyLog{found.rows.front().oid(0), numbers_of(key)};
}

writes::KeyLog create_key_log(std::int64_t job, const catalog::Leaf &leaf, const catalog::RowKey &key) {
    const std::string name = qualified_name(job, leaf.oid);
    const pg::AsExtensionOwner owner;
    pg::execute(fmt::format("CREATE TABLE {} ({}) USING heap", name, definition_of(key)));
    pg::execute(
        fmt::format("GRANT SELECT ON {} TO {}", name, pg::quote_identifier(pg::role_name(leaf.owner))));
    pg::execute(R"SQL(
        UPDATE pg_class SET relrewrite = $3
        FROM pg_namespace AS n
        WHERE n.oid = relnamespace AND n.nspname = $1 AND relname = $2
    )SQL",
                {new_schema(job), log_name(leaf.oid), leaf.oid});
    pg::command_counter_increment();
    auto log = find_key_log(job, leaf.oid, key);
    if (!log)
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  fmt::format("the key log of partition \"{}\" is not as it was made", leaf.name),
                  "An event trigger may have changed it.");
    return *log;
}

void pass_key_log_on(std::int64_t job, Oid from, Oid to) {
    const Oid log = key_log_of(job, from);
    const pg::AsExtensionOwner owner;
    pg::execute(fmt::format("ALTER TABLE {} RENAME TO {}", qualified_name(job, from), log_name(to)));
    pg::execute("UPDATE pg_class SET relrewrite = $2 WHERE oid = $1", {log, to});
    pg::command_counter_increment();
}

void empty_key_log(Oid log) {
    const pg::AsExtensionOwner owner;
    load::set_new_files(log);
}

Oid key_log_of(std::int64_t job, Oid partition) {
    const pg::AsExtensionOwner owner;
    const pg::Result found = pg::query(R"SQL(
        SELECT c.oid::bigint FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relowner = $3
    )SQL",
                                       {new_schema(job), log_name(partition), owner.extension().owner});
    return found.empty() ? kNoOid : found.rows.front().oid(0);
}

void drop_key_log(std::int64_t job, Oid partition) {
    const pg::AsExtensionOwner owner;
    pg::execute(fmt::format("DROP TABLE {} CASCADE", qualified_name(job, partition)));
}

std::vector<Oid> logged_tables(std::int64_t job) {
    const pg::AsExtensionOwner owner;
    return pg::query(R"SQL(
        SELECT c.relrewrite::bigint
        FROM pg_namespace AS n
        JOIN pg_depend AS d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass
        JOIN pg_class AS c ON c.oid = d.objid
        WHERE n.nspname = $1 AND c.relowner = $2 AND c.relkind = 'r' AND c.relrewrite <> 0
          AND c.relname = 'partbackfill_keys_' || c.relrewrite
        ORDER BY 1
    )SQL",
                     {new_schema(job), owner.extension().owner})
        .oids();
}

} // namespace partbackfill::shadow
