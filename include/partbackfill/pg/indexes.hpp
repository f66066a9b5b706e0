// Making and building indexes. To be included after server.hpp; the functions report
// errors by longjmp: call them under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "utils/rel.h"
}

namespace partbackfill::pg {

// Makes an index; `parse_name` of the statement is resolved already. SHARE on the table.
Oid define_index(Oid table, IndexStmt *statement);

// Builds the index anew from its table's rows, unique and exclusion
// constraints checked. ACCESS EXCLUSIVE on the index.
void rebuild_index(Oid index, char persistence);

// The index of the primary key; InvalidOid when there is none.
Oid primary_key_index(Relation table);

// Whether ATTACH takes an index for one of the parent only when both belong to
// the same kind of constraint (17); CREATE INDEX and ADD CONSTRAINT never ask.
bool attach_minds_kinds();

} // namespace partbackfill::pg
