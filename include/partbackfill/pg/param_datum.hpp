// Parameters as the server's values. To be included after server.hpp; the
// functions report errors by longjmp: call them under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

#include "partbackfill/pg/query.hpp"

namespace partbackfill::pg {

Oid type_oid(const Param &param);
// The value, in the current memory context; 0 for NULL is the caller's to see.
Datum to_datum(const Param &param);

} // namespace partbackfill::pg
