# Jobs go on after a restart and after a promotion: by themselves when the library is preloaded, else when they are
# resumed. What was paused stays paused, and a restored dump starts nothing.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $tables = <<'SQL';
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (100) TO (200);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (200) TO (300);
    CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (300) TO (400);
    INSERT INTO t SELECT k, 'old' FROM generate_series(100, 399) AS k;
    CREATE TABLE new AS SELECT k, 'new'::text AS v FROM generate_series(100, 399) AS k;
SQL
my $held = q{'t', 'SELECT * FROM new WHERE CASE WHEN k < 200 THEN true ELSE pass_gate(1) END', delay => '0', keep_old => false};
my $fast = "partbackfill.crash_pause = '100ms'";
my $preloaded = "shared_preload_libraries = 'partbackfill'";

# Starts a job in each database, which stands in its second partition at a gate that the session keeps shut.
sub start_held {
    my ($node, @databases) = @_;
    for my $database (@databases) {
        my $gate = $node->background_psql($database);
        $gate->query_safe('SELECT pg_advisory_lock(1)');
        $node->safe_psql($database, "SELECT backfill_start($held)");
        $node->poll_query_until($database, "SELECT count(*) = 1 FROM backfill_progress WHERE ordinal = 2 AND phase = 'loading'")
            or die 'the job does not load';
    }
    return;
}

sub check_done {
    my ($node, $database, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($node->safe_psql($database, "SELECT backfill_wait(max(job), '180 s') FROM backfill_job"), 'done', "$title: the job is done");
    is($node->safe_psql($database, "SELECT count(*) FROM t WHERE v = 'new'"), '300', "$title: all rows are new");
    is($node->safe_psql($database, "SELECT string_agg(attempts::text, ' ' ORDER BY ordinal) FROM backfill_progress"
                . ' WHERE job = (SELECT max(job) FROM backfill_job)'), '1 2 1', "$title: only the build in hand was made again");
    is(leftovers($node, $database), '', "$title: nothing is left behind");
    return;
}

#
# Several databases, and hardly a slot
#
{
    my $node = new_node('launched', settings => [ $fast, $preloaded ]);
    $node->safe_psql('postgres', $tables);
    $node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE postgres") for qw(a b quiet);
    $node->safe_psql('quiet', 'DROP EXTENSION partbackfill');
    is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'partbackfill launcher'"), '1',
        'the launcher is there');
    start_held($node, qw(a b));
    my $paused = $node->safe_psql('postgres', "SELECT backfill_start($held)");
    $node->safe_psql('postgres', "SELECT backfill_pause($paused)");
    is(wait_job($node, $paused), 'paused', 'a job is paused');

    # A dump has the tables and the extension, and none of its jobs. What is being built would make it wait.
    my $dump = $node->basedir . '/dump';
    $node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
    $node->command_ok([ 'pg_dump', '-Fc', '-N', 'backfill_*', '-f', $dump, '-d', $node->connstr('a') ], 'a database with a job is dumped');
    $node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'and restored');
    is($node->safe_psql('restored', 'SELECT count(*) FROM backfill_status'), '0', 'a restored dump has no job');

    # The server's own launcher, ours, what it sends into a database: one slot is left.
    $node->append_conf('postgresql.conf', 'max_worker_processes = 4');
    $node->restart;
    check_done($node, $_, "after a restart, database $_") for qw(a b);
    is($node->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $paused"), 'paused', 'what was paused is paused');
    is($node->safe_psql('restored', "SELECT count(*) FROM pg_stat_activity WHERE datname IN ('restored', 'quiet') AND backend_type LIKE 'partbackfill%'"),
        '0', 'nothing works in the restored database, nor where the extension is not');
    is($node->safe_psql('restored', "SELECT count(*) FROM t WHERE v = 'new'"), '100', 'it is as it was dumped');
    is($node->safe_psql('postgres', 'SELECT backfill_resume()'), '1', 'what was paused is resumed');
    is(wait_job($node, $paused), 'done', 'and done');

    # Without a slot for the workers that it needs a job is not resumed, and says so.
    my $job = $node->safe_psql('a', q{SELECT backfill_start('t', 'new', delay => '1 hour')});
    $node->poll_query_until('a', "SELECT done = 1 FROM backfill_status WHERE job = $job") or die 'the job does not begin';
    $node->safe_psql('a', "SELECT backfill_pause($job)");
    is($node->safe_psql('a', "SELECT backfill_wait($job, '180 s')"), 'paused', 'another job is paused');
    $node->safe_psql('a', "SELECT backfill_alter($job, workers => 5)");
    my (undef, undef, $error) = $node->psql('a', "SELECT backfill_resume($job)");
    like($error, qr/ERROR:  no free background worker slot/, 'it needs more slots than there are');
    is($node->safe_psql('a', "SELECT state FROM backfill_status WHERE job = $job"), 'paused', 'it is still paused');
    is($node->safe_psql('a', "SELECT backfill_cancel($job)"), 't', 'it can be canceled');
    is($node->safe_psql('a', "SELECT backfill_wait($job, '180 s')"), 'canceled', 'and tidied');
    $node->stop;
}

#
# A standby that is promoted
#
for my $preload (1, 0) {
    my $title = 'promoted, ' . ($preload ? 'preloaded' : 'not preloaded');
    my $primary = new_node("primary_$preload", allows_streaming => 1, settings => [ $fast, $preload ? $preloaded : () ]);
    $primary->safe_psql('postgres', $tables);
    $primary->backup('backup');
    my $standby = PostgreSQL::Test::Cluster->new("standby_$preload");
    $standby->init_from_backup($primary, 'backup', has_streaming => 1);
    $standby->start;
    start_held($primary, 'postgres');
    $primary->wait_for_catchup($standby);
    is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'partbackfill%'"), '0',
        "$title: nothing works on the standby");
    my (undef, undef, $error) = $standby->psql('postgres', 'SELECT backfill_resume()');
    like($error, qr/cannot execute backfill_resume\(\) during recovery/, "$title: nor can it be made to");
    $primary->stop('immediate');
    $standby->promote;
    $standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'the standby is not promoted';
    is($standby->safe_psql('postgres', 'SELECT backfill_resume()'), '1', "$title: it is resumed") if !$preload;
    check_done($standby, 'postgres', $title);
    $standby->stop;
}
done_testing();
