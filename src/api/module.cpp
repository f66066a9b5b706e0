// The library's magic block, and what happens when it is loaded.
#include "partbackfill/pg/server.hpp"

#include "partbackfill/pg/compatibility.hpp"
#include "partbackfill/pg/guc.hpp"
#include "partbackfill/process/registration.hpp"

extern "C" {
PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

// With shared_preload_libraries a launcher resumes jobs after a restart.
void _PG_init(void) {
    partbackfill::pg::check_server();
    partbackfill::pg::define_settings();
    if (process_shared_preload_libraries_in_progress)
        partbackfill::process::register_launcher();
}
