// Tables that were rewritten between the snapshot of a statement and the statement's locks. To be included
// after server.hpp.
//
// A statement locks what it reads after its snapshot was taken. Should a table get a new file in between,
// with rows that carry the transaction that wrote it anew, the snapshot sees none of them. Most commands
// write a row's former transaction, or freeze it; ALTER TABLE and REPACK (CONCURRENTLY) do not.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/plancache.h"
}

namespace partbackfill::load {

// Raises lock_not_available when a table that the statement has locked has another file than the active
// snapshot shows. To be called once the statement has run: its tables are locked to the end of the
// transaction. Reports errors by longjmp: to be called under guard().
void check_not_rewritten(const CachedPlanSource *statement);

} // namespace partbackfill::load
