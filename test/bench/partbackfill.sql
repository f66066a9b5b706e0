-- The same with the extension; with as many workers as :workers says, if it is set.
\if :{?workers}
\else
\set workers 1
\endif
SELECT backfill_start('events', 'recompute_source', delay => '0', keep_old => false, workers => :workers) AS job \gset
SELECT backfill_wait(:job) AS state \gset
SELECT :'state' = 'done' AS is_done \gset
\if :is_done
\else
SELECT partition, state, error FROM backfill_progress WHERE job = :job;
SELECT 1 / 0 AS "the job is not done";
\endif
