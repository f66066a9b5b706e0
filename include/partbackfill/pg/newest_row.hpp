// The newest committed version of a row, whatever the transaction's snapshot.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::pg {

// A table with a bigint as its primary key, found once and read often. Numbers of
// columns by their names.
class KeyedTable {
public:
    // The names are the table's, its primary key's index's and its columns'. To be
    // called in a transaction; the table has to be there.
    KeyedTable(Oid table, Oid index, Row::Names columns);

    // The columns of the row with that key, intervals in seconds. Legal inside a
    // running query, in parallel mode too: no SPI, no snapshot of the query's.
    // Nothing when there is no such row. ACCESS SHARE on the table for a moment.
    std::optional<Row> find(std::int64_t key) const;

private:
    Oid table_;
    Oid index_;
    std::shared_ptr<const Row::Names> names_;
    std::vector<std::int16_t> numbers_;
};

} // namespace partbackfill::pg
