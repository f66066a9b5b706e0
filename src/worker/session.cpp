#include "partbackfill/pg/server.hpp"

extern "C" {
#include "miscadmin.h"
#include "utils/guc.h"
}

#include "partbackfill/engine/polite_locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/settings.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/session.hpp"

namespace partbackfill::worker {

void override_session() {
    // ALTER ROLE or ALTER DATABASE ... SET role would make somebody else of the process.
    pg::override_for_session("role", "none");
    pg::override_for_session("statement_timeout", "0");
    pg::override_for_session("lock_timeout", "0");
    pg::override_for_session("idle_in_transaction_session_timeout", "0");
    if (GetConfigOption("transaction_timeout", true, false) != nullptr)
        pg::override_for_session("transaction_timeout", "0");
    pg::override_for_session("default_transaction_isolation", "read committed");
    pg::override_for_session("default_transaction_read_only", "off");
    pg::override_for_session("default_transaction_deferrable", "off");
    // What counts the attempts of a build must outlive the crash that the build may cause.
    if (pg::configured_value("synchronous_commit") == "off")
        pg::override_for_session("synchronous_commit", "local");
    // Of a deadlock the victim is the worker, whatever it is that it does.
    pg::force_for_session("deadlock_timeout", engine::kDeadlockTimeout);
    // A policy that would hide rows of the source is an error, not a loss.
    pg::override_for_session("row_security", "off");
}

void renew_session(std::int64_t id) {
    pg::Transaction transaction;
    std::vector<pg::Setting> settings;
    {
        job::ControlTables control;
        const auto job = control.find_job(id);
        if (job && job->owner == GetSessionUserId())
            settings = control.settings(id);
    }
    // The caller's search_path is for what the caller wrote only.
    std::optional<std::string> path;
    std::erase_if(settings, [&](const pg::Setting &setting) {
        if (setting.first == "search_path")
            path = setting.second;
        return setting.first == "search_path";
    });
    pg::reset_session();
    override_session();
    pg::set_caller(path);
    pg::set_for_session(settings);
    transaction.commit();
}

} // namespace partbackfill::worker
