-- The same with the extension.
SELECT backfill_start('events', 'recompute_source', delay => '0', keep_old => false) AS job \gset
SELECT backfill_wait(:job) AS state \gset
SELECT :'state' = 'done' AS is_done \gset
\if :is_done
\else
SELECT partition, state, error FROM backfill_progress WHERE job = :job;
SELECT 1 / 0 AS "the job is not done";
\endif
