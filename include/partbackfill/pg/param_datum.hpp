// Parameters as the server's values. To be included after server.hpp; the
// functions report errors by longjmp: call them under guard().
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/params.h"
}

#include "partbackfill/pg/query.hpp"

namespace partbackfill::pg {

// The parameter's type.
Oid type_oid(const Param &param);

// The parameter's value, in the current memory context; not to be called for NULL.
Datum to_datum(const Param &param);

// Parameters of a plan, constant for the planner, in the current memory context.
ParamListInfo param_list(const Params &params);

} // namespace partbackfill::pg
