// Files of relations: new ones, and those that two relations exchange. To be included
// after server.hpp; the functions report errors by longjmp: call them under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "catalog/pg_class.h"
#include "utils/relcache.h"
}

namespace partbackfill::pg {

// Gives the relation a new, empty file in this transaction.
void set_new_file(Relation relation);

// Whether the relation got its present file in the present subtransaction:
// only then may rows be written as frozen.
bool file_is_of_this_subtransaction(Relation relation);

// Exchanges pg_class.relallfrozen of the two relations (18).
void exchange_all_frozen(Form_pg_class a, Form_pg_class b);

// Exchanges what the relation cache knows of files made in this transaction, for two
// relations that have exchanged their files.
void exchange_file_history(Relation a, Relation b);

} // namespace partbackfill::pg
