#include "partbackfill/job/control_tables.hpp"

namespace partbackfill::job {

// The phase stands in the worker's line in pg_stat_activity; how far it is, in
// the server's own progress views; who holds a lock that it stands in the queue for,
// which it cannot write down itself, in the lock manager. Loading counts for 70 of 100, the indexes for 25.
std::vector<std::vector<std::optional<std::string>>> ControlTables::live(Oid role) {
    const pg::Result result = run(R"SQL(
        SELECT c.job, c.ordinal, a.pid, line.phase,
               CASE line.phase
                   WHEN 'loading' THEN 0.7 * LEAST(1, COALESCE(copy.tuples_processed, 0)
                                                      / GREATEST(c.rows_estimate, 1)::float8)
                   WHEN 'indexing' THEN 0.7 + 0.25 * (line.part - 1 + COALESCE(index.share, 0)) / GREATEST(line.parts, 1)
                   WHEN 'analyzing' THEN 0.95
                   WHEN 'validating' THEN 0.98
                   WHEN 'swapping' THEN 0.99
                   ELSE 0
               END,
               COALESCE(copy.tuples_processed, line.rows),
               line.throttled, line.held,
               COALESCE(line.waiting_on, CASE a.wait_event_type WHEN 'Lock' THEN (
                   SELECT 'lock (held by '
                          || string_agg(CASE b.pid WHEN 0 THEN 'a prepared transaction' ELSE b.pid::text END, ', ') || ')'
                   FROM unnest(pg_blocking_pids(a.pid)) AS b (pid)) END)
        FROM {s}.backfill_control AS c
        JOIN {s}.backfill_job AS j ON j.job = c.job AND j.installation = {s}.backfill_installation()
        JOIN pg_stat_activity AS a ON a.pid = c.worker_pid AND a.backend_type = 'partbackfill worker'
                                  AND a.datname = current_database()
        CROSS JOIN LATERAL (
            SELECT m[1] AS phase, m[3]::float8 AS part, m[4]::float8 AS parts, m[6]::bigint AS rows,
                   make_interval(secs => m[8]::float8) AS throttled,
                   make_interval(secs => m[10]::float8) AS held, m[12] AS waiting_on
            FROM format('backfill job %s partition %s %s: ', c.job, c.ordinal, c.partition) AS prefix
            CROSS JOIN LATERAL regexp_match(substr(a.query, length(prefix) + 1),
                '^([a-z]+)( ([0-9]+)/([0-9]+))?(; ([0-9]+) rows)?(; throttled ([0-9.]+) s)?(; held ([0-9.]+) s)?(; waiting on (.*))?$') AS m
            WHERE starts_with(a.query, prefix)
        ) AS line
        LEFT JOIN pg_stat_progress_copy AS copy ON copy.pid = a.pid
        LEFT JOIN LATERAL (
            SELECT LEAST(1, p.blocks_done / GREATEST(p.blocks_total, 1)::float8) AS share
            FROM pg_stat_progress_create_index AS p WHERE p.pid = a.pid
        ) AS index ON true
        WHERE c.state IN ('running', 'ready') AND pg_has_role($1, j.owner, 'MEMBER')
    )SQL",
                                  {role});
    std::vector<std::vector<std::optional<std::string>>> rows;
    for (const pg::Row &row : result.rows) {
        rows.emplace_back();
        for (size_t i = 0; i < 9; i++)
            rows.back().push_back(row.field(i));
    }
    return rows;
}

} // namespace partbackfill::job
