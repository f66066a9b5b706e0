#include "partbackfill/job/control_tables.hpp"

#include "partbackfill/engine/locks.hpp"

namespace partbackfill::job {

// The phase stands in the worker's line in pg_stat_activity; how far it is, in
// the server's own progress views; who holds a lock that it stands in the queue for,
// which it cannot write down itself, in the lock manager. Loading counts for 70 of 100, the indexes for 25.
// Within an attempt no figure falls: what a progress view showed last stands in the line
// before the view loses it. Partitions that are built are in the result too, since the
// statement that asks may still see them running.
std::vector<ControlTables::LiveRow> ControlTables::live() {
    const pg::Result result = run(R"SQL(
        SELECT c.job, c.ordinal, CASE WHEN c.state = 'running' OR line.phase IS NOT NULL THEN a.pid END, line.phase,
               CASE
                   WHEN c.state = 'done' THEN 1
                   WHEN c.state = 'ready' OR line.phase = 'swapping' THEN 0.99
                   WHEN line.phase = 'analyzing' THEN 0.97
                   -- Before the rows are there it is a DEFAULT sibling that is validated.
                   WHEN line.phase = 'validating' AND line.rows IS NOT NULL THEN 0.95
                   WHEN line.phase = 'indexing'
                   THEN 0.7 + 0.25 * GREATEST(line.part - 1, index.done) / GREATEST(line.parts, 1)
                   WHEN line.phase = 'loading'
                   THEN 0.7 * LEAST(1, GREATEST(copy.tuples_processed, line.rows, 0) / GREATEST(c.rows_estimate, 1)::float8)
                   ELSE 0
               END,
               CASE c.state WHEN 'running' THEN GREATEST(copy.tuples_processed, line.rows) ELSE c.rows END,
               line.throttled, line.held,
               COALESCE(line.waiting_on, CASE WHEN a.wait_event_type = 'Lock' AND line.phase IS NOT NULL THEN (
                   SELECT 'lock (held by '
                          || string_agg(CASE b.pid WHEN 0 THEN 'a prepared transaction' ELSE b.pid::text END, ', ') || ')'
                   FROM unnest(pg_blocking_pids(a.pid)) AS b (pid)) END),
               j.owner::bigint, j.target_oid::bigint
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job AND j.installation = {s}.backfill_installation()
        LEFT JOIN pg_stat_activity AS a ON a.pid = c.worker_pid AND a.backend_type = 'partbackfill worker'
                                       AND a.datname = current_database()
        LEFT JOIN LATERAL (
            SELECT m[1] AS phase, m[3]::float8 AS part, m[4]::float8 AS parts, m[6]::bigint AS rows,
                   make_interval(secs => m[8]::float8) AS throttled,
                   make_interval(secs => m[10]::float8) AS held, m[12] AS waiting_on
            FROM format('backfill job %s partition %s %s: ', c.job, c.ordinal, c.partition) AS prefix
            CROSS JOIN LATERAL regexp_match(substr(a.query, length(prefix) + 1),
                '^([a-z]+)( ([0-9]+)/([0-9]+))?(; ([0-9]+) rows)?(; throttled ([0-9.]+) s)?(; held ([0-9.]+) s)?(; waiting on (.*))?$') AS m
            WHERE starts_with(a.query, prefix)
        ) AS line ON true
        LEFT JOIN pg_stat_progress_copy AS copy ON copy.pid = a.pid
        LEFT JOIN LATERAL (
            -- Whole indexes: the counters within one are set back while it is built.
            SELECT p.partitions_done::float8 AS done
            FROM pg_stat_progress_create_index AS p WHERE p.pid = a.pid
        ) AS index ON true
        WHERE (c.state = 'running' AND a.pid IS NOT NULL) OR c.state = 'ready'
           OR (c.state = 'done' AND c.finished_at > clock_timestamp() - interval '10 s')
    )SQL");
    std::vector<LiveRow> rows;
    for (const pg::Row &row : result.rows) {
        rows.push_back({row.oid(9), row.oid(10), {}});
        for (size_t i = 0; i < 9; i++)
            rows.back().columns.push_back(row.field(i));
    }
    return rows;
}

// Workers need a moment to start, and come back by themselves but for a restart of the
// server and a promotion: pg_last_wal_replay_lsn() tells of that.
std::vector<ControlTables::Idle> ControlTables::jobs_without_worker() {
    std::vector<Idle> jobs;
    for (const pg::Row &row : run(R"SQL(
        SELECT j.job, j.owner::bigint, j.target_oid::bigint
        FROM {s}.backfill_job AS j
        CROSS JOIN LATERAL (
            SELECT GREATEST(j.workers_started_at, max(c.started_at), max(c.finished_at)) AS seen_at
            FROM {s}.backfill_control AS c WHERE c.job = j.job
        ) AS sign
        WHERE NOT pg_is_in_recovery() AND NOT j.tidied AND j.installation = {s}.backfill_installation()
          AND clock_timestamp() > GREATEST(sign.seen_at, pg_postmaster_start_time()) + interval '5 s'
          AND (sign.seen_at < pg_postmaster_start_time() OR pg_last_wal_replay_lsn() IS NOT NULL)
    )SQL")
                                  .rows)
        jobs.push_back({row.integer(0), row.oid(1), row.oid(2)});
    std::erase_if(jobs, [](const Idle &idle) { return !engine::job_workers(idle.job).empty(); });
    return jobs;
}

} // namespace partbackfill::job
