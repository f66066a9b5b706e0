# percent and rows never fall while a partition is built, whatever it does or waits for; looked at as fast as the server can.
# A machine may be too busy to look in the middle of a build: then the job is repeated, a few times.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('sampled');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, a int, b text, c text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (20000);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (20000) TO (40000);
    CREATE INDEX ON t (a);
    CREATE INDEX ON t (b);
    CREATE INDEX ON t (c, a);
    CREATE INDEX ON t USING hash (a);
    INSERT INTO t SELECT k, -k, md5(k::text), md5((-k)::text) FROM generate_series(0, 39999) AS k;
    ANALYZE t;
    CREATE TABLE sample (job bigint, ordinal int, attempts int, state text, phase text, percent numeric, rows bigint,
                         waiting_on text, number bigint GENERATED ALWAYS AS IDENTITY);

    -- Every look at a partition that differs from the one before, until the job rests.
    CREATE PROCEDURE watch(watched bigint) LANGUAGE plpgsql AS $$
    DECLARE
        last text[] := '{}';
        line record;
        over boolean := false;
    BEGIN
        WHILE NOT over LOOP
            over := (SELECT state <> 'running' FROM backfill_status WHERE job = watched);
            COMMIT; -- views of statistics stand still in a transaction
            FOR line IN SELECT p.job, p.ordinal, p.attempts, p.state, p.phase, p.percent, p.rows, p.waiting_on
                        FROM backfill_progress AS p WHERE p.job = watched LOOP
                IF last[line.ordinal] IS DISTINCT FROM line::text THEN
                    INSERT INTO sample VALUES (line.job, line.ordinal, line.attempts, line.state, line.phase, line.percent,
                                               line.rows, line.waiting_on);
                    last[line.ordinal] := line::text;
                END IF;
            END LOOP;
            COMMIT;
        END LOOP;
    END
    $$;
SQL

# The job was looked at often enough to know what it does in the middle.
sub seen_in_the_middle {
    my ($job) = @_;
    return $node->safe_psql('postgres', <<"SQL") eq 't';
        SELECT count(DISTINCT percent) > 5 AND bool_or(phase = 'indexing') FROM sample WHERE job = $job AND percent BETWEEN 1 AND 98
SQL
}

sub check_monotonic {
    my ($title, $options) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $seen = 0;
    for (my $run = 1; $run <= 10 && !$seen; $run++) {
        my $job = start_job($node, "'t', 't', delay => '0', keep_old => false, $options");
        $node->safe_psql('postgres', "CALL watch($job)");
        is(wait_job($node, $job), 'done', "$title: the job is done");
        check_nothing_fell($title, $job);
        $seen = seen_in_the_middle($job);
    }
    ok($seen, "$title: it was seen in the middle of it");
    return;
}

sub check_nothing_fell {
    my ($title, $job) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($node->safe_psql('postgres', <<"SQL"), '', "$title: nothing fell");
        SELECT format('%s: %s %s%% %s rows (%s), then %s %s%% %s rows (%s)', ordinal, was_phase, was_percent, was_rows, was_waiting,
                      phase, percent, rows, waiting_on)
        FROM (SELECT *, lag(phase) OVER one AS was_phase, lag(percent) OVER one AS was_percent, lag(rows) OVER one AS was_rows,
                     lag(waiting_on) OVER one AS was_waiting
              FROM sample WHERE job = $job AND attempts > 0
              WINDOW one AS (PARTITION BY ordinal, attempts ORDER BY number)) AS pairs
        WHERE percent < was_percent OR rows < was_rows OR (rows IS NULL AND was_rows > 0)
        LIMIT 5
SQL
    return;
}

check_monotonic('at full speed', 'workers => 1');
check_monotonic('two workers', 'workers => 2');
check_monotonic('slow WAL', "max_wal_rate => '6MB'");
check_monotonic('nice', 'nice_ratio => 1');
check_monotonic('asked once a second', "throttle_query => 'SELECT pg_sleep(0.2) IS NULL', max_wal_rate => '4MB'");
check_monotonic('writers wait', "on_write => 'block', swap => 'storage'");
$node->safe_psql('postgres', "ALTER SYSTEM SET max_parallel_maintenance_workers = 0");
$node->reload;
check_monotonic('one index after the other', 'workers => 1');

$node->stop;
done_testing();
