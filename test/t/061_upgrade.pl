# pg_upgrade makes the catalogs anew: a job that was paused goes on after it, and what the control tables write is kept
# out of logical decoding as before. So it is when that mark was lost in another way.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_node('before', allows_streaming => 'logical');
$old->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199) AS k;
    CREATE PUBLICATION everything FOR ALL TABLES;
SQL
my $source = q{'SELECT k, ''new'' AS v FROM t'};

sub make_slot {
    my ($node) = @_;
    $node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('decoding', 'test_decoding')");
    return;
}

# What a decoder gets of the extension's own tables; the slot is gone then.
sub decoded {
    my ($node) = @_;
    my $rows = $node->safe_psql('postgres', <<'SQL');
        SELECT DISTINCT substring(data FROM '^table [^:]*: [A-Z]*')
        FROM pg_logical_slot_get_changes('decoding', NULL, NULL) WHERE data ~ '^table \S*backfill' ORDER BY 1
SQL
    $node->safe_psql('postgres', "SELECT pg_drop_replication_slot('decoding')");
    return $rows;
}

sub lose_marks {
    my ($node) = @_;
    $node->safe_psql('postgres', "UPDATE pg_class SET relrewrite = 0 WHERE relname IN ('backfill_job', 'backfill_control', 'backfill_write')");
    return;
}

# Whatever is called first after it was lost.
my $job;
for my $case (
    [ 'start', sub { $job = start_job($old, "'t', $source, delay => '1 hour', keep_old => false"); await_partition($old, $job, 1, "state = 'done'") } ],
    [ 'alter', sub { $old->safe_psql('postgres', "SELECT backfill_alter($job, delay => '2 hours')") } ],
    [ 'pause', sub { $old->safe_psql('postgres', "SELECT backfill_pause($job)"); wait_job($old, $job) } ],
    [ 'resume', sub { $old->safe_psql('postgres', "SELECT backfill_resume($job)"); await_partition($old, $job, 2, "state = 'done'"); wait_job($old, $job) } ],
    [ 'retry', sub { $old->safe_psql('postgres', <<"SQL") } ],
        SELECT backfill_start('t', 'SELECT k, CASE WHEN k = 150 THEN (k / 0)::text ELSE ''new'' END AS v FROM t', delay => '0', keep_old => false, max_attempts => 1) AS job \\gset
        SELECT backfill_wait(:job);
        UPDATE pg_class SET relrewrite = 0 WHERE relname IN ('backfill_job', 'backfill_control', 'backfill_write');
        SELECT pg_drop_replication_slot('decoding');
        SELECT pg_create_logical_replication_slot('decoding', 'test_decoding');
        SELECT backfill_retry(:job), pg_sleep(0);
        SELECT backfill_wait(:job);
        SELECT backfill_cancel(:job);
        SELECT backfill_wait(:job);
SQL
    [ 'a worker that comes back', sub {
            $job = start_job($old, "'t', $source, delay => '1 hour', keep_old => false");
            await_partition($old, $job, 1, "state = 'done'");
            lose_marks($old);
            $old->safe_psql('postgres', "SELECT pg_drop_replication_slot('decoding')");
            make_slot($old);
            my $worker = await_worker($old, $job, 'true');
            $old->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
            await($old, "SELECT count(*) = 0 FROM pg_class WHERE relname ~ '^backfill_(job|control|write)\$' AND relrewrite = 0");
            wait_job($old, $job); # it goes on with the next partition at once, and must not write in the next case
    } ],
    [ 'cancel', sub {
            $job = start_job($old, "'t', $source, delay => '1 hour', keep_old => false");
            await_partition($old, $job, 1, "state = 'done'");
            lose_marks($old);
            $old->safe_psql('postgres', "SELECT pg_drop_replication_slot('decoding')");
            make_slot($old);
            $old->safe_psql('postgres', "SELECT backfill_cancel($job)");
            wait_job($old, $job);
    } ])
{
    my ($title, $call) = @{$case};
    lose_marks($old);
    make_slot($old);
    $call->();
    is(decoded($old), '', "$title: nothing of the control tables is decoded");
}

#
# The upgrade itself, from one cluster to another of this version
#
$job = $old->safe_psql('postgres', <<"SQL");
    BEGIN;
    SELECT backfill_start('t', $source, delay => '0', keep_old => false) AS job \\gset
    SELECT backfill_pause(:job) \\g /dev/null
    COMMIT;
    SELECT :job;
SQL
is(wait_job($old, $job), 'paused', 'upgrade: a job is paused');
my $identity = $old->safe_psql('postgres', 'SELECT backfill_installation()');
$old->stop;
my $new = PostgreSQL::Test::Cluster->new('after');
$new->init(allows_streaming => 'logical', extra => [ '--locale=C', '--encoding=UTF8' ]);
$new->append_conf('postgresql.conf', "max_worker_processes = 16\nautovacuum = off\n");
my $bindir = $old->config_data('--bindir');
{
    # It leaves files in the directory in which it runs.
    my $scratch = PostgreSQL::Test::Utils::tempdir;
    chdir $scratch or die "could not enter $scratch: $!";
    my ($bin) = grep { -x "$_/pg_upgrade" } split /:/, $ENV{PATH};
    command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bin, '-B', $bin,
            '-s', $new->host, '-p', $old->port, '-P', $new->port ], 'upgrade: pg_upgrade runs');
}
$new->start;
is($new->safe_psql('postgres', 'SELECT backfill_installation()'), $identity, 'upgrade: the installation is the same');
is($new->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"), 'paused', 'upgrade: the job is there');
make_slot($new);
is($new->safe_psql('postgres', "SELECT backfill_resume($job)"), '1', 'upgrade: it is resumed');
is(wait_job($new, $job), 'done', 'upgrade: and done');
is(decoded($new), '', 'upgrade: nothing of the control tables is decoded');
is($new->safe_psql('postgres', "SELECT count(*) FROM t WHERE v = 'new'"), '200', 'upgrade: the rows are right');
$new->stop;
done_testing();
