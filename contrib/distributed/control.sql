-- How a run is controlled. Each function returns what that of the extension does, added up over all jobs. A node that does not answer is a
-- WARNING.

CREATE OR REPLACE FUNCTION partbackfill_nodes.pause(label text) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT partbackfill_nodes.call(r.owner, r.label, 'backfill_pause', '{running}') FROM partbackfill_nodes.find_run(pause.label) AS r
$$;
COMMENT ON FUNCTION partbackfill_nodes.pause IS 'pauses the jobs of a run that run; how many';

CREATE OR REPLACE FUNCTION partbackfill_nodes.resume(label text) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT partbackfill_nodes.call(r.owner, r.label, 'backfill_resume', '{paused,running}') FROM partbackfill_nodes.find_run(resume.label) AS r
$$;
COMMENT ON FUNCTION partbackfill_nodes.resume IS 'starts the paused jobs of a run again, and those without workers; how many';

CREATE OR REPLACE FUNCTION partbackfill_nodes.cancel(label text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run partbackfill_nodes.run := partbackfill_nodes.find_run(cancel.label);
    canceled integer;
BEGIN
    UPDATE partbackfill_nodes.run_job AS j SET state = 'canceled' WHERE j.owner = run.owner AND j.label = run.label AND j.state = 'not started';
    GET DIAGNOSTICS canceled = ROW_COUNT;
    RETURN canceled + partbackfill_nodes.call(run.owner, run.label, 'backfill_cancel', '{running,paused,ready,failed}');
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.cancel IS 'cancels the jobs of a run that are not done, and those that were not started; how many';

CREATE OR REPLACE FUNCTION partbackfill_nodes.publish(label text) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT partbackfill_nodes.call(r.owner, r.label, 'backfill_publish', '{ready}') FROM partbackfill_nodes.find_run(publish.label) AS r
$$;
COMMENT ON FUNCTION partbackfill_nodes.publish IS 'swaps the partitions of the jobs of a run that are ready, one job of a node after the other; how many partitions';

CREATE OR REPLACE FUNCTION partbackfill_nodes.purge(label text) RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT partbackfill_nodes.call(r.owner, r.label, 'backfill_purge', '{done,failed,canceled,reverted}') FROM partbackfill_nodes.find_run(purge.label) AS r
$$;
COMMENT ON FUNCTION partbackfill_nodes.purge IS 'drops the old partitions that the ended jobs of a run keep; how many';

-- For the jobs whose shard has moved, jobs where the shard is now, of the partitions that are not done yet; how many.
CREATE OR REPLACE FUNCTION partbackfill_nodes.follow_shards(run partbackfill_nodes.run, ordinals integer[]) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nodes text[];
    commands text[];
    answer record;
    followed integer[] := '{}';
    place integer := (SELECT max(j.ordinal) FROM partbackfill_nodes.run_job AS j WHERE j.owner = run.owner AND j.label = run.label);
BEGIN
    SELECT coalesce(array_agg(j.node ORDER BY o.place), '{}'),
           coalesce(array_agg(format(
               'SELECT COALESCE(pg_catalog.jsonb_agg(p.partition ORDER BY p.ordinal), ''[]'')::text FROM %I.backfill_progress AS p'
               ' WHERE p.job = %s AND p.state <> ALL (''{done,skipped,reverted}''::text[])',
               partbackfill_nodes.extension_schema(), j.job) ORDER BY o.place), '{}')
    INTO nodes, commands
    FROM unnest(ordinals) WITH ORDINALITY AS o (ordinal, place)
    JOIN partbackfill_nodes.run_job AS j ON j.owner = run.owner AND j.label = run.label AND j.ordinal = o.ordinal;
    FOR answer IN SELECT a.ordinal, a.success, a.result FROM partbackfill_nodes.run_on(nodes, commands) AS a ORDER BY a.ordinal LOOP
        IF NOT answer.success THEN
            PERFORM partbackfill_nodes.warn(nodes[answer.ordinal], answer.result);
            CONTINUE;
        END IF;
        followed := followed || ordinals[answer.ordinal];
        UPDATE partbackfill_nodes.run_job AS j SET state = 'replaced'
        WHERE j.owner = run.owner AND j.label = run.label AND j.ordinal = ordinals[answer.ordinal];
        CONTINUE WHEN answer.result::jsonb = '[]';
        place := place + 1;
        INSERT INTO partbackfill_nodes.run_job (owner, label, ordinal, node, target, shard, source, partitions)
        SELECT j.owner, j.label, place, partbackfill_nodes.node_of_shard(j.shard), j.target, j.shard, j.source,
               ARRAY(SELECT jsonb_array_elements_text(answer.result::jsonb))
        FROM partbackfill_nodes.run_job AS j
        WHERE j.owner = run.owner AND j.label = run.label AND j.ordinal = ordinals[answer.ordinal];
    END LOOP;
    place := partbackfill_nodes.start_jobs(run);
    -- What is left of the former jobs has no shard to swap any more.
    PERFORM partbackfill_nodes.call(run.owner, run.label, 'backfill_cancel', '{running,paused,ready,failed}', followed);
    RETURN place;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.follow_shards IS 'starts jobs where the shards of these jobs are now, and all that is not started; how many';

CREATE OR REPLACE FUNCTION partbackfill_nodes.retry(label text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run partbackfill_nodes.run := partbackfill_nodes.find_run(retry.label);
    jobs record;
    retried integer := 0;
BEGIN
    PERFORM FROM partbackfill_nodes.run AS r WHERE r.owner = run.owner AND r.label = run.label FOR UPDATE;
    SELECT coalesce(array_agg(j.ordinal) FILTER (WHERE j.state = 'moved'), '{}') AS moved,
           array_agg(j.ordinal) FILTER (WHERE j.state IN ('failed', 'running', 'paused', 'ready', 'node down')) AS here,
           count(*) FILTER (WHERE j.state IN ('moved', 'not started')) AS to_start
    INTO jobs
    FROM partbackfill_nodes.jobs(run.owner, run.label) AS j;
    IF jobs.here IS NOT NULL THEN
        retried := partbackfill_nodes.call(run.owner, run.label, 'backfill_retry', '{failed,running,paused,ready}', jobs.here);
    END IF;
    IF jobs.to_start > 0 AND run.owner = current_user THEN
        PERFORM partbackfill_nodes.add_jobs(run);
        retried := retried + partbackfill_nodes.follow_shards(run, jobs.moved);
    ELSIF jobs.to_start > 0 THEN
        RAISE WARNING USING MESSAGE = format('jobs of run "%s" can only be started by role "%s"', run.label, run.owner);
    END IF;
    RETURN retried;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.retry IS 'queues failed partitions again, starts jobs that were not started, and jobs where shards are that have moved; how many partitions and jobs';

CREATE OR REPLACE FUNCTION partbackfill_nodes.forget(label text) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    run partbackfill_nodes.run := partbackfill_nodes.find_run(forget.label);
    jobs record;
    forgotten integer;
BEGIN
    forgotten := partbackfill_nodes.call(run.owner, run.label, 'backfill_forget', '{done,failed,canceled,reverted}');
    DELETE FROM partbackfill_nodes.run_job AS j
    WHERE j.owner = run.owner AND j.label = run.label
      AND (j.job IS NULL OR j.ordinal IN (
          SELECT g.ordinal FROM partbackfill_nodes.jobs(run.owner, run.label) AS g
          WHERE g.state = 'gone' OR g.state = 'replaced' AND g.done IS NULL AND g.error IS NULL));
    SELECT count(*) AS left, min(j.node) AS node INTO jobs FROM partbackfill_nodes.run_job AS j WHERE j.owner = run.owner AND j.label = run.label;
    IF jobs.left = 0 THEN
        DELETE FROM partbackfill_nodes.run AS r WHERE r.owner = run.owner AND r.label = run.label;
    ELSE
        RAISE NOTICE USING MESSAGE = format('run "%s" stays with %s jobs', run.label, jobs.left),
            DETAIL = format('They have not ended, keep old partitions, or are on a node that does not answer; one of them is on node "%s".', jobs.node),
            HINT = 'Wait for them, cancel and purge them; then call this again.';
    END IF;
    RETURN forgotten;
END
$$;
COMMENT ON FUNCTION partbackfill_nodes.forget IS 'removes the ended jobs of a run from their nodes'' control tables, and the run when none is left; how many jobs';
