#include "partbackfill/job/claim_queue.hpp"

#include <fmt/format.h>

#include "partbackfill/job/partition_row.hpp"
#include "partbackfill/swap/method.hpp"

namespace partbackfill::job {

using namespace std::string_literals;

namespace {

constexpr const char *kDue = "(c.not_before IS NULL OR c.not_before <= clock_timestamp())";
// Built, and claimed by no worker. A partition of whose swap a worker died keeps its pause.
const std::string &waits_for_swap() {
    static const std::string condition =
        std::string("c.state = 'ready' AND c.worker_pid IS NULL AND c.orphaned = 0 AND ") + kSwappedEach;
    return condition;
}

// What the job's other partitions let a pending one do, in FROM after the job j. A build whose
// source reads the target delays swaps that lock the parent ($3): while a swap waits, no build
// begins, unless those that wait took less than a second each to build; then several partitions are
// swapped between two readers. (Those that are swapped together wait for the builds.) A build
// that keeps writers out would wait for another such build. A partition whose build may have
// crashed the server is built alone: others would lose an attempt with each crash.
constexpr const char *kOthers = R"SQL(
        CROSS JOIN LATERAL (
            SELECT built.running,
                   built.suspect OR j.on_write = 'block' AND built.running
                       OR j.on_error = 'stop' AND j.reverts_from IS NULL AND EXISTS (SELECT FROM {s}.backfill_control WHERE job = $1 AND state = 'failed')
                       OR j.reads_target AND j.publish = 'each' AND $3 AND waiting.swaps > 0
                          AND (waiting.swaps >= 8 OR COALESCE(waiting.longest_build > interval '1 s', true)) AS forbid
            FROM (SELECT count(*) > 0 AS running, COALESCE(bool_or(suspect), false) AS suspect
                  FROM {s}.backfill_control WHERE job = $1 AND state = 'running') AS built
            CROSS JOIN (SELECT count(*) AS swaps, max(build_time) AS longest_build
                        FROM (SELECT build_time FROM {s}.backfill_control
                              WHERE job = $1 AND state = 'ready' ORDER BY ordinal LIMIT 8) AS ready) AS waiting
        ) AS others)SQL";

std::vector<std::string> texts(const std::vector<int> &numbers) {
    std::vector<std::string> found;
    found.reserve(numbers.size());
    for (const int number : numbers)
        found.push_back(std::to_string(number));
    return found;
}

} // namespace

std::vector<Partition> ClaimQueue::candidates(const Job &job, const std::string &condition,
                                              const pg::Params &more_params) const {
    pg::Params params{job.id, job.owner, swap::swap_method(job.swap).locks_parent,
                      core::sources(core::PartitionEvent::claim)};
    params.insert(params.end(), more_params.begin(), more_params.end());
    const pg::Result result = run("SELECT " + partition_columns() + R"SQL(
        FROM {s}.backfill_job AS j
        )SQL" + std::string(kOthers) +
                                      R"SQL(
        CROSS JOIN {s}.backfill_control AS c
        WHERE j.job = $1 AND j.owner = $2 AND c.job = $1 AND c.state = ANY ($4)
          AND (c.state <> 'pending' OR NOT (others.forbid OR others.running AND c.suspect))
          AND )SQL" + condition,
                                  params);
    std::vector<Partition> partitions;
    for (const pg::Row &row : result.rows)
        partitions.push_back(partition_of(row));
    return partitions;
}

std::optional<Partition> ClaimQueue::candidate(const Job &job, const std::string &condition,
                                               const pg::Params &more_params) const {
    const std::vector<Partition> found = candidates(job, condition, more_params);
    return found.empty() ? std::nullopt : std::optional(found.front());
}

std::optional<int> ClaimQueue::next_unheld(const Job &job, const std::vector<int> &passed) const {
    if (job.publish == Publish::each)
        return std::nullopt;
    const pg::Result found = run(
        "SELECT c.ordinal FROM {s}.backfill_control AS c WHERE c.job = $1 AND c.state = 'ready' AND NOT c.held AND "s +
            kDue + " AND c.ordinal <> ALL ($2::integer[]) ORDER BY c.ordinal LIMIT 1",
        {job.id, texts(passed)});
    return found.empty() ? std::nullopt : std::optional(static_cast<int>(found.rows.front().integer(0)));
}

std::optional<int> ClaimQueue::next(const Job &job, const std::vector<int> &passed) const {
    const auto first_of = [](int turn, const char *state, const std::string &unless) {
        return fmt::format(
            "(SELECT {} AS turn, c.ordinal FROM {{s}}.backfill_control AS c"
            " WHERE c.job = $1 AND c.state = '{}' AND {} AND c.ordinal <> ALL ($4::integer[]){}"
            " ORDER BY c.ordinal LIMIT 1)",
            turn, state, kDue, unless);
    };
    // Each state is asked for its first partition by an index, however many partitions there are.
    const pg::Result found =
        run("SELECT first.ordinal FROM {s}.backfill_job AS j" + std::string(kOthers) +
                " CROSS JOIN LATERAL (" + first_of(1, "ready", std::string(" AND ") + kSwappedEach) +
                " UNION ALL " + first_of(2, "running", "") + " UNION ALL " +
                first_of(2, "pending", " AND NOT others.forbid AND NOT (others.running AND c.suspect)") +
                " ORDER BY turn, ordinal LIMIT 1) AS first"
                " WHERE j.job = $1 AND j.owner = $2",
            {job.id, job.owner, swap::swap_method(job.swap).locks_parent, texts(passed)});
    return found.empty() ? std::nullopt : std::optional(static_cast<int>(found.rows.front().integer(0)));
}

std::optional<Partition> ClaimQueue::lock(const Job &job, int ordinal) const {
    // SKIP LOCKED, since the job's other workers would wait for this one meanwhile.
    return candidate(job, kDue + " AND c.ordinal = $5 FOR UPDATE OF c SKIP LOCKED"s, {ordinal});
}

std::vector<Partition> ClaimQueue::waiting_for_swap(const Job &job, int limit) const {
    return candidates(job, waits_for_swap() + " ORDER BY c.ordinal LIMIT $5", {limit});
}

std::optional<Partition> ClaimQueue::lock_waiting(const Job &job, int ordinal) const {
    return candidate(job, waits_for_swap() + " AND c.ordinal = $5 FOR UPDATE OF c SKIP LOCKED", {ordinal});
}

void ClaimQueue::claim(Partition &partition) const {
    const core::PartitionState to = core::next(partition.state, core::PartitionEvent::claim);
    partition.claim = new_claim_token();
    run(R"SQL(
        UPDATE {s}.backfill_control
        SET state = $3, claim = $4, worker_pid = pg_backend_pid(), waiting_on = NULL, not_before = NULL,
            started_at = COALESCE(started_at, clock_timestamp())
        WHERE job = $1 AND ordinal = $2
    )SQL",
        {partition.job, partition.ordinal, core::name(to), partition.claim});
    partition.state = to;
}

void ClaimQueue::count_orphan(Partition &partition) const {
    change(partition, "orphaned = orphaned + 1");
    partition.orphaned++;
}

void ClaimQueue::suspect(const Partition &partition) const {
    change(partition, "suspect = true");
}

void ClaimQueue::give_back_if_paused(Partition &partition) const {
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

void ClaimQueue::defer(const Partition &partition, Milliseconds pause) const {
    change(partition, "worker_pid = NULL, not_before = clock_timestamp() + make_interval(secs => $4)",
           {std::chrono::duration<double>(pause).count()});
}

void ClaimQueue::begin_attempt(Partition &partition) const {
    change(partition, "attempts = attempts + 1");
    partition.attempts++;
}

} // namespace partbackfill::job
