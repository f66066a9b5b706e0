#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "utils/guc.h"
}

#include "partbackfill/pg/read_ahead.hpp"

namespace partbackfill::pg {

namespace {

// A query has to cost so many times what a worker costs to start.
constexpr double kSetupCosts = 5;

#if PG_VERSION_NUM >= 160000
constexpr const char *kGatherOnTop = "debug_parallel_query";
#else
constexpr const char *kGatherOnTop = "force_parallel_mode";
#endif

planner_hook_type previous = nullptr;
bool installed = false;
bool wanted = false;

// C-style: the server calls these functions.

bool is_worth_it(const PlannedStmt *plan, int options) {
    return (options & CURSOR_OPT_PARALLEL_OK) != 0 && plan->commandType == CMD_SELECT &&
           !plan->parallelModeNeeded && plan->planTree->parallel_safe &&
           plan->planTree->total_cost >= kSetupCosts * parallel_setup_cost;
}

// Since version 19 the planner's hook takes one more argument, the state of EXPLAIN.
template <class... More>
PlannedStmt *plan_query(Query *query, const char *text, int options, ParamListInfo params, More... more) {
    const planner_hook_type next = previous != nullptr ? previous : standard_planner;
    if (!wanted)
        return next(query, text, options, params, more...);
    wanted = false;
    // Planning changes the query.
    PlannedStmt *plan = next(static_cast<Query *>(copyObjectImpl(query)), text, options, params, more...);
    if (!is_worth_it(plan, options))
        return plan;
    // For this call of the planner alone: what runs later plans queries of its own.
    const int settings = NewGUCNestLevel();
    set_config_option(kGatherOnTop, "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    plan = next(query, text, options, params, more...);
    AtEOXact_GUC(false, settings);
    return plan;
}

} // namespace

ReadAhead::ReadAhead(bool wants) {
    if (!installed) {
        previous = planner_hook;
        planner_hook = plan_query;
        installed = true;
    }
    wanted = wants;
}

ReadAhead::~ReadAhead() {
    wanted = false;
}

} // namespace partbackfill::pg
