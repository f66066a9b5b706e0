# A build that is made to wait does not keep others waiting for what it has locked: it gives way, and begins again when it
# may go on. So a condition that is true because of the build's own locks ends.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('throttled_locks');

# All at the same time, since each has to wait until the build gives way. The source gives a row every few milliseconds.
my @kinds = (
    {
        title => 'a condition that holds itself',
        options => q{, throttle_query => 'SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = ''raw_0''::regclass)'},
        reason => 'throttle_query is true',
    },
    {
        title => 'a condition, in a parallel query',
        parallel => 1,
        before => 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0',
        alter => q{min_free_disk => '99%'},
        reason => 'free disk',
        back => q{min_free_disk => '0'},
    },
    {
        title => 'a long pause',
        options => ', nice_ratio => 1000',
        reason => 'nice_ratio 1000',
        back => 'nice_ratio => 0',
    });
for my $n (0 .. $#kinds) {
    my $kind = $kinds[$n];
    $node->safe_psql('postgres', <<"SQL");
        CREATE TABLE t_$n (k int PRIMARY KEY, v text NOT NULL) PARTITION BY RANGE (k);
        CREATE TABLE t_${n}_1 PARTITION OF t_$n FOR VALUES FROM (0) TO (1000);
        CREATE TABLE raw_$n AS SELECT k, 'new' AS v FROM generate_series(0, 999) AS k;
SQL
    $kind->{job} = start_job($node, qq{'t_$n', 'SELECT k, v FROM raw_$n WHERE pg_sleep(0.004) IS NOT NULL', delay => '0',
        keep_old => false, max_attempts => 1} . ($kind->{options} // ''), $kind->{before});
}
for my $n (0 .. $#kinds) {
    my $kind = $kinds[$n];
    await_worker($node, $kind->{job}, q{query LIKE '%loading%'});
    await($node, 'SELECT count(*) > 0 FROM pg_stat_activity WHERE leader_pid = ' . worker_pid($node, $kind->{job}, 1)) if $kind->{parallel};
    if ($kind->{alter}) {
        $node->safe_psql('postgres', "SELECT backfill_alter($kind->{job}, $kind->{alter})");
        await_partition($node, $kind->{job}, 1, "waiting_on LIKE '$kind->{reason}%'");
    }
    $kind->{session} = session($node);
    $kind->{session}->query_safe(q{SET lock_timeout = '20 s'});
    my $pid = $kind->{session}->query_safe('SELECT pg_backend_pid()');
    $kind->{session}->query_until(qr/begun/, "\\echo begun\nBEGIN; LOCK TABLE raw_$n;\n");
    await($node, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid");
}
for my $n (0 .. $#kinds) {
    my $kind = $kinds[$n];
    my ($title, $job) = ($kind->{title}, $kind->{job});
    is($kind->{session}->query('SELECT 1'), '1', "$title: another session gets the source's lock");
    $kind->{session}->query('COMMIT');
    $kind->{session}->quit;
    $node->safe_psql('postgres', "SELECT backfill_alter($job, $kind->{back})") if $kind->{back};
    is(wait_job($node, $job), 'done', "$title: the job is done");
    like(slurp_file($node->logfile), qr/backfill job $job gives up the build of partition public\.t_${n}_1: $kind->{reason}.*, while \d+ waits for this build/,
        "$title: the log says why");
    is($node->safe_psql('postgres', "SELECT attempts, (SELECT count(*) FROM t_$n WHERE v = 'new') FROM backfill_progress WHERE job = $job"),
        '1|1000', "$title: every row, and what was given up is no attempt");
}
check_clean($node, 'all');

$node->stop;
done_testing();
