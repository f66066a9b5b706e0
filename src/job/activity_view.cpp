#include "partbackfill/job/activity_view.hpp"

#include <array>

#include "partbackfill/locks/advisory_locks.hpp"

namespace partbackfill::job {

namespace {

constexpr std::array kColumns{"job",       "ordinal", "worker_pid", "phase",       "fraction",     "rows",
                              "throttled", "stalled", "waiting_on", "keys_behind", "catch_up_time"};

// Loading counts for 70 of 100, the indexes for 25. Within an attempt no figure falls: the worker's line
// takes over a figure before the progress view loses it. Partitions that are built are in the result too,
// since the calling statement may still see them running.
constexpr const char *kActivity = R"SQL(
        SELECT j.owner::bigint, j.target_oid::bigint, c.job, c.ordinal,
               CASE WHEN c.state = 'running' OR line.phase IS NOT NULL THEN a.pid END AS worker_pid, line.phase,
               CASE
                   WHEN c.state = 'done' THEN 1
                   WHEN c.state = 'ready' OR line.phase = 'swapping' THEN 0.99
                   WHEN line.phase IN ('catching up', 'auditing') THEN 0.98
                   WHEN line.phase = 'analyzing' THEN 0.97
                   -- Before the load a DEFAULT sibling is validated.
                   WHEN line.phase = 'validating' AND line.rows IS NOT NULL THEN 0.95
                   WHEN line.phase = 'indexing'
                   THEN 0.7 + 0.25 * GREATEST(line.part - 1, index.done) / GREATEST(line.parts, 1)
                   WHEN line.phase = 'loading'
                   THEN 0.7 * LEAST(1, GREATEST(copy.tuples_processed, line.rows, 0) / GREATEST(c.rows_estimate, 1)::float8)
                   ELSE 0
               END AS fraction,
               CASE c.state WHEN 'running' THEN GREATEST(copy.tuples_processed, line.rows) ELSE c.rows END AS rows,
               line.throttled, line.stalled,
               COALESCE(line.waiting_on, CASE WHEN a.wait_event_type = 'Lock' AND line.phase IS NOT NULL THEN (
                   SELECT 'lock (held by '
                          || string_agg(CASE b.pid WHEN 0 THEN 'a prepared transaction' ELSE b.pid::text END, ', ') || ')'
                   FROM unnest(pg_blocking_pids(a.pid)) AS b (pid)) END) AS waiting_on,
               line.keys_behind, line.catch_up_time
        FROM (SELECT c.*
              FROM {s}.backfill_job AS j
              JOIN {s}.backfill_control AS c ON c.job = j.job AND c.state IN ('running', 'ready')
              WHERE NOT j.tidied
              UNION ALL
              SELECT c.*
              FROM {s}.backfill_job AS j
              JOIN {s}.backfill_control AS c
                ON c.job = j.job AND c.finished_at > (SELECT clock_timestamp() - interval '10 s')
              WHERE NOT j.tidied OR j.finished_at > (SELECT clock_timestamp() - interval '10 s')) AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job AND j.installation = {s}.backfill_installation()
        LEFT JOIN pg_stat_activity AS a ON a.pid = c.worker_pid AND a.backend_type = 'partbackfill worker'
                                       AND a.datname = current_database()
        LEFT JOIN LATERAL (
            SELECT m[1] AS phase, m[3]::float8 AS part, m[4]::float8 AS parts, m[6]::bigint AS rows,
                   m[8]::bigint AS keys_behind, make_interval(secs => m[9]::float8) AS catch_up_time,
                   make_interval(secs => m[11]::float8) AS throttled, make_interval(secs => m[13]::float8) AS stalled,
                   m[15] AS waiting_on
            FROM format('backfill job %s partition %s %s: ', c.job, c.ordinal, c.partition) AS prefix
            CROSS JOIN LATERAL regexp_match(substr(a.query, length(prefix) + 1),
                '^([a-z]+(?: up)?)( ([0-9]+)/([0-9]+))?(; ([0-9]+) rows)?(; ([0-9]+) keys behind(?: [(]([0-9]+) s[)])?)?'
                '(; throttled ([0-9.]+) s)?(; stalled ([0-9.]+) s)?(; waiting on (.*))?$') AS m
            WHERE starts_with(a.query, prefix)
        ) AS line ON true
        LEFT JOIN pg_stat_progress_copy AS copy ON copy.pid = a.pid
        LEFT JOIN LATERAL (
            -- Whole indexes, since the counters within an index are reset while it is built.
            SELECT p.partitions_done::float8 AS done
            FROM pg_stat_progress_create_index AS p WHERE p.pid = a.pid
        ) AS index ON true
        WHERE c.state NOT IN ('pending', 'failed', 'skipped', 'canceled') AND (c.state <> 'running' OR a.pid IS NOT NULL)
    )SQL";

} // namespace

// A worker's phase stands in its line in pg_stat_activity, and its progress in the server's own
// progress views. The lock that a worker waits for comes from the lock manager, since a waiting worker
// cannot report it.
std::vector<ActivityRow> ActivityView::activity() const {
    const pg::Result result = run(kActivity);
    std::vector<ActivityRow> rows;
    for (const pg::Row &row : result.rows) {
        rows.push_back({row.oid("owner"), row.oid("target_oid"), {}});
        for (const char *column : kColumns)
            rows.back().columns.push_back(row.field(column));
    }
    return rows;
}

// Workers need a moment to start. They come back by themselves, except after a restart of the
// server and after a promotion, of which pg_last_wal_replay_lsn() tells.
std::vector<IdleJob> ActivityView::jobs_without_worker() const {
    std::vector<IdleJob> jobs;
    for (const pg::Row &row : run(R"SQL(
        SELECT job, owner::bigint, target_oid::bigint
        FROM {s}.backfill_job
        WHERE NOT pg_is_in_recovery() AND NOT tidied AND installation = {s}.backfill_installation()
    )SQL")
                                  .rows)
        jobs.push_back({row.integer("job"), row.oid("owner"), row.oid("target_oid")});
    std::erase_if(jobs, [this](const IdleJob &idle) {
        return !locks::job_workers(idle.job).empty() || !was_left_alone(idle.job);
    });
    return jobs;
}

bool ActivityView::was_left_alone(std::int64_t job) const {
    return !run(R"SQL(
        SELECT
        FROM (SELECT GREATEST(j.workers_started_at, max(c.started_at), max(c.finished_at)) AS seen_at
              FROM {s}.backfill_job AS j
              JOIN {s}.backfill_control AS c ON c.job = j.job
              WHERE j.job = $1
              GROUP BY j.job) AS sign
        WHERE clock_timestamp() > GREATEST(sign.seen_at, pg_postmaster_start_time()) + interval '5 s'
          AND (sign.seen_at < pg_postmaster_start_time() OR pg_last_wal_replay_lsn() IS NOT NULL)
    )SQL",
                {job})
                .empty();
}

} // namespace partbackfill::job
