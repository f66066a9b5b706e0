// Which tables statements read. To be included after server.hpp.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

namespace partbackfill::pg {

// Within its life the tables of each statement that this process executes are noted, of those in functions
// too, and partitions that the planner has left. One at a time, within one transaction.
class TablesRead {
public:
    TablesRead() noexcept;
    ~TablesRead();
    TablesRead(const TablesRead &) = delete;
    TablesRead &operator=(const TablesRead &) = delete;
};

// Their OIDs, each once, to the end of the transaction.
List *tables_read();

} // namespace partbackfill::pg
