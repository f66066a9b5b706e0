#include "partbackfill/catalog/comparison_query.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

namespace {

using Texts = std::vector<std::string>;

constexpr const char *kCollateC = " COLLATE pg_catalog.\"C\"";

std::string joined(const Texts &texts, const char *separator = ", ") {
    return fmt::format("{}", fmt::join(texts, separator));
}

// A row of values. Its text is that of its values' output functions, with NULL told from an empty text; a
// cast to text would be another function for some types.
std::string row_of(const Texts &values) {
    return fmt::format("ROW({})", joined(values));
}

std::string same_text(const std::string &a, const std::string &b) {
    return fmt::format("({}::pg_catalog.text OPERATOR(pg_catalog.=) {}::pg_catalog.text{})", row_of({a}),
                       row_of({b}), kCollateC);
}

std::string same_image(const Texts &a, const Texts &b) {
    return fmt::format("pg_catalog.record_image_eq({}, {})", row_of(a), row_of(b));
}

// Neither NULL nor unequal to itself. A composite value of NULLs is no NULL.
std::string is_null(const std::string &value) {
    return fmt::format("({} IS NOT DISTINCT FROM NULL)", value);
}

// The text of a value, NULL of NULL.
std::string text_of(const std::string &value) {
    return fmt::format("CASE WHEN {} THEN NULL ELSE pg_catalog.format('%s', {}) END", is_null(value), value);
}

// The columns of both tables, which the parts of a statement know as o.c1, n.c1, o.c2, n.c2 and so on.
class Columns {
public:
    explicit Columns(const ComparedTables &tables) : tables_(tables) {}

    std::size_t count() const { return tables_.columns.size(); }
    const ComparedColumn &at(std::size_t i) const { return tables_.columns.at(i); }
    static std::string old_value(std::size_t i) { return fmt::format("o.c{}", i + 1); }
    static std::string new_value(std::size_t i) { return fmt::format("n.c{}", i + 1); }

    // A table as it stands in FROM, with a column `here` that outer joins make NULL.
    std::string table(const std::string &name, const char *alias) const {
        std::string list = "true AS here";
        for (std::size_t i = 0; i < count(); i++)
            list += fmt::format(", t.{} AS c{}", pg::quote_identifier(at(i).name), i + 1);
        return fmt::format("(SELECT {} FROM ONLY {} AS t) AS {}", list, name, alias);
    }

    std::size_t number_of(const std::string &name) const {
        for (std::size_t i = 0; i < count(); i++)
            if (at(i).name == name)
                return i;
        pg::raise(pg::sqlcode::kInternal, fmt::format("key column \"{}\" is not compared", name));
    }

    // Rows that are paired by the key, and those of one or both sides that are not.
    std::string join(const char *kind) const {
        Texts equal;
        for (const KeyColumn &column : tables_.key->columns) {
            const std::size_t i = number_of(column.name);
            const std::string collate =
                column.collation_name.empty() ? "" : " COLLATE " + column.collation_name;
            equal.push_back(fmt::format("{} {} {}{}", old_value(i), column.equality, new_value(i), collate));
        }
        return fmt::format("{} {} JOIN {} ON {}", table(tables_.old_table, "o"), kind,
                           table(tables_.new_table, "n"), joined(equal, " AND "));
    }

    // Whether the values of a column are the same, of rows that are paired.
    std::string same(std::size_t i) const {
        const std::string a = old_value(i);
        const std::string b = new_value(i);
        const ComparedColumn &column = at(i);
        if (column.comparison == Comparison::text)
            return same_text(a, b);
        if (column.comparison == Comparison::image)
            return fmt::format("CASE WHEN {} THEN true ELSE {} END", same_image({a}, {b}), same_text(a, b));
        const std::string equal =
            fmt::format("{} OPERATOR(pg_catalog.=) {}{}", a, b, column.collates ? kCollateC : "");
        return column.may_be_null ? fmt::format("COALESCE({}, {} IS NULL AND {} IS NULL)", equal, a, b)
                                  : equal;
    }

    // False only if the rows differ in bytes: then each value is looked at. All values that have to be
    // compared in bytes are compared at once, which costs a fraction of each by itself.
    std::string alike() const {
        Texts conditions;
        Texts a;
        Texts b;
        for (std::size_t i = 0; i < count(); i++) {
            if (at(i).comparison != Comparison::image) {
                conditions.push_back(same(i));
                continue;
            }
            a.push_back(old_value(i));
            b.push_back(new_value(i));
        }
        if (!a.empty())
            conditions.push_back(same_image(a, b));
        return joined(conditions, " AND ");
    }

    // For each column whether it differs, of paired rows that differ in bytes; NULL of all others.
    std::string differences() const {
        Texts differ;
        for (std::size_t i = 0; i < count(); i++)
            differ.push_back(fmt::format("NOT ({})", same(i)));
        return fmt::format("CASE WHEN o.here AND n.here AND NOT ({}) THEN ARRAY[{}] END", alike(),
                           joined(differ));
    }

    // A row as jsonb. A value of a type without equality, json among them, is shown as its text.
    std::string json_of_row(const char *alias) const {
        Texts list;
        for (std::size_t i = 0; i < count(); i++)
            list.push_back(shown(fmt::format("{}.c{}", alias, i + 1), at(i)));
        return json_object(list);
    }

    std::string json_of_key() const {
        Texts list;
        for (const KeyColumn &column : tables_.key->columns) {
            const std::size_t i = number_of(column.name);
            list.push_back(shown(
                fmt::format("CASE WHEN o.here THEN {} ELSE {} END", old_value(i), new_value(i)), at(i)));
        }
        return json_object(list);
    }

    // jsonb of the old, then of the new values of a changed row that differ. Values whose jsonb would be the
    // same (-0 and 0) are shown as their text.
    std::string json_of_changes(const char *side) const {
        Texts values;
        for (std::size_t i = 0; i < count(); i++) {
            const std::string a = old_value(i);
            const std::string b = new_value(i);
            const std::string differs = fmt::format("NOT ({})", same(i));
            const auto json = [&](const std::string &value) {
                return at(i).without_equality
                           ? std::string("NULL::pg_catalog.jsonb")
                           : fmt::format("CASE WHEN {} THEN pg_catalog.to_jsonb({}) END", differs, value);
            };
            values.push_back(fmt::format("({}, {}, {}, {}, {}, {})",
                                         pg::quote_literal(at(i).name) + "::pg_catalog.text", differs,
                                         json(a), json(b), text_of(a), text_of(b)));
        }
        return fmt::format(R"SQL((
            SELECT pg_catalog.jsonb_object_agg(v.name, CASE
                       WHEN pg_catalog.record_image_eq(ROW(COALESCE(v.o, 'null')), ROW(COALESCE(v.n, 'null')))
                       THEN pg_catalog.to_jsonb(v.{0}_text) ELSE v.{0} END)
            FROM (VALUES {1}) AS v (name, differs, o, n, o_text, n_text) WHERE v.differs))SQL",
                           side, joined(values));
    }

    // The columns by which rows are the same row when there is no key, read from a table as t.
    Texts grouped() const {
        Texts values;
        Texts texts;
        for (std::size_t i = 0; i < count(); i++) {
            const std::string value = "t." + pg::quote_identifier(at(i).name);
            if (at(i).comparison == Comparison::equality)
                values.push_back(value + (at(i).collates ? kCollateC : ""));
            else
                texts.push_back(value);
        }
        if (!texts.empty() || values.empty())
            values.push_back(fmt::format("{}::pg_catalog.text{}", row_of(texts), kCollateC));
        return values;
    }

private:
    static std::string shown(const std::string &value, const ComparedColumn &column) {
        return fmt::format("{} AS {}", column.without_equality ? text_of(value) : value,
                           pg::quote_identifier(column.name));
    }

    static std::string json_object(const Texts &list) {
        return fmt::format("(SELECT pg_catalog.to_jsonb(r) FROM (SELECT {}) AS r)", joined(list));
    }

    const ComparedTables &tables_;
};

// A row for each row value: how often each table has it, and where it stands in each of them.
std::string row_groups(const ComparedTables &tables, const char *places) {
    const Texts grouped = Columns(tables).grouped();
    std::string list;
    std::string keys;
    for (std::size_t i = 0; i < grouped.size(); i++) {
        list += fmt::format(", {} AS g{}", grouped[i], i + 1);
        keys += fmt::format("{}u.g{}", i > 0 ? ", " : "", i + 1);
    }
    return fmt::format(R"SQL(
        SELECT pg_catalog.count(*) FILTER (WHERE u.is_old) AS o, pg_catalog.count(*) FILTER (WHERE NOT u.is_old) AS n{3}
        FROM (SELECT true AS is_old, t.ctid AS place{0} FROM ONLY {1} AS t
              UNION ALL
              SELECT false, t.ctid{0} FROM ONLY {2} AS t) AS u
        GROUP BY {4}
    )SQL",
                       list, tables.old_table, tables.new_table, places, keys);
}

std::string count_groups(const ComparedTables &tables) {
    return fmt::format(R"SQL(
        SELECT s.o AS old_rows, s.n AS new_rows, s.same, NULL AS changed, s.o OPERATOR(pg_catalog.-) s.same AS only_old,
               s.n OPERATOR(pg_catalog.-) s.same AS only_new
        FROM (SELECT COALESCE(pg_catalog.sum(g.o), 0) AS o, COALESCE(pg_catalog.sum(g.n), 0) AS n,
                     COALESCE(pg_catalog.sum(LEAST(g.o, g.n)), 0) AS same
              FROM ({}) AS g) AS s
    )SQL",
                       row_groups(tables, ""));
}

// A row that one table has more often is shown that many times.
std::string show_groups(const ComparedTables &tables) {
    constexpr const char *kPlaces = R"SQL(, pg_catalog.min(u.place) FILTER (WHERE u.is_old) AS old_place,
               pg_catalog.min(u.place) FILTER (WHERE NOT u.is_old) AS new_place)SQL";
    const Columns columns(tables);
    const auto row_at = [&](const std::string &table, const char *place) {
        std::string list = "t.ctid AS place";
        for (std::size_t i = 0; i < columns.count(); i++)
            list += fmt::format(", t.{} AS c{}", pg::quote_identifier(columns.at(i).name), i + 1);
        return fmt::format(
            "(SELECT {} FROM (SELECT {} FROM ONLY {} AS t WHERE t.ctid OPERATOR(pg_catalog.=) d.{}) AS r0)",
            columns.json_of_row("r0"), list, table, place);
    };
    return fmt::format(R"SQL(
        SELECT CASE WHEN s.in_old THEN 'only_old' ELSE 'only_new' END AS kind, NULL AS key,
               CASE WHEN s.in_old THEN s.row END AS old, CASE WHEN NOT s.in_old THEN s.row END AS new
        FROM (
            SELECT d.in_old, CASE WHEN d.in_old THEN {0} ELSE {1} END AS row
            FROM (SELECT g.o OPERATOR(pg_catalog.>) g.n AS in_old, g.old_place, g.new_place,
                         pg_catalog.abs(g.o OPERATOR(pg_catalog.-) g.n) AS surplus
                  FROM ({2}) AS g
                  WHERE g.o OPERATOR(pg_catalog.<>) g.n
                  LIMIT $1) AS d
            CROSS JOIN LATERAL pg_catalog.generate_series(1, LEAST(d.surplus, $1))
            LIMIT $1
        ) AS s
        ORDER BY s.in_old DESC, s.row::pg_catalog.text COLLATE pg_catalog."C"
    )SQL",
                       row_at(tables.old_table, "old_place"), row_at(tables.new_table, "new_place"),
                       row_groups(tables, kPlaces));
}

// OFFSET keeps the planner from computing the differences of a row once for each column that is counted. An
// outer join of one side and a count of the other side's rows: keys are unique, and before 16 the server
// hashes in parallel for no FULL JOIN.
std::string count_pairs(const ComparedTables &tables) {
    const Columns columns(tables);
    std::string counts;
    std::string names;
    for (std::size_t i = 1; i <= columns.count(); i++) {
        counts += fmt::format(", pg_catalog.count(*) FILTER (WHERE d.differs[{0}]) AS c{0}", i);
        names += fmt::format(", s.c{}", i);
    }
    return fmt::format(R"SQL(
        SELECT s.old_rows, n.new_rows, s.paired OPERATOR(pg_catalog.-) s.changed AS same, s.changed,
               s.old_rows OPERATOR(pg_catalog.-) s.paired AS only_old, n.new_rows OPERATOR(pg_catalog.-) s.paired AS only_new{0}
        FROM (SELECT pg_catalog.count(*) AS old_rows, pg_catalog.count(d.paired) AS paired,
                     pg_catalog.count(*) FILTER (WHERE true OPERATOR(pg_catalog.=) ANY (d.differs)) AS changed{1}
              FROM (SELECT n.here AS paired, {2} AS differs FROM {3} OFFSET '0') AS d) AS s
        CROSS JOIN (SELECT pg_catalog.count(*) AS new_rows FROM ONLY {4} AS t) AS n
    )SQL",
                       names, counts, columns.differences(), columns.join("LEFT"), tables.new_table);
}

std::string show_pairs(const ComparedTables &tables) {
    const Columns columns(tables);
    std::string keys;
    std::string order;
    for (std::size_t i = 0; i < tables.key->columns.size(); i++) {
        const KeyColumn &column = tables.key->columns[i];
        const std::size_t number = columns.number_of(column.name);
        keys += fmt::format(", CASE WHEN o.here THEN {} ELSE {} END AS k{}", Columns::old_value(number),
                            Columns::new_value(number), i + 1);
        order += fmt::format(", d.k{}{}", i + 1,
                             column.collation_name.empty() ? "" : " COLLATE " + column.collation_name);
    }
    return fmt::format(R"SQL(
        SELECT d.kind, d.key, d.old, d.new
        FROM (
            SELECT CASE WHEN n.here IS NULL THEN 'only_old' WHEN o.here IS NULL THEN 'only_new' ELSE 'changed' END AS kind,
                   {0} AS key,
                   CASE WHEN n.here IS NULL THEN {1} WHEN o.here IS NULL THEN NULL ELSE {3} END AS old,
                   CASE WHEN o.here IS NULL THEN {2} WHEN n.here IS NULL THEN NULL ELSE {4} END AS new{5}
            FROM {6}
            WHERE o.here IS NULL OR n.here IS NULL OR true OPERATOR(pg_catalog.=) ANY ({7})
            LIMIT $1
        ) AS d
        ORDER BY d.old IS NULL, d.new IS NULL{8}
    )SQL",
                       columns.json_of_key(), columns.json_of_row("o"), columns.json_of_row("n"),
                       columns.json_of_changes("o"), columns.json_of_changes("n"), keys, columns.join("FULL"),
                       columns.differences(), order);
}

} // namespace

std::string counting_query(const ComparedTables &tables) {
    return tables.key ? count_pairs(tables) : count_groups(tables);
}

std::string showing_query(const ComparedTables &tables) {
    return tables.key ? show_pairs(tables) : show_groups(tables);
}

} // namespace partbackfill::catalog
