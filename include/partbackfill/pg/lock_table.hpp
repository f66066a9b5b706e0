// The size of the server's lock table.
#pragma once

namespace partbackfill::pg {

// How many locks of all sessions it has room for, by the settings of the server.
long lock_table_size();

} // namespace partbackfill::pg
