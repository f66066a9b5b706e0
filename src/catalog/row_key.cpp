#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/typcache.h"
}

#include <map>

#include <fmt/format.h>

#include "partbackfill/catalog/row_key.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

namespace {

// A row for each key column of each unique index of the tables ($1); the indexes of a table in the
// order in which they are preferred. `problem` is why the index is no row key, by this column or as a
// whole.
constexpr const char *kCandidates = R"SQL(
    SELECT i.indrelid::bigint AS "table", i.indexrelid::bigint AS index, ic.relname AS index_name, a.attname AS name,
           COALESCE(a.attnum, 0) AS number, COALESCE(a.atttypid, 0)::bigint AS type, COALESCE(a.atttypmod, -1) AS typmod,
           i.indcollation[at.n - 1]::bigint AS collation,
           COALESCE(quote_ident(cn.nspname) || '.' || quote_ident(co.collname), '') AS collation_name,
           COALESCE(o.oid, 0)::bigint AS operator, format('OPERATOR(%I.%s)', onsp.nspname, o.oprname) AS equality,
           CASE
               WHEN am.amname <> 'btree' THEN 'is not a B-tree'
               WHEN NOT (i.indisvalid AND i.indisready AND i.indislive) THEN 'is not valid'
               WHEN NOT i.indimmediate THEN 'is deferrable'
               WHEN i.indpred IS NOT NULL THEN 'has only some of the rows'
               WHEN a.attnum IS NULL THEN 'has an expression'
               -- A column may be marked by a constraint that is not valid yet.
               WHEN NOT a.attnotnull OR EXISTS (SELECT FROM pg_constraint AS k
                                                WHERE k.conrelid = i.indrelid AND k.contype = 'n' AND NOT k.convalidated
                                                  AND k.conkey = ARRAY [a.attnum])
               THEN 'has column ' || quote_ident(a.attname) || ', which may be NULL'
               WHEN a.attgenerated <> '' THEN 'has column ' || quote_ident(a.attname) || ', which is generated'
           END AS problem,
           CASE WHEN i.indisprimary THEN 'primary key ' WHEN i.indisreplident THEN 'replica identity ' ELSE 'unique index ' END
               || quote_ident(ic.relname) AS title,
           quote_ident(opc.opcname) AS operator_class
    FROM pg_index AS i
    JOIN pg_class AS ic ON ic.oid = i.indexrelid
    JOIN pg_am AS am ON am.oid = ic.relam
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS at (attnum, n)
    JOIN pg_opclass AS opc ON opc.oid = i.indclass[at.n - 1]
    LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = at.attnum AND a.attnum > 0
    LEFT JOIN pg_collation AS co ON co.oid = i.indcollation[at.n - 1]
    LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
    LEFT JOIN pg_amop AS op
           ON op.amopfamily = opc.opcfamily AND op.amoplefttype = opc.opcintype AND op.amoprighttype = opc.opcintype
          AND op.amopstrategy = 3
    LEFT JOIN pg_operator AS o ON o.oid = op.amopopr
    LEFT JOIN pg_namespace AS onsp ON onsp.oid = o.oprnamespace
    WHERE i.indrelid = ANY ($1) AND i.indisunique AND at.n <= i.indnkeyatts
    ORDER BY i.indrelid, i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, ic.relname, i.indexrelid, at.n
)SQL";

// What the server says of types, asked once for each.
class Types {
public:
    // The operator by which DISTINCT compares values of the type.
    Oid equality(Oid type) {
        const auto [known, is_new] = equalities_.try_emplace(type, kNoOid);
        if (is_new)
            known->second = pg::guard([&] { return lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr; });
        return known->second;
    }

    const std::string &name(Oid type, int typmod) {
        const auto [known, is_new] = names_.try_emplace({type, typmod});
        if (is_new)
            known->second = pg::guard([&] {
                return format_type_extended(type, typmod,
                                            FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
            });
        return known->second;
    }

private:
    std::map<Oid, Oid> equalities_;
    std::map<std::pair<Oid, int>, std::string> names_;
};

// A unique index, read column by column.
struct Candidate {
    RowKey key;
    std::string problem; // with the index; the first one
};

KeyColumn column_of(const pg::Row &row, Types &types) {
    KeyColumn column;
    column.name = row.text("name");
    column.number = static_cast<int>(row.integer("number"));
    column.type = row.oid("type");
    column.typmod = static_cast<int>(row.integer("typmod"));
    column.collation = row.oid("collation");
    column.type_name = types.name(column.type, column.typmod);
    column.collation_name = row.text("collation_name");
    column.equality = row.text("equality");
    return column;
}

std::string problem_of(const pg::Row &row, Types &types) {
    if (!row.is_null("problem"))
        return row.text("problem");
    const Oid equality = row.oid("operator");
    if (equality != kNoOid && equality == types.equality(row.oid("type")))
        return "";
    return fmt::format("compares column {} by operator class {}, which has another equality than its type",
                       pg::quote_identifier(row.text("name")), row.text("operator_class"));
}

void add_column(const pg::Row &row, Types &types, Candidate &candidate) {
    if (!candidate.problem.empty())
        return;
    if (const std::string problem = problem_of(row, types); !problem.empty())
        candidate.problem = row.text("title") + " " + problem;
    else
        candidate.key.columns.push_back(column_of(row, types));
}

KeyFinding finding_of(Oid table, std::vector<Candidate> candidates) {
    for (Candidate &candidate : candidates)
        if (candidate.problem.empty())
            return {table, std::move(candidate.key), ""};
    if (candidates.empty())
        return {table, std::nullopt, "has no primary key, and no other unique index"};
    return {table, std::nullopt, "has no usable key: " + candidates.front().problem};
}

} // namespace

std::string RowKey::column_list() const {
    std::string list;
    for (const KeyColumn &column : columns)
        list += (list.empty() ? "" : ", ") + pg::quote_identifier(column.name);
    return list;
}

std::vector<KeyFinding> find_row_keys(const std::vector<Oid> &tables, pg::Read read) {
    Types types;
    std::map<Oid, std::vector<Candidate>> candidates;
    for (const pg::Row &row : pg::query(kCandidates, {tables}, read).rows) {
        std::vector<Candidate> &of_table = candidates[row.oid("table")];
        if (of_table.empty() || of_table.back().key.index != row.oid("index"))
            of_table.push_back({{row.oid("index"), row.text("index_name"), {}}, ""});
        add_column(row, types, of_table.back());
    }
    std::vector<KeyFinding> findings;
    findings.reserve(tables.size());
    for (const Oid table : tables)
        findings.push_back(finding_of(table, candidates[table]));
    return findings;
}

std::optional<RowKey> find_row_key(Oid table, pg::Read read) {
    return find_row_keys({table}, read).front().key;
}

Oid index_with_key(Oid table, const RowKey &key, pg::Read read) {
    std::vector<std::string> names;
    names.reserve(key.columns.size());
    for (const KeyColumn &column : key.columns)
        names.push_back(column.name);
    const pg::Result found = pg::query(R"SQL(
        SELECT i.indexrelid::bigint
        FROM pg_index AS known
        JOIN pg_index AS i ON i.indrelid = $1 AND i.indclass = known.indclass AND i.indcollation = known.indcollation
        JOIN pg_class AS ic ON ic.oid = i.indexrelid
        WHERE known.indexrelid = $2 AND i.indisunique AND i.indimmediate AND i.indpred IS NULL
          AND i.indisvalid AND i.indisready AND i.indislive
          AND $3::text[] = ARRAY (SELECT a.attname::text
                                  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS at (attnum, n)
                                  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = at.attnum
                                  WHERE at.n <= i.indnkeyatts
                                  ORDER BY at.n)
        ORDER BY i.indisprimary DESC, ic.relname
        LIMIT 1
    )SQL",
                                       {table, key.index, names}, read);
    return found.empty() ? kNoOid : found.rows.front().oid(0);
}

} // namespace partbackfill::catalog
