# A source that crashes the server does not do so for ever, and no more often than the partition has attempts; nor does
# a swap that does.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

crashes_on_purpose();
my $node = new_node('crash_loop', settings => [ "partbackfill.crash_pause = '300ms'", 'restart_after_crash = on' ]);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (200) TO (300);
    CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (300) TO (400);
    INSERT INTO t SELECT k, 0 FROM generate_series(100, 399) AS k;
    -- The server's own function for text, told that 0 is one: it follows a null pointer.
    CREATE FUNCTION follow(integer) RETURNS integer LANGUAGE internal STRICT VOLATILE AS 'textlen';
    CREATE VIEW deadly AS SELECT k, CASE WHEN k = 250 THEN follow(0) ELSE 1 END AS v FROM generate_series(100, 399) AS k;
    -- With two workers the third is always in hand when the second crashes the server.
    CREATE VIEW deadly_beside_slow AS SELECT d.* FROM deadly AS d WHERE d.k <> 350 OR pg_sleep(2) IS NOT NULL;
    CREATE VIEW harmless AS SELECT k, 1 AS v FROM generate_series(100, 399) AS k;
SQL

# The state in which the job comes to rest, over as many crashes as it takes; the sessions of a crash are lost.
sub outlast {
    my ($job) = @_;
    for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default) {
        # A psql that cannot connect may be gone before it is told what to ask.
        my ($code, $state) = eval { $node->psql('postgres', "SELECT backfill_wait($job, '180 s')") };
        return $state if defined $code && $code == 0;
        usleep(100_000);
    }
    return 'unknown';
}

# How often the server's processes crashed since that place in the log.
sub crashes_since {
    my ($place) = @_;
    my $log = slurp_file($node->logfile, $place);
    return scalar(() = $log =~ /terminating any other active server processes/g);
}

for my $workers (1, 2) {
    my $title = "a source that crashes the server, $workers worker(s)";
    my $place = -s $node->logfile;
    my $job = start_job($node, "'t', 'deadly', workers => $workers, max_attempts => 3, delay => '0', keep_old => false");
    is(outlast($job), 'failed', "$title: the job fails");
    is(crashes_since($place), 3, "$title: it costs a crash for each attempt");
    is(states($node, $job), 'done failed done', "$title: the other partitions are done");
    is($node->safe_psql('postgres', "SELECT attempts, sqlstate, split_part(error, E'\\n', 1) FROM backfill_progress WHERE job = $job AND ordinal = 2"),
        '3|XX000|the worker that rebuilt partition "public.t_2" ended in attempt 3', "$title: the error says why");
    is($node->safe_psql('postgres', 'SELECT string_agg(format($$%s %s$$, v, count), $$, $$ ORDER BY v) FROM (SELECT v, count(*) FROM t GROUP BY v) AS c'),
        '0 100, 1 200', "$title: the live partition is untouched");
    check_clean($node, $title);
    $node->safe_psql('postgres', 'UPDATE t SET v = 0');
}
{
    my $title = 'a source that crashes the server, and a slow one';
    my $place = -s $node->logfile;
    my $job = start_job($node, q{'t', 'deadly_beside_slow', workers => 2, max_attempts => 3, delay => '0', keep_old => false});
    is(outlast($job), 'failed', "$title: the job fails");
    is(crashes_since($place), 3, "$title: it costs a crash for each attempt");
    is(states($node, $job), 'done failed done', "$title: the other partitions are done");
    is($node->safe_psql('postgres', "SELECT attempts BETWEEN 1 AND 2 FROM backfill_progress WHERE job = $job AND ordinal = 3"), 't',
        "$title: none of them is ended by more than one crash");
    check_clean($node, $title);
    $node->safe_psql('postgres', 'UPDATE t SET v = 0');
}
for my $workers (1, 2) {
    my $title = "a source that gives up the locks of its session, with $workers workers";
    my $holder = session($node);
    close_gate($holder, 1);
    my $job = start_job($node, qq{'t', 'SELECT k, CASE WHEN k = 150 THEN length(pg_advisory_unlock_all()::text) WHEN k = 350 AND pass_gate(1) THEN 1 ELSE 1 END AS v FROM harmless',
        workers => $workers, max_attempts => 2, delay => '0', keep_old => false});
    await_at_gate($node, 1);
    await_partition($node, $job, 1, "state <> 'running' AND attempts > 0");
    await_partition($node, $job, 2, "state = 'done'");
    # The shared lock of the job's workers, whose last one ends it.
    is($node->safe_psql('postgres', "SELECT count(DISTINCT l.pid) FROM pg_locks AS l JOIN backfill_progress AS p ON p.worker_pid = l.pid"
                . " WHERE p.job = $job AND p.state = 'running' AND l.locktype = 'advisory' AND l.classid = $job AND l.objid = 0 AND l.objsubid = 28771"),
        '1', "$title: who works on holds the job again");
    open_gate($holder, 1);
    $holder->quit;
    is(outlast($job), 'failed', "$title: the job fails");
    is(states($node, $job), 'failed done done', "$title: the other partitions are done");
    check_clean($node, $title);
    $node->safe_psql('postgres', 'UPDATE t SET v = 0');
}
{
    my $title = 'the pause after a crash';
    $node->append_conf('postgresql.conf', "partbackfill.crash_pause = '1 h'");
    $node->restart;
    my $job = start_job($node, q{'t', 'deadly', max_attempts => 3, delay => '0', keep_old => false});
    $node->poll_query_until('postgres', "SELECT string_agg(state, ' ' ORDER BY ordinal) = 'done pending done' FROM backfill_progress WHERE job = $job")
        or die 'the others are not done';
    is($node->safe_psql('postgres',
            "SELECT not_before BETWEEN now() + interval '50 min' AND now() + interval '1 h' FROM backfill_control WHERE job = $job AND ordinal = 2"),
        't', "$title: the partition is left alone, the others are done");
    is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', "$title: it can be canceled meanwhile");
    is($node->safe_psql('postgres', "SELECT backfill_wait($job, '180 s')"), 'canceled', "$title: at once");
    check_clean($node, $title);
    $node->append_conf('postgresql.conf', "partbackfill.crash_pause = '100 ms'");
    $node->safe_psql('postgres', 'UPDATE t SET v = 0');
}
{
    my $title = 'a swap that crashes the server';
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = 'swapping/2 crash'");
    $node->restart;
    my $place = -s $node->logfile;
    my $job = start_job($node, q{'t', 'harmless', max_attempts => 3, delay => '0', keep_old => false});
    is(outlast($job), 'failed', "$title: the job fails");
    # The first death may have had another reason: it goes straight to its swap after that.
    is(crashes_since($place), 4, "$title: it is tried as often as a build, and once more");
    is(states($node, $job), 'done failed done', "$title: the other partitions are done");
    is($node->safe_psql('postgres', "SELECT attempts FROM backfill_progress WHERE job = $job AND ordinal = 2"), '1',
        "$title: it was built once");
    $node->append_conf('postgresql.conf', "partbackfill.injection_point = ''");
    $node->reload;
    is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), '1', "$title: it is tried again");
    is($node->safe_psql('postgres', "SELECT backfill_wait($job, '180 s')"), 'done', "$title: and done");
    is($node->safe_psql('postgres', "SELECT attempts FROM backfill_progress WHERE job = $job AND ordinal = 2"), '1',
        "$title: without another build");
    is($node->safe_psql('postgres', 'SELECT count(*) FROM t WHERE v = 1'), '300', "$title: all rows are new");
    check_clean($node, $title);
}

$node->stop;
done_testing();
