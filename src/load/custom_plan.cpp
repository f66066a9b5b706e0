#include "partbackfill/pg/server.hpp"

#include "partbackfill/load/custom_plan.hpp"
#include "partbackfill/pg/param_datum.hpp"

namespace partbackfill::load {

// Under the CallersPath of the two that use it.
SPIPlanPtr prepare_custom(const char *sql, const pg::Params &params, bool parallel) {
    auto *types = static_cast<Oid *>(palloc(sizeof(Oid) * (params.size() + 1)));
    for (size_t i = 0; i < params.size(); i++)
        types[i] = pg::type_oid(params[i]);
    const int options = CURSOR_OPT_CUSTOM_PLAN | (parallel ? CURSOR_OPT_PARALLEL_OK : 0);
    SPIPlanPtr plan = SPI_prepare_cursor(sql, static_cast<int>(params.size()), types, options);
    if (plan == nullptr)
        elog(ERROR, "SPI_prepare_cursor failed: %s", SPI_result_code_string(SPI_result));
    return plan;
}

} // namespace partbackfill::load
