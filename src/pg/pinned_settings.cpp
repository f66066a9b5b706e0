#include "partbackfill/pg/pinned_settings.hpp"

namespace partbackfill::pg {

PinnedSettings::PinnedSettings() {
    set("DateStyle", "ISO, YMD");
    set("IntervalStyle", "postgres");
    set("extra_float_digits", "3");
    set("TimeZone", "UTC");
    set("default_tablespace", "");
    set("default_table_access_method", "heap");
    set("array_nulls", "on");
    set("quote_all_identifiers", "off");
    set("jit", "off");
    set("max_parallel_workers_per_gather", "0");
}

} // namespace partbackfill::pg
