# After a restart without preload, and after a promotion, nobody works on a job until it is resumed: the views say so, and
# whoever waits for it is told.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('restarted', allows_streaming => 1);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (200) TO (300);
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 299) AS k;
SQL
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('promoted');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

my $source = q{'SELECT k, ''new'' AS v FROM t WHERE k < 100 OR pass_gate(7)'};
my $gate = session($node);
close_gate($gate, 7);
my $job = start_job($node, "'t', $source, delay => '0', keep_old => false");
await_partition($node, $job, 2, "state = 'running' AND worker_pid IS NOT NULL");
is($node->safe_psql('postgres', "SELECT count(*) FROM backfill_status WHERE job = $job AND waiting_on LIKE 'no worker%'"), '0',
    'a job with a worker lacks none');
$node->wait_for_catchup($standby, 'replay');
is($standby->safe_psql('postgres', "SELECT count(waiting_on) || ' ' || count(*) FROM backfill_status WHERE job = $job"), '0 1',
    'a standby does not ask for what it cannot do');
# Before the gate opens, or the build would be over first.
$node->stop('immediate');
eval { $gate->quit };
$node->start;

# Says what it is, for both servers.
sub check_stranded {
    my ($server, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $hint = "no worker: call backfill_resume($job)";
    await($server, "SELECT waiting_on = '$hint' FROM backfill_status WHERE job = $job");
    is($server->safe_psql('postgres', <<"SQL"), "1|done||\n2|running|$hint|\n3|pending|$hint|", "$title: so do its partitions");
        SELECT ordinal, state, waiting_on, worker_pid FROM backfill_progress WHERE job = $job ORDER BY ordinal
SQL
    my ($code, $stdout, $stderr) = $server->psql('postgres', "SELECT backfill_wait($job, '3 s')");
    is($stdout, 'running', "$title: backfill_wait waits");
    like($stderr, qr/WARNING:  backfill job $job has no worker.*HINT:  Call backfill_resume\($job\)/s, "$title: and warns");
    is(() = $stderr =~ /WARNING/g, 1, "$title: once");

    # Until somebody resumes it, for whom one waits.
    my $session = session($server);
    $session->query_until(qr/waiting/, "\\echo waiting\nSELECT backfill_wait($job);\n\\echo over\n");
    is($server->safe_psql('postgres', "SELECT backfill_resume($job)"), '1', "$title: it is resumed");
    is($server->safe_psql('postgres', "SELECT count(*) FROM backfill_status WHERE job = $job AND waiting_on LIKE 'no worker%'"), '0',
        "$title: at once nothing is lacking");
    is(wait_job($server, $job), 'done', "$title: and it is done");
    like($session->query('SELECT 1'), qr/done/, "$title: which ends the wait");
    $session->quit;
    check_clean($server, $title);
    return;
}

# Its attempt died with the server, and is not taken up at once.
$standby->promote;
for ($node, $standby) {
    $_->append_conf('postgresql.conf', 'partbackfill.crash_pause = 0');
    $_->reload;
}
check_stranded($standby, 'promotion');
check_stranded($node, 'restart');

# A worker that was terminated comes back: that is no reason to call anything.
$gate = session($node);
close_gate($gate, 7);
$job = start_job($node, "'t', $source, delay => '0', keep_old => false, partitions => '{t_2}'");
my $pid = await_worker($node, $job, "query LIKE '%: loading%'");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
is($node->safe_psql('postgres', "SELECT count(waiting_on) FROM backfill_status WHERE job = $job"), '0', 'terminated: nothing is lacking');
is($node->safe_psql('postgres', "SELECT count(worker_pid) FROM backfill_progress WHERE job = $job"), '0',
    'terminated: no process that is gone is shown');
$gate->quit;
is(wait_job($node, $job), 'done', 'terminated: the job is done');

#
# What could not be tidied up, and is in the end
#
$node->safe_psql('postgres', 'CREATE VIEW uses AS SELECT * FROM t_1');
$job = start_job($node, q{'t', 'SELECT k, CASE WHEN k = 250 THEN (k / 0)::text ELSE v END AS v FROM t', delay => '0',}
        . q{ keep_old => false, swap => 'storage', max_attempts => 1});
is(wait_job($node, $job), 'failed', 'tidied late: a partition fails');
my $error = $node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job");
like($error, qr/^public\.t_3: division by zero/, 'tidied late: with the reason');
$node->safe_psql('postgres', <<"SQL");
    UPDATE backfill_job SET error = 'could not tidy up: cannot drop table' WHERE job = $job;
    CREATE SCHEMA backfill_${job}_old;
    CREATE TABLE backfill_${job}_old.t_1 (k int);
    CREATE VIEW in_the_way AS TABLE backfill_${job}_old.t_1;
    UPDATE backfill_control SET old_oid = 'backfill_${job}_old.t_1'::regclass WHERE job = $job AND ordinal = 1;
SQL
is((error_of($node, "SELECT backfill_purge($job)"))[0], '2BP01', 'tidied late: what is depended on cannot be purged');
is($node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job"), 'could not tidy up: cannot drop table',
    'tidied late: the error says so');
$node->safe_psql('postgres', 'DROP VIEW in_the_way');
is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), '1', 'tidied late: it is purged');
is($node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job"), $error,
    'tidied late: and the error is that of the partition');

$standby->stop;
$node->stop;
done_testing();
