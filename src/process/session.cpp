#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "utils/guc.h"
}

#include "partbackfill/job/job_table.hpp"
#include "partbackfill/locks/table_locks.hpp"
#include "partbackfill/pg/citus_settings.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/session_settings.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/process/session.hpp"

namespace partbackfill::process {

void override_session() {
    // ALTER ROLE or ALTER DATABASE ... SET role would have the process run as another role.
    pg::override_for_session("role", "none");
    pg::override_for_session("statement_timeout", "0");
    pg::override_for_session("lock_timeout", "0");
    pg::override_for_session("idle_in_transaction_session_timeout", "0");
    if (GetConfigOption("transaction_timeout", true, false) != nullptr)
        pg::override_for_session("transaction_timeout", "0");
    pg::override_for_session("default_transaction_isolation", "read committed");
    pg::override_for_session("default_transaction_read_only", "off");
    pg::override_for_session("default_transaction_deferrable", "off");
    // The count of attempts must survive a crash that the build causes.
    if (pg::configured_value("synchronous_commit") == "off")
        pg::override_for_session("synchronous_commit", "local");
    // The worker is the victim of a deadlock, whatever it does.
    pg::force_for_session("deadlock_timeout", locks::kDeadlockTimeout);
    // Version 19 logs a wait of that length by default; the views tell of waits.
    pg::force_for_session("log_lock_waits", "off");
    // A policy that would hide rows of the source is an error, not a loss.
    pg::override_for_session("row_security", "off");
    pg::switch_citus_off_for_session();
}

void renew_session(std::int64_t id) {
    pg::Transaction transaction;
    std::vector<pg::Setting> settings;
    {
        const pg::AsExtensionOwner owner;
        const auto job = job::JobTable(owner).find(id);
        if (job && job->owner == GetSessionUserId())
            settings = job::JobTable(owner).settings(id);
    }
    // The caller's search_path holds only where the caller's own SQL runs (CallersPath).
    std::optional<std::string> path;
    std::erase_if(settings, [&](const pg::Setting &setting) {
        if (setting.first == pg::kSearchPath)
            path = setting.second;
        return setting.first == pg::kSearchPath;
    });
    pg::reset_session();
    override_session();
    pg::set_caller(path);
    pg::set_for_session(settings);
    transaction.commit();
}

} // namespace partbackfill::process
