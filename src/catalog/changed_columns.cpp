#include "partbackfill/catalog/changed_columns.hpp"

#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

namespace {

// "<columns> <their versions> <file>"
std::string word(const std::string &text, int number) {
    std::size_t from = 0;
    for (int i = 0; i < number; i++)
        from = text.find(' ', from) + 1;
    return text.substr(from, text.find(' ', from) - from);
}

} // namespace

std::string columns_of(Oid table) {
    return pg::query_row(R"SQL(
        SELECT concat_ws(' ',
            md5(string_agg(format('%s %s %s %s %s', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation), ', ' ORDER BY a.attnum)),
            md5(string_agg(format('%s %s', a.attnum, a.xmin), ', ' ORDER BY a.attnum)),
            (SELECT c.relfilenode FROM pg_class AS c WHERE c.oid = $1))
        FROM pg_attribute AS a
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    )SQL",
                         {table})
        .text(0);
}

bool columns_changed(const std::string &before, const std::string &now) {
    return word(before, 0) != word(now, 0) ||
           (word(before, 1) != word(now, 1) && word(before, 2) != word(now, 2));
}

bool has_same_columns(Oid a, Oid b) {
    return pg::query(R"SQL(
        SELECT x.attname, x.atttypid, x.atttypmod, x.attcollation
        FROM pg_attribute AS x
        WHERE x.attrelid IN ($1, $2) AND x.attnum > 0 AND NOT x.attisdropped
        GROUP BY x.attname, x.atttypid, x.atttypmod, x.attcollation
        HAVING count(*) <> 2
    )SQL",
                     {a, b})
        .empty();
}

} // namespace partbackfill::catalog
