#include "partbackfill/pg/server.hpp"

extern "C" {
#include "pgstat.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
#include "utils/snapmgr.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/probe.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::pg {

namespace {

// Restores, at the end of its life, what the process reports of its progress: the end of a
// subtransaction wipes that out.
class KeepProgress {
public:
    KeepProgress() {
        if (MyBEEntry == nullptr)
            return;
        command_ = MyBEEntry->st_progress_command;
        target_ = MyBEEntry->st_progress_command_target;
        for (int i = 0; i < PGSTAT_NUM_PROGRESS_PARAM; i++) {
            numbers_[i] = i;
            values_[i] = MyBEEntry->st_progress_param[i];
        }
    }
    ~KeepProgress() {
        if (command_ == PROGRESS_COMMAND_INVALID)
            return;
        pgstat_progress_start_command(command_, target_);
        pgstat_progress_update_multi_param(PGSTAT_NUM_PROGRESS_PARAM, numbers_, values_);
    }
    KeepProgress(const KeepProgress &) = delete;
    KeepProgress &operator=(const KeepProgress &) = delete;

private:
    ProgressCommandType command_ = PROGRESS_COMMAND_INVALID;
    Oid target_ = kNoOid;
    int numbers_[PGSTAT_NUM_PROGRESS_PARAM] = {};
    int64 values_[PGSTAT_NUM_PROGRESS_PARAM] = {};
};

} // namespace

bool can_probe() {
    return !IsInParallelMode();
}

Answer probe(const std::string &query) {
    const ReadOnlyScope read_only;
    guard([] { pgstat_clear_snapshot(); }); // or pg_stat_activity would stand still in the transaction
    const KeepProgress progress;
    const Subtransaction always_rolled_back;
    try {
        const SnapshotScope now;
        const CallersPath path;
        // The newline ends a comment that the query may end with.
        const Result result =
            pg::query("SELECT * FROM (" + query + "\n) AS probe LIMIT 1", {}, Read::active_snapshot);
        return {result.empty() ? std::nullopt : result.rows.front().field(0), ""};
    } catch (const Error &error) {
        return {std::nullopt, error.fields().message};
    }
}

} // namespace partbackfill::pg
