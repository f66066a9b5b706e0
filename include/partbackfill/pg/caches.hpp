// The session's caches of the catalogs.
#pragma once

namespace partbackfill::pg {

// Empties the caches, which the server never does by itself: a session that works on thousands of
// tables would keep the descriptions of all of them. Kept plans are made anew. Within a transaction.
void empty_caches();

} // namespace partbackfill::pg
