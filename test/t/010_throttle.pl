# What a job waits for: a query of its owner's, a standby that is behind, a disk that fills up. Each holds it for as long
# as it lasts, says so with its figures, and lets it go on.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use Backfill;

my $primary = new_node('primary', allows_streaming => 1);
$primary->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k integer, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (2000);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (2000) TO (4000);
    CREATE INDEX ON t (k);
    CREATE TABLE truth AS SELECT k, repeat(md5(k::text), 20) AS v FROM generate_series(0, 3999) AS k;
    INSERT INTO t SELECT k, 'old' FROM truth;
    CREATE TABLE stop_sign (is_up boolean);
    INSERT INTO stop_sign VALUES (false);
    CREATE SEQUENCE asked;
SQL

sub raise_sign { $primary->safe_psql('postgres', 'UPDATE stop_sign SET is_up = true'); return; }
sub lower_sign { $primary->safe_psql('postgres', 'UPDATE stop_sign SET is_up = false'); return; }

sub check_done {
    my ($job, $title) = @_;
    is(wait_job($primary, $job), 'done', "$title: the job is done");
    is($primary->safe_psql('postgres', 'TABLE t EXCEPT ALL TABLE truth'), '', "$title: the rows are right");
    is($primary->safe_psql('postgres', "SELECT count(*) FROM backfill_progress WHERE job = $job AND attempts <> 1"),
        '0', "$title: at the first attempt");
    check_clean($primary, $title);
    $primary->safe_psql('postgres', "UPDATE t SET v = 'old'");
    return;
}

# throttle_query, before a build begins.
raise_sign();
my $sign = "throttle_query => 'SELECT is_up FROM stop_sign -- up?', min_free_disk => NULL";
my $job = start_job($primary, "'t', 'truth', delay => '0', keep_old => false, $sign");
await_partition($primary, $job, 1, "waiting_on = 'throttle_query is true' AND phase = 'creating'");
is($primary->safe_psql('postgres', "SELECT waiting_on FROM backfill_status WHERE job = $job"),
    'throttle_query is true', 'the status says it too');
lower_sign();
await_partition($primary, $job, 1, "waiting_on ~ '^throttle_query is true, over for [0-9] of 5 s'");
check_done($job, 'a raised sign');
is($primary->safe_psql('postgres',
        "SELECT throttled_time >= '5 s' FROM backfill_progress WHERE job = $job AND ordinal = 1"),
    't', 'it has to stay down for five seconds');

# In the middle of a load; the standard view goes on to show how far it is.
$job = start_job($primary, "'t', 'truth', delay => '0', keep_old => false, max_wal_rate => '200kB', $sign");
await_partition($primary, $job, 1, "phase = 'loading' AND rows > 0");
raise_sign();
await_partition($primary, $job, 1, "phase = 'loading' AND waiting_on = 'throttle_query is true'");
is($primary->safe_psql('postgres', <<"SQL"), 't', 'pg_stat_progress_copy shows its rows');
    SELECT copy.tuples_processed = p.rows AND p.rows BETWEEN 1 AND 1999
    FROM backfill_progress AS p JOIN pg_stat_progress_copy AS copy ON copy.pid = p.worker_pid
    WHERE p.job = $job AND p.ordinal = 1
SQL
# Whatever goes wrong in it holds the job and is told.
$primary->safe_psql('postgres', 'ALTER TABLE stop_sign RENAME TO away');
await_partition($primary, $job, 1,
    "waiting_on = 'throttle_query failed: relation \"stop_sign\" does not exist' AND phase = 'loading'");
$primary->safe_psql('postgres', 'ALTER TABLE away RENAME TO stop_sign');
is((cancel_job($primary, $job))[0], 't', 'a held load can be canceled');
check_clean($primary, 'a held load that was canceled');
lower_sign();

# It can change nothing, and a number will do.
$primary->safe_psql('postgres', <<'SQL');
    CREATE FUNCTION meddle() RETURNS integer LANGUAGE plpgsql AS $$
    BEGIN
        BEGIN
            INSERT INTO stop_sign VALUES (true);
        EXCEPTION WHEN read_only_sql_transaction THEN
            RETURN nextval('asked') * 0;
        END;
        RETURN 1;
    END
    $$;
SQL
$job = start_job($primary, "'t', 'truth', delay => '0', keep_old => false, throttle_query => 'SELECT 7.5', min_free_disk => ''");
await_partition($primary, $job, 1, "waiting_on = 'throttle_query 7.5 > 0'");
cancel_job($primary, $job);
$job = start_job($primary, "'t', 'truth', delay => '0', keep_old => false, throttle_query => 'SELECT meddle()'");
await_partition($primary, $job, 1, "waiting_on LIKE 'throttle_query failed: cannot execute nextval()%'");
cancel_job($primary, $job);
is($primary->safe_psql('postgres', 'SELECT count(*) FROM stop_sign'), '1', 'the query wrote nothing');
check_clean($primary, 'a throttle_query that writes');

# Builds that are too short to be interrupted pay all the same: between their parts, and the rest before the next one.
$primary->safe_psql('postgres', <<'SQL');
    CREATE TABLE s (k integer PRIMARY KEY, v text) PARTITION BY RANGE (k);
    SELECT format('CREATE TABLE s_%s PARTITION OF s FOR VALUES FROM (%s) TO (%s)', n, n, n + 1)
    FROM generate_series(1, 8) AS n
    \gexec
    INSERT INTO s SELECT k, 'old' FROM generate_series(1, 8) AS k;
SQL
$job = start_job($primary, "'s', 's', delay => '0', keep_old => false, nice_ratio => 20");
is(wait_job($primary, $job), 'done', 'a job of small partitions is done');
is($primary->safe_psql('postgres', <<"SQL"), 't|t', 'and slept for most of the time');
    SELECT count(*) = 8 AND bool_and(p.throttled_time > '0'),
           sum(p.throttled_time) > (SELECT s.finished_at - s.started_at FROM backfill_status AS s WHERE s.job = $job) / 2
    FROM backfill_progress AS p WHERE p.job = $job
SQL

# A standby that does not replay what it gets.
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('slow_standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = '1h'");
$standby->start;
await($primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'");
$job = start_job($primary, "'t', 'truth', delay => '0', keep_old => false, max_wal_rate => '100kB', max_replica_lag => '2 s'");
await_partition($primary, $job, 1, "waiting_on ~ '^replica lag [0-9.]+ s > 2 s \\(slow_standby\\)'");
is($primary->safe_psql('postgres', "SELECT state || ' ' || done FROM backfill_status WHERE job = $job"),
    'running 0', 'a standby that is behind holds the job');
$standby->append_conf('postgresql.conf', 'recovery_min_apply_delay = 0');
$standby->reload;
check_done($job, 'a standby that catches up');

# One that is gone does not hold anybody up.
$standby->append_conf('postgresql.conf', "recovery_min_apply_delay = '1h'");
$standby->reload;
$job = start_job($primary, "'t', 'truth', delay => '0', keep_old => false, max_wal_rate => '100kB', max_replica_lag => '2 s'");
await_partition($primary, $job, 1, "waiting_on ~ '^replica lag'");
$standby->stop('immediate');
check_done($job, 'a standby that goes away');

# A disk that is nearly full. The harness gives a small one, which takes root to make.
SKIP: {
    my $disk = $ENV{PARTBACKFILL_SMALL_DISK};
    skip 'no small disk to fill: that needs root, who can mount one', 6 unless defined $disk;

    mkdir "$disk/space" or die "could not make $disk/space: $!";
    $primary->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$disk/space'");
    $primary->safe_psql('postgres', <<'SQL');
        CREATE TABLE d (k integer, v text) PARTITION BY RANGE (k) TABLESPACE small;
        CREATE TABLE d_1 PARTITION OF d FOR VALUES FROM (0) TO (10000);
        CREATE TABLE d_2 PARTITION OF d FOR VALUES FROM (10000) TO (20000);
        CREATE INDEX ON d (v) TABLESPACE small;
        INSERT INTO d SELECT k, repeat(md5(k::text), 10) FROM generate_series(0, 19999) AS k;
        CHECKPOINT;
SQL
    my $fill = sub {
        my ($megabytes) = @_;
        open my $file, '>', "$disk/filler" or die "could not write $disk/filler: $!";
        for (1 .. $megabytes) {
            print {$file} 'x' x 1048576 or die "could not fill $disk: $!";
        }
        close $file or die "could not fill $disk: $!";
    };
    my $free = sub { return (split /\s+/, (split /\n/, qx(df --output=avail -B1048576 '$disk'))[1])[-1]; };

    $fill->($free->() - 8);
    $job = start_job($primary, "'d', 'd', delay => '0', keep_old => false, min_free_disk => '4MB'");
    await_partition($primary, $job, 1, "waiting_on ~ '^free disk [0-9.]+ MB < 4 MB \\+ [0-9.]+ MB to come'");
    is($primary->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"),
        'running', 'a disk without room for the partition holds the job');
    unlink "$disk/filler";
    is(wait_job($primary, $job), 'done', 'with room the job goes on');

    # In the middle of a load: somebody else fills it.
    $job = start_job($primary, "'d', 'd', delay => '0', keep_old => false, min_free_disk => '4MB', max_wal_rate => '500kB'");
    await_partition($primary, $job, 1, "phase = 'loading' AND rows > 0");
    $fill->($free->() - 3);
    await_partition($primary, $job, 1, "waiting_on ~ '^free disk' AND phase IN ('loading', 'indexing')");
    pass('a disk that fills up holds the load');
    unlink "$disk/filler";
    $primary->safe_psql('postgres', "SELECT backfill_cancel($job)");
    wait_job($primary, $job);
    $job = start_job($primary, "'d', 'd', delay => '0', keep_old => false, min_free_disk => '4MB'");
    is(wait_job($primary, $job), 'done', 'nothing stays behind that fills the disk');
    is($primary->safe_psql('postgres', 'SELECT count(*) FROM d'), '20000', 'every row is there');
    unlike(slurp_file($primary->logfile), qr/No space left/, 'no statement has met the end of the disk');
    $primary->safe_psql('postgres', 'DROP TABLE d; DROP TABLESPACE small');
}

done_testing();
