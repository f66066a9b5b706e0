#include "partbackfill/pg/server.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
}

#include "partbackfill/catalog/compared_tables.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

namespace {

// Types whose equality is that of their text; under the collation "C", where they have collations. Neither
// those of floating point (-0), numeric (scale), bpchar (spaces at the end), interval and jsonb, nor what is
// made of others.
constexpr const char *kColumns = R"SQL(
    SELECT COALESCE(n.attname, o.attname) AS name, o.attnum IS NOT NULL AS in_old, n.attnum IS NOT NULL AS in_new,
           COALESCE(o.atttypid = n.atttypid, false) AS same_type, COALESCE(n.atttypid, 0)::bigint AS type,
           COALESCE(n.attcollation <> 0, false) AS collates,
           NOT COALESCE(o.attnotnull AND n.attnotnull, false) AS may_be_null,
           COALESCE(t.typtype = 'e', false) AS is_enum
    FROM (SELECT * FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped) AS o
    FULL JOIN (SELECT * FROM pg_attribute WHERE attrelid = $2 AND attnum > 0 AND NOT attisdropped) AS n
           ON n.attname = o.attname
    LEFT JOIN pg_type AS t ON t.oid = n.atttypid
    ORDER BY n.attnum, o.attnum
)SQL";

bool is_exact(Oid base_type) {
    switch (base_type) {
    case BOOLOID:
    case CHAROID:
    case NAMEOID:
    case INT2OID:
    case INT4OID:
    case INT8OID:
    case OIDOID:
    case TEXTOID:
    case VARCHAROID:
    case BYTEAOID:
    case DATEOID:
    case TIMEOID:
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
    case UUIDOID:
    case PG_LSNOID:
        return true;
    default:
        return false;
    }
}

Comparison comparison_of(const pg::Row &row) {
    if (!row.boolean("same_type"))
        return Comparison::text;
    const Oid type = row.oid("type");
    return row.boolean("is_enum") || is_exact(pg::guard([&] { return getBaseType(type); }))
               ? Comparison::equality
               : Comparison::image;
}

bool has_equality(Oid type) {
    return pg::guard([&] { return OidIsValid(lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr); });
}

std::string qualified_name(Oid table) {
    const pg::Row row = pg::query(R"SQL(
        SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = $1
    )SQL",
                                  {table}, pg::Read::active_snapshot)
                            .rows.at(0);
    return row.text(0);
}

// FULL JOIN takes no other operators.
bool can_join(const RowKey &key) {
    return pg::query(R"SQL(
        SELECT COALESCE(bool_and(o.oprcanmerge) OR bool_and(o.oprcanhash), false)
        FROM pg_index AS i
        CROSS JOIN LATERAL unnest(i.indclass::oid[]) WITH ORDINALITY AS class (oid, n)
        JOIN pg_opclass AS opc ON opc.oid = class.oid
        JOIN pg_amop AS op ON op.amopfamily = opc.opcfamily AND op.amoplefttype = opc.opcintype
                          AND op.amoprighttype = opc.opcintype AND op.amopstrategy = 3
        JOIN pg_operator AS o ON o.oid = op.amopopr
        WHERE i.indexrelid = $1 AND class.n <= i.indnkeyatts
    )SQL",
                     {key.index}, pg::Read::active_snapshot)
        .rows.at(0)
        .boolean(0);
}

// The key by which the partition is caught up with, which the new table has as the old one.
std::optional<RowKey> common_key(Oid old_table, Oid new_table) {
    std::optional<RowKey> key = find_row_key(new_table, pg::Read::active_snapshot);
    if (!key || index_with_key(old_table, *key, pg::Read::active_snapshot) == kNoOid || !can_join(*key))
        return std::nullopt;
    return key;
}

} // namespace

std::vector<std::string> ComparedTables::without_equality() const {
    std::vector<std::string> names;
    for (const ComparedColumn &column : columns)
        if (column.without_equality)
            names.push_back(column.name);
    return names;
}

ComparedTables compare_definitions(Oid old_table, Oid new_table) {
    ComparedTables tables;
    tables.old_table = qualified_name(old_table);
    tables.new_table = qualified_name(new_table);
    for (const pg::Row &row : pg::query(kColumns, {old_table, new_table}, pg::Read::active_snapshot).rows) {
        const std::string &name = row.text("name");
        if (!row.boolean("in_old"))
            tables.only_new.push_back(name);
        else if (!row.boolean("in_new"))
            tables.only_old.push_back(name);
        else
            tables.columns.push_back({name, comparison_of(row), row.boolean("collates"),
                                      row.boolean("may_be_null"), !has_equality(row.oid("type"))});
    }
    tables.key = common_key(old_table, new_table);
    return tables;
}

} // namespace partbackfill::catalog
