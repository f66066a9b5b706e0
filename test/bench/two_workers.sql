-- The same with the extension and two workers.
SELECT backfill_start('events', 'recompute_source', delay => '0', keep_old => false, workers => 2) AS job \gset
SELECT backfill_wait(:job) AS state \gset
SELECT :'state' = 'done' AS is_done \gset
\if :is_done
\else
SELECT partition, state, error FROM backfill_progress WHERE job = :job;
SELECT 1 / 0 AS "the job is not done";
\endif
