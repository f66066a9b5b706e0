#include "partbackfill/job/control_tables.hpp"

#include "partbackfill/job/announcement.hpp"

#include <random>

namespace partbackfill::job {

using namespace std::string_literals;

namespace {

constexpr const char *kDue = "(c.not_before IS NULL OR c.not_before <= clock_timestamp()) AND ";
// Built, tried, and in nobody's hands; one of whose tries workers died keeps its pause.
constexpr const char *kWaitsForSwap = "c.state = 'ready' AND c.worker_pid IS NULL AND c.orphaned = 0";

Partition partition_of(const pg::Row &row) {
    Partition partition;
    partition.job = row.integer(0);
    partition.ordinal = static_cast<int>(row.integer(1));
    partition.live = row.oid(2);
    partition.name = row.text(3);
    partition.bound = row.text(4);
    partition.range_start = row.field(5);
    partition.range_end = row.field(6);
    partition.state = core::partition_state(row.text(7));
    partition.attempts = static_cast<int>(row.integer(8));
    partition.swap_attempts = static_cast<int>(row.integer(9));
    partition.constraint = row.field(10);
    partition.shadow = row.is_null(11) ? kNoOid : row.oid(11);
    partition.rows = row.integer(12);
    partition.fingerprint = row.text(13);
    partition.proof = row.oid(14);
    partition.rebuilds = static_cast<int>(row.integer(15));
    partition.built = row.boolean(16);
    partition.held = row.boolean(17);
    partition.orphaned = static_cast<int>(row.integer(18));
    if (!row.is_null(19))
        partition.rows_before = row.integer(19);
    return partition;
}

std::int64_t new_token() {
    std::random_device device;
    return static_cast<std::int64_t>((static_cast<std::uint64_t>(device()) << 31) ^ device());
}

} // namespace

bool ControlTables::keep_running(std::int64_t job) {
    return !run("SELECT FROM {s}.backfill_job WHERE job = $1 AND state = $2 FOR SHARE SKIP LOCKED",
                {job, core::name(core::JobState::running)})
                .empty();
}

// `condition` goes on after WHERE, its parameters from $4 on.
std::vector<Partition> ControlTables::candidates(const Job &job, const std::string &condition,
                                                 const pg::Params &more_params) {
    // By attach a build whose source reads the target would itself hold up a swap that
    // waits: none begins while there is one, unless builds are over before one would be
    // missed; then several are swapped in one pause of those who read. A build that
    // keeps writers out would wait for another. One that may have crashed the server is
    // built alone: others would lose an attempt each time that it does.
    pg::Params params{job.id, core::sources(core::PartitionEvent::claim), job.owner};
    params.insert(params.end(), more_params.begin(), more_params.end());
    const pg::Result result = run(R"SQL(
        SELECT c.job, c.ordinal, c.partition_oid::bigint, c.partition, c.partition_bound, c.range_start,
               c.range_end, c.state, c.attempts, c.swap_attempts, c.partition_constraint, c.shadow_oid::bigint,
               COALESCE(c.rows, 0), COALESCE(c.fingerprint, ''), COALESCE(c.proof_oid, 0)::bigint, c.rebuilds,
               c.built, c.worker_pid IS NOT NULL, c.orphaned, c.rows_before
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job
        CROSS JOIN (SELECT COALESCE(bool_or(state = 'failed'), false) AS failed,
                           count(*) FILTER (WHERE state = 'ready') AS ready,
                           max(build_time) AS longest_build,
                           COALESCE(bool_or(state = 'running'), false) AS running,
                           COALESCE(bool_or(state = 'running' AND suspect), false) AS suspect
                    FROM {s}.backfill_control
                    WHERE job = $1) AS others
        WHERE c.job = $1
          AND j.owner = $3
          AND c.state = ANY ($2)
          AND (c.state <> 'pending'
               OR NOT (j.on_error = 'stop' AND others.failed
                       OR others.suspect OR others.running AND c.suspect
                       OR j.reads_target AND j.swap = 'attach' AND others.ready > 0
                          AND (others.ready >= 8 OR others.longest_build > interval '1 s')
                       OR j.on_write = 'block' AND others.running))
          AND )SQL" + condition,
                                  params);
    std::vector<Partition> partitions;
    for (const pg::Row &row : result.rows)
        partitions.push_back(partition_of(row));
    return partitions;
}

std::optional<Partition> ControlTables::candidate(const Job &job, const std::string &condition,
                                                  const pg::Params &more_params) {
    const std::vector<Partition> found = candidates(job, condition, more_params);
    return found.empty() ? std::nullopt : std::optional(found.front());
}

std::optional<Partition> ControlTables::next_candidate(const Job &job, const std::vector<int> &passed) {
    std::vector<std::string> ordinals;
    ordinals.reserve(passed.size());
    for (const int ordinal : passed)
        ordinals.push_back(std::to_string(ordinal));
    return candidate(
        job, kDue + "c.ordinal <> ALL ($4::integer[]) ORDER BY c.state = 'ready' DESC, c.ordinal LIMIT 1"s,
        {ordinals});
}

std::optional<Partition> ControlTables::lock_candidate(const Job &job, int ordinal) {
    // Not waited for: others of the job would wait for this worker meanwhile.
    return candidate(job, kDue + "c.ordinal = $4 FOR UPDATE OF c SKIP LOCKED"s, {ordinal});
}

std::optional<Partition> ControlTables::lock_waiting(const Job &job, int ordinal) {
    return candidate(job, kWaitsForSwap + " AND c.ordinal = $4 FOR UPDATE OF c SKIP LOCKED"s, {ordinal});
}

std::vector<Partition> ControlTables::waiting_for_swap(const Job &job, int limit) {
    return candidates(job, kWaitsForSwap + " ORDER BY c.ordinal LIMIT $4"s, {limit});
}

void ControlTables::give_back_if_paused(Partition &partition) {
    const bool built = partition.state == core::PartitionState::ready;
    if (!built && partition.state != core::PartitionState::running)
        return;
    const core::PartitionState to =
        built ? partition.state : core::next(partition.state, core::PartitionEvent::pause);
    if (run(R"SQL(
            UPDATE {s}.backfill_control
            SET state = $4, claim = NULL, worker_pid = NULL, waiting_on = NULL,
                attempts = attempts - CASE WHEN $4 = $5 THEN 0 ELSE 1 END
            WHERE job = $1 AND ordinal = $2 AND claim = $3 AND state = $5
              AND EXISTS (SELECT FROM {s}.backfill_job AS j WHERE j.job = $1 AND j.state = $6)
        )SQL",
            {partition.job, partition.ordinal, partition.claim, core::name(to), core::name(partition.state),
             core::name(core::JobState::paused)})
            .processed == 1)
        partition.state = to;
}

void ControlTables::move(Partition &partition, core::PartitionEvent event, const std::string &more,
                         const pg::Params &more_params) {
    const core::PartitionState to = core::next(partition.state, event);
    pg::Params params{partition.job, partition.ordinal, partition.claim, core::name(partition.state),
                      core::name(to)};
    params.insert(params.end(), more_params.begin(), more_params.end());
    const pg::Result result = run("UPDATE {s}.backfill_control SET state = $5" + more +
                                      " WHERE job = $1 AND ordinal = $2 AND claim = $3 AND state = $4",
                                  params);
    if (result.processed != 1)
        throw LostClaim();
    partition.state = to;
}

void ControlTables::change(const Partition &partition, const std::string &assignments,
                           const pg::Params &more_params) {
    pg::Params params{partition.job, partition.ordinal, partition.claim};
    params.insert(params.end(), more_params.begin(), more_params.end());
    const pg::Result result = run("UPDATE {s}.backfill_control SET " + assignments +
                                      " WHERE job = $1 AND ordinal = $2 AND claim = $3",
                                  params);
    if (result.processed != 1)
        throw LostClaim();
}

void ControlTables::claim(Partition &partition) {
    const core::PartitionState to = core::next(partition.state, core::PartitionEvent::claim);
    partition.claim = new_token();
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $3, claim = $4, worker_pid = pg_backend_pid(), waiting_on = NULL, not_before = NULL,
            started_at = COALESCE(started_at, clock_timestamp())
        WHERE job = $1 AND ordinal = $2
    )SQL",
        {partition.job, partition.ordinal, core::name(to), partition.claim});
    partition.state = to;
}

void ControlTables::count_orphan(Partition &partition) {
    change(partition, "orphaned = orphaned + 1");
    partition.orphaned++;
}

void ControlTables::suspect(const Partition &partition) {
    change(partition, "suspect = true");
}

void ControlTables::put_off(const Partition &partition, Milliseconds pause) {
    change(partition, "worker_pid = NULL, not_before = clock_timestamp() + make_interval(secs => $4)",
           {std::chrono::duration<double>(pause).count()});
}

void ControlTables::begin_attempt(Partition &partition) {
    change(partition, "attempts = attempts + 1");
    partition.attempts++;
}

void ControlTables::record_shadow(Partition &partition, Oid shadow, const std::string &constraint,
                                  const std::string &fingerprint, const std::string &seal) {
    change(partition,
           "shadow_oid = $4, partition_constraint = $5, fingerprint = $6, seal = $7, built = false",
           {shadow, constraint, fingerprint, seal});
    partition.fingerprint = fingerprint;
    partition.shadow = shadow;
    partition.constraint = constraint;
}

std::map<int, Oid> ControlTables::built_before(const Partition &partition) {
    const pg::Result result = run(R"SQL(
        SELECT ordinal, partition_oid FROM {s}.backfill_control
        WHERE job = $1 AND ordinal <> $2 AND state = 'running' AND (ordinal < $2 OR shadow_oid IS NOT NULL)
    )SQL",
                                  {partition.job, partition.ordinal});
    std::map<int, Oid> found;
    for (const pg::Row &row : result.rows)
        found.emplace(static_cast<int>(row.integer(0)), row.oid(1));
    return found;
}

void ControlTables::forget_shadow(Partition &partition) {
    change(partition, "shadow_oid = NULL, built = false");
    partition.shadow = kNoOid;
}

void ControlTables::record_proof(Partition &partition, Oid proof) {
    change(partition, "proof_oid = $4", {proof});
    partition.proof = proof;
}

void ControlTables::built(Partition &partition, const BuildFigures &figures) {
    move(partition, core::PartitionEvent::built,
         ", built = true, suspect = false, orphaned = 0, swap_since = NULL, rows = $6, wal_bytes = $7, "
         "build_time = make_interval(secs => $8), sqlstate = NULL, error = NULL,"
         " throttled_time = COALESCE(throttled_time, '0') + make_interval(secs => $9),"
         " held_time = COALESCE(held_time, '0') + make_interval(secs => $10), rows_before = $11::bigint",
         {figures.rows, figures.wal_bytes, figures.seconds.count(), figures.throttled.count(),
          figures.held.count(),
          figures.rows_before ? std::optional(std::to_string(*figures.rows_before)) : std::nullopt});
    partition.rows = figures.rows;
    partition.rows_before = figures.rows_before;
}

void ControlTables::lock_for_swap(const Partition &partition) {
    const pg::Result result = run(R"SQL(
        SELECT FROM {s}.backfill_control AS c
        WHERE c.job = $1 AND c.ordinal = $2 AND c.claim = $3 AND c.state = $4
          AND EXISTS (SELECT FROM {s}.backfill_job AS j WHERE j.job = $1 AND j.state = $5)
        FOR UPDATE OF c
    )SQL",
                                  {partition.job, partition.ordinal, partition.claim,
                                   core::name(partition.state), core::name(core::JobState::running)});
    if (result.empty())
        throw LostClaim();
}

void ControlTables::swapped(Partition &partition, Oid old_table, double lock_wait_seconds) {
    move(partition, core::PartitionEvent::swapped,
         ", old_oid = $6, shadow_oid = NULL, built = false, proof_oid = NULL, swap_attempts = swap_attempts "
         "+ 1, swap_since = NULL,"
         " lock_wait = COALESCE(lock_wait, '0') + make_interval(secs => $7), worker_pid = NULL, waiting_on = "
         "NULL,"
         " finished_at = clock_timestamp()",
         {old_table, lock_wait_seconds});
    partition.old = old_table;
}

BuildFigures ControlTables::record_locked_for(const Partition &partition, double seconds) {
    change(partition, "locked_for = make_interval(secs => $4)", {seconds});
    const pg::Row row = run(R"SQL(
        SELECT COALESCE(rows, 0), COALESCE(wal_bytes, 0), COALESCE(date_part('epoch', build_time), 0),
               COALESCE(date_part('epoch', throttled_time), 0)
        FROM {s}.backfill_control
        WHERE job = $1 AND ordinal = $2
    )SQL",
                            {partition.job, partition.ordinal})
                            .rows.at(0);
    using Seconds = std::chrono::duration<double>;
    return {row.integer(0),         std::nullopt,           row.integer(1),
            Seconds(row.number(2)), Seconds(row.number(3)), Seconds(0)};
}

void ControlTables::announce(const Partition &partition) {
    run("SELECT pg_notify($1, $2)", {kChannel, announcement(partition.job, partition.ordinal, partition.name,
                                                            std::string(core::name(partition.state)))});
}

std::chrono::duration<double> ControlTables::swap_postponed(Partition &partition, double lock_wait_seconds,
                                                            Milliseconds pause,
                                                            const std::string &waiting_on) {
    const pg::Result result = run(R"SQL(
        UPDATE {s}.backfill_control
        SET swap_attempts = swap_attempts + 1,
            swap_since = COALESCE(swap_since, clock_timestamp() - make_interval(secs => $4)),
            lock_wait = COALESCE(lock_wait, '0') + make_interval(secs => $4),
            not_before = clock_timestamp() + make_interval(secs => $5),
            waiting_on = $6,
            worker_pid = NULL
        WHERE job = $1 AND ordinal = $2 AND claim = $3
        RETURNING date_part('epoch', clock_timestamp() - swap_since)
    )SQL",
                                  {partition.job, partition.ordinal, partition.claim, lock_wait_seconds,
                                   std::chrono::duration<double>(pause).count(), waiting_on});
    if (result.empty())
        throw LostClaim();
    partition.swap_attempts++;
    return std::chrono::duration<double>(result.rows.front().number(0));
}

void ControlTables::postpone(Partition &partition) {
    move(partition, core::PartitionEvent::postpone, ", attempts = attempts - 1");
    partition.attempts--;
}

// The row of the job before that of the partition, as whoever controls a job locks
// them.
void ControlTables::attempt_failed(Partition &partition, core::PartitionEvent event,
                                   const pg::ErrorFields &error, Milliseconds pause, bool keep) {
    std::string text = error.message;
    if (!error.detail.empty())
        text += "\nDetail: " + error.detail;
    if (!error.hint.empty())
        text += "\nHint: " + error.hint;
    if (!error.context.empty())
        text += "\nContext: " + error.context;
    if (event == core::PartitionEvent::fail)
        run("UPDATE {s}.backfill_job SET error = $2 WHERE job = $1",
            {partition.job, partition.name + ": " + text});
    move(partition, event,
         ", sqlstate = $6, error = $7, built = built AND $9, not_before = clock_timestamp() + "
         "make_interval(secs => $8), worker_pid = NULL,"
         " waiting_on = NULL, finished_at = CASE WHEN $5 = 'failed' THEN clock_timestamp() END",
         {pg::sqlstate_text(error.code), text, std::chrono::duration<double>(pause).count(), keep});
}

void ControlTables::rebuild(Partition &partition, const std::string &reason) {
    move(partition, core::PartitionEvent::rebuild,
         ", rebuilds = rebuilds + 1, built = false, error = $6, swap_since = NULL, worker_pid = NULL, "
         "waiting_on = NULL",
         {reason});
    partition.rebuilds++;
}

void ControlTables::skip(Partition &partition, const std::string &reason) {
    move(partition, core::PartitionEvent::skip,
         ", error = $6, worker_pid = NULL, waiting_on = NULL, finished_at = clock_timestamp()", {reason});
}

} // namespace partbackfill::job
