#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "utils/guc.h"
}

#include <algorithm>

#include "partbackfill/pg/guc.hpp"

namespace partbackfill::pg {

namespace {

char *injection_point = nullptr;
int crash_pause_ms = 30000;
int most_workers = -1;
int helpers = static_cast<int>(Helpers::where_idle);

const config_enum_entry kHelpers[] = {{"auto", static_cast<int>(Helpers::where_idle), false},
                                      {"on", static_cast<int>(Helpers::always), false},
                                      {"off", static_cast<int>(Helpers::never), false},
                                      {nullptr, 0, false}};

} // namespace

void define_settings() {
    DefineCustomStringVariable("partbackfill.injection_point",
                               "For tests: where a worker stops, fails or dies.", nullptr, &injection_point,
                               "", PGC_SUSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("partbackfill.crash_pause",
                            "How long a partition whose worker died is left alone, times its attempts.",
                            nullptr, &crash_pause_ms, crash_pause_ms, 0, 3600000, PGC_SIGHUP, GUC_UNIT_MS,
                            nullptr, nullptr, nullptr);
    DefineCustomIntVariable("partbackfill.max_workers",
                            "How many workers of all jobs in the server may run at once.",
                            "-1 is three quarters of max_worker_processes.", &most_workers, most_workers, -1,
                            0x3FFFF, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable("partbackfill.helpers",
                             "Whether parallel workers read ahead for a build and build its indexes.",
                             "auto: where a processor is idle.", &helpers, helpers, kHelpers, PGC_USERSET, 0,
                             nullptr, nullptr, nullptr);
    MarkGUCPrefixReserved("partbackfill");
}

const char *injection_point_setting() {
    return injection_point != nullptr ? injection_point : "";
}

bool max_workers_is_set() {
    return most_workers >= 0;
}

int max_workers() {
    return most_workers >= 0 ? most_workers : std::max(1, max_worker_processes * 3 / 4);
}

Helpers helpers_setting() {
    return static_cast<Helpers>(helpers);
}

std::chrono::milliseconds crash_pause_unit() {
    return std::chrono::milliseconds(crash_pause_ms);
}

} // namespace partbackfill::pg
