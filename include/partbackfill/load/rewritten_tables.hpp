// Tables that were rewritten between the snapshot of a statement and the statement's locks.
//
// A statement locks what it reads after its snapshot was taken. Should a table get a new file in between,
// with rows that carry the transaction that wrote it anew, the snapshot sees none of them. Most commands keep
// the transactions of rows, or freeze them; ALTER TABLE and REPACK (CONCURRENTLY) do not.
#pragma once

namespace partbackfill::load {

// Raises lock_not_available when one of pg::tables_read() has another file than the active snapshot shows. To
// be called once the statement has run: its tables are locked to the end of the transaction. Reports errors
// by longjmp: to be called under guard().
void check_not_rewritten();

} // namespace partbackfill::load
