# Workers are few: no role, job or savepoint takes more of them than partbackfill.max_workers allows, nor all slots of the
# server; what gets fewer than it asked for says so, and gets the others later. A cancel reaches whoever works at commit.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('limits', settings => [ 'max_worker_processes = 12', 'partbackfill.max_workers = 4', "partbackfill.crash_pause = '100ms'" ]);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE u (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE w (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    DO $$
    BEGIN
        FOR i IN 1 .. 12 LOOP
            EXECUTE format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
            EXECUTE format('CREATE TABLE u_%s PARTITION OF u FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
        END LOOP;
    END $$;
    CREATE TABLE w_1 PARTITION OF w FOR VALUES FROM (1) TO (2);
    INSERT INTO t SELECT k, 'old' FROM generate_series(1, 12) AS k;
    INSERT INTO u SELECT k, 'old' FROM generate_series(1, 12) AS k;
    INSERT INTO w VALUES (1, 'old');
SQL
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'};

sub started {
    my ($table, $gate, $more) = @_;
    my ($code, $out, $error) = $node->psql('postgres',
        "SELECT backfill_start('$table', 'SELECT k, pass_gate($gate)::text AS v FROM generate_series(1, 12) AS k', keep_old => false$more)");
    return ($out, $error);
}

# 1.0 started as many as max_worker_processes has slots for: they waited for the end of the transaction, which had rolled
# back what they were for, and no view showed them.
my $session = session($node);
$session->query("BEGIN; SAVEPOINT s; SELECT backfill_start('t', 'u', workers => 9); ROLLBACK TO s; SELECT 1");
is($node->safe_psql('postgres', $workers), '0', 'a savepoint that is rolled back leaves no worker');
$session->query("SELECT backfill_start('t', 'u', workers => 4); SELECT 1");
is($node->safe_psql('postgres', $workers), '0', 'nor does any wait while the transaction is open');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'partbackfill%'}), '0', 'of any kind');
$session->query('ROLLBACK');
is($node->safe_psql('postgres', $workers), '0', 'and none starts when it rolls back');

like((started('t', 1, ', workers => 1000'))[1], qr/ERROR:  no free background worker slot/, 'more than there are slots is an error');

# One job does not get them all, and says so; the last is another job's.
my $gates = session($node);
close_gate($gates, $_) for 1, 2;
my ($first, $told) = started('t', 1, q{, workers => 9, delay => '0'});
like($told, qr/NOTICE:  backfill job $first starts with 3 of 9 workers/, 'a job that gets fewer workers says so');
await($node, "SELECT running = 3 FROM backfill_status WHERE job = $first");
my ($second, $told2) = started('u', 2, q{, workers => 2, delay => '3 s'});
like($told2, qr/NOTICE:  backfill job $second starts with 1 of 2 workers/, 'another job gets its first');
await($node, "SELECT running = 1 FROM backfill_status WHERE job = $second");
is($node->safe_psql('postgres', $workers), '4', 'as many as partbackfill.max_workers are at work');
my (undef, $told3) = started('w', 3, '');
like($told3, qr/ERROR:  no worker is free for the job.*partbackfill\.max_workers \(4\)/s, 'a third is told that there is none');

# What becomes free goes to who lacks it.
is($node->safe_psql('postgres', "SELECT backfill_cancel($first)"), 't', 'the first job is canceled');
open_gate($gates, 2);
await($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'partbackfill worker' AND query ~ '^backfill job $second\\M'");
pass('the second gets what it had asked for, once the first has gone');

# The process that was to be canceled is gone when the cancel is committed: nobody else gets the signal, and the job ends.
my $pid = await_worker($node, $second, 'true');
$session->query("BEGIN; SELECT backfill_cancel($second)");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 20000)");
$session->query('COMMIT');
is(wait_job($node, $second), 'canceled', 'a job whose worker ends before its cancel is committed is canceled');

# Unless the setting is made, other jobs find a worker each beyond what one job gets.
$node->append_conf('postgresql.conf', 'partbackfill.max_workers = -1');
$node->reload;
await($node, "SELECT current_setting('partbackfill.max_workers') = '-1'");
close_gate($gates, $_) for 2, 3;
my ($greedy, $told4) = started('t', 1, q{, workers => 10, delay => '0'});
like($told4, qr/NOTICE:  backfill job $greedy starts with \d of 10 workers/, 'unless it is set one job does not get all slots');
for my $table (qw(u w)) {
    my ($job, $error) = started($table, $table eq 'u' ? 2 : 3, '');
    await($node, "SELECT running = 1 FROM backfill_status WHERE job = $job");
    pass("and a job on $table finds one");
}
$node->stop;
done_testing();
