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
# A timeout of its own is no cancel of the job.
$primary->safe_psql('postgres', <<'SQL');
    CREATE FUNCTION times_out() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        RAISE 'canceling statement due to statement timeout' USING ERRCODE = '57014';
    END
    $$;
    CREATE VIEW stop_sign AS SELECT times_out() AS is_up;
SQL
await_partition($primary, $job, 1,
    "waiting_on = 'throttle_query failed: canceling statement due to statement timeout' AND phase = 'loading' AND attempts = 1");
$primary->safe_psql('postgres', 'DROP VIEW stop_sign');
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

# Builds that are too short to be interrupted pay all the same: between their parts, and the rest before the next one,
# while nothing is claimed; one that holds writers pays all of it then.
$primary->safe_psql('postgres', <<'SQL');
    CREATE TABLE s (k integer PRIMARY KEY, v text) PARTITION BY RANGE (k);
    SELECT format('CREATE TABLE s_%s PARTITION OF s FOR VALUES FROM (%s) TO (%s)', n, n, n + 1)
    FROM generate_series(1, 8) AS n
    \gexec
    INSERT INTO s SELECT k, 'old' FROM generate_series(1, 8) AS k;
SQL
for my $on_write ('rebuild', 'block') {
    my $title = "small partitions, on_write $on_write";
    $job = start_job($primary, "'s', 's', delay => '0', keep_old => false, nice_ratio => 30, on_write => '$on_write'");
    await_worker($primary, $job, "query = 'backfill job $job; waiting on nice_ratio 30'"
            . " AND NOT EXISTS (SELECT FROM backfill_progress WHERE job = $job AND state = 'running')");
    is($primary->safe_psql('postgres', "SELECT backfill_wait($job, '10 min')"), 'done', "$title: the job is done");
    is($primary->safe_psql('postgres', <<"SQL"), $on_write eq 'block' ? 't|t|t' : 'f|t|t', "$title: it slept for most of the time");
        SELECT bool_and(p.throttled_time = '0'), bool_and(p.throttled_time < p.build_time),
               10 * sum(p.build_time - p.throttled_time) < (SELECT s.finished_at - s.started_at FROM backfill_status AS s WHERE s.job = $job)
        FROM backfill_progress AS p WHERE p.job = $job
SQL
}

# Says so also when the rows are in; with a lower ratio what is owed is less at once.
$job = start_job($primary, "'t', 'truth', delay => '0', keep_old => false, nice_ratio => 1000");
await_worker($primary, $job, "query LIKE '%: loading; 2000 rows;%waiting on nice_ratio 1000'");
$primary->safe_psql('postgres', "SELECT backfill_alter($job, nice_ratio => 0.001)");
check_done($job, 'a lower ratio');

# What was lost while nothing could be done is left out of the pace, also when the job has fewer workers by now.
raise_sign();
$job = start_job($primary, "'t', 'truth', delay => '0', keep_old => false, workers => 2, $sign");
await_partition($primary, $job, $_, "waiting_on = 'throttle_query is true' AND throttled_time > '4 s'") for 1, 2;
my $held = $primary->safe_psql('postgres', "SELECT date_part('epoch', max(throttled_time)) FROM backfill_progress WHERE job = $job");
lower_sign();
$primary->safe_psql('postgres', "SELECT backfill_alter($job, workers => 1, throttle_query => '', max_wal_rate => '100kB')");
await($primary, "SELECT rows_per_second > 0 AND eta > '0' FROM backfill_status WHERE job = $job");
is($primary->safe_psql('postgres', <<"SQL"), 't', 'a held job with fewer workers has a pace');
    SELECT rows / rows_per_second > date_part('epoch', clock_timestamp() - started_at) - 1.5 * $held FROM backfill_status WHERE job = $job
SQL
$primary->safe_psql('postgres', "SELECT backfill_alter($job, max_wal_rate => '')");
check_done($job, 'a held job');

# Rows that take long are shown, and the pace looked at, one by one.
$primary->safe_psql('postgres', <<'SQL');
    CREATE FUNCTION wait_for(k integer) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(0.02);
        IF k = 3 THEN
            PERFORM pg_advisory_xact_lock_shared(1);
        END IF;
        RETURN '';
    END
    $$;
    CREATE VIEW slow AS SELECT k, CASE WHEN k < 4 THEN v || wait_for(k) ELSE v END AS v FROM truth;
SQL
my $holder = session($primary);
close_gate($holder, 1);
$job = start_job($primary, "'t', 'slow', delay => '0', keep_old => false");
await_at_gate($primary, 1);
is($primary->safe_psql('postgres', "SELECT rows FROM backfill_progress WHERE job = $job AND ordinal = 1"),
    '3', 'each row that takes long is shown');
open_gate($holder, 1);
check_done($job, 'slow rows');
$holder->quit;

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
    skip 'no small disk to fill: that needs root, who can mount one', 7 unless defined $disk;

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

    # There is room for one of two that would be built at a time.
    $primary->safe_psql('postgres', 'VACUUM ANALYZE d');
    my $size = $primary->safe_psql('postgres', "SELECT pg_total_relation_size('d_1') / 1048576");
    $fill->($free->() - 5 - $size * 3 / 2);
    $job = start_job($primary, "'d', 'd', delay => '0', keep_old => false, workers => 2, min_free_disk => '4MB', max_wal_rate => '2MB'");
    await_partition($primary, $job, 2, "phase = 'creating' AND waiting_on ~ '^free disk'");
    is(wait_job($primary, $job), 'done', 'workers of a job do not take the room from each other');
    unlink "$disk/filler";

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
