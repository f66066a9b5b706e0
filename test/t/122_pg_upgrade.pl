# pg_upgrade from an earlier major version: jobs that are paused, have failed or are done go on after it. The earlier server's
# bin directory is in PARTBACKFILL_OLD_PGBIN; the extension, of the version that is tested here, is installed there too.
use strict;
use warnings;

use Backfill;
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old_bin = $ENV{PARTBACKFILL_OLD_PGBIN};
plan skip_all => 'PARTBACKFILL_OLD_PGBIN names no bin directory of an earlier server' if !$old_bin;
plan skip_all => "there is no pg_ctl in $old_bin" if !-x "$old_bin/pg_ctl";

# Since these minor releases pg_attribute has versions of columns, which pg_upgrade cannot bring to a server that is older than
# its siblings.
my %versioned_since = (15 => 20, 16 => 16, 17 => 12, 18 => 7);

sub is_versioned {
    my ($bin) = @_;
    my ($version, $major, $minor) = `$bin/postgres --version` =~ /((\d+)(?:\.(\d+))?\S*)/;
    return ($version, $major, defined $minor && $minor >= ($versioned_since{$major} // 0));
}
my ($new_bin) = grep { -x "$_/pg_upgrade" } split /:/, $ENV{PATH};
my ($from, $from_major, $from_versioned) = is_versioned($old_bin);
my ($to, $to_major, $to_versioned) = is_versioned($new_bin);
plan skip_all => "pg_upgrade cannot go from PostgreSQL $from to $to, which is older than its sibling" if $from_versioned && !$to_versioned;

my @settings = ('max_worker_processes = 32', 'autovacuum = off', "timezone = 'UTC'", 'partbackfill.crash_pause = 0');
my $old = PostgreSQL::Test::Cluster->new('before', install_path => dirname($old_bin));
$old->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$old->append_conf('postgresql.conf', join("\n", @settings, ''));
$old->start;
$old->safe_psql('postgres', <<'SQL');
    CREATE EXTENSION partbackfill;
    CREATE ROLE alice LOGIN;
    GRANT CREATE ON SCHEMA public TO alice;
    CREATE TABLE fixed (f int);
    GRANT ALL ON fixed TO alice;
    SET ROLE alice;
    CREATE TABLE p (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE p_0 PARTITION OF p FOR VALUES FROM (0) TO (100);
    CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (100) TO (200);
    CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (200) TO (300);
    INSERT INTO p SELECT k, 'old' FROM generate_series(0, 299) AS k;
    CREATE TABLE f (LIKE p INCLUDING ALL) PARTITION BY RANGE (k);
    CREATE TABLE f_0 PARTITION OF f FOR VALUES FROM (0) TO (100);
    CREATE TABLE f_1 PARTITION OF f FOR VALUES FROM (100) TO (200);
    INSERT INTO f SELECT k, 'old' FROM generate_series(0, 199) AS k;
    CREATE TABLE d (LIKE p INCLUDING ALL) PARTITION BY RANGE (k);
    CREATE TABLE d_0 PARTITION OF d FOR VALUES FROM (0) TO (100);
    CREATE TABLE d_1 PARTITION OF d FOR VALUES FROM (100) TO (200);
    INSERT INTO d SELECT k, 'old' FROM generate_series(0, 199) AS k;
SQL

# Objects of 1.0, which are updated afterwards.
$old->safe_psql('postgres', 'CREATE DATABASE earlier');
$old->safe_psql('earlier', "CREATE EXTENSION partbackfill VERSION '1.0'");

# One whose partitions are done, built and pending when it is paused.
my $reader = $old->background_psql('postgres', on_error_stop => 0);
$reader->query_safe('BEGIN; SELECT count(*) FROM ONLY p_1');
my $alice = 'SET ROLE alice';
my $paused = start_job($old, q{'p', 'SELECT k, v || ''+'' AS v FROM p WHERE k <> 250 OR pg_sleep(600) IS NOT NULL', delay => '0', swap => 'storage'}, $alice);
$old->poll_query_until('postgres', "SELECT string_agg(state, ' ' ORDER BY ordinal) FROM backfill_progress WHERE job = $paused", 'done ready running')
    or die 'the job does not come to its second partition';
$old->safe_psql('postgres', "SELECT backfill_pause($paused)");
is(wait_job($old, $paused), 'paused', 'before: a job is paused');
is(states($old, $paused), 'done ready pending', 'before: with partitions in each state');
$reader->quit;
$old->safe_psql('postgres', "UPDATE p SET v = 'written' WHERE k IN (50, 150)");

my $failed = start_job($old, q{'f', 'SELECT k, CASE WHEN k = 150 AND (SELECT count(*) FROM fixed) = 0 THEN (k / 0)::text ELSE v || ''+'' END AS v FROM f',}
        . q{ delay => '0', max_attempts => 1, keep_old => false, label => 'nightly'}, $alice);
is(wait_job($old, $failed), 'failed', 'before: a job has failed');
my $done = start_job($old, q{'d', 'SELECT k, v || ''+'' AS v FROM d', delay => '0', swap => 'attach'}, $alice);
is(wait_job($old, $done), 'done', 'before: a job is done');
my $identity = $old->safe_psql('postgres', 'SELECT backfill_installation()');
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('after');
my @checksums = $from_major < 18 && $to_major >= 18 ? ('--no-data-checksums') : (); # the default is another one since 18
$new->init(extra => [ '--locale=C', '--encoding=UTF8', @checksums ]);
$new->append_conf('postgresql.conf', join("\n", @settings, ''));
{
    # It leaves files in the directory in which it runs.
    my $scratch = PostgreSQL::Test::Utils::tempdir;
    chdir $scratch or die "could not enter $scratch: $!";
    command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old_bin, '-B', $new_bin,
            '-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade runs');
}
$new->start;
note("from $from to $to");
is($new->safe_psql('postgres', 'SELECT backfill_installation()'), $identity, 'the installation is the same');
is($new->safe_psql('postgres', 'SELECT job, state, label FROM backfill_status'), "$paused|paused|\n$failed|failed|nightly\n$done|done|", 'the jobs are there');
is($new->safe_psql('postgres', "SELECT ordinal, changed FROM backfill_diff($done)"), "1|100\n2|100", 'done: kept rows can be compared');

is($new->safe_psql('earlier', q{ALTER EXTENSION partbackfill UPDATE; SELECT count(*) FROM backfill_status}), '0', 'objects of 1.0 are updated after it');

# No trigger comes along. What was built before is built again, since nobody has noticed what was written.
is($new->safe_psql('postgres', "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'partbackfill%'"), '0', 'writes are not noticed any more');
$new->safe_psql('postgres', "UPDATE p SET v = 'later' WHERE k = 151");
is($new->safe_psql('postgres', "SELECT backfill_resume($paused)"), '1', 'paused: the job is resumed');
my $worker = await_worker($new, $paused, 'true');
await_partition($new, $paused, 2, "state = 'done'");
is($new->safe_psql('postgres', 'SELECT v, count(*) FROM p_1 GROUP BY 1 ORDER BY 1'), "later+|1\nold+|98\nwritten+|1", 'paused: no write is lost');
is($new->safe_psql('postgres', "SELECT backfill_cancel($paused)"), 't', 'paused: the rest of it is canceled');
is(wait_job($new, $paused), 'canceled', 'paused: and it ends');

is((error_of($new, "SELECT backfill_revert($paused)"))[0], '55006', 'reverts: what was written is not known');
is($new->safe_psql('postgres', "SELECT backfill_revert($done, force => true)"), '2', 'reverts: they can be forced');
is($new->safe_psql('postgres', 'SELECT v, count(*) FROM d GROUP BY 1'), 'old|200', 'reverts: the old rows are back');

$new->safe_psql('postgres', 'INSERT INTO fixed VALUES (1)');
is($new->safe_psql('postgres', "SELECT backfill_retry($failed)"), '1', 'failed: it is retried');
is(wait_job($new, $failed), 'done', 'failed: and done');
is($new->safe_psql('postgres', 'SELECT v, count(*) FROM f GROUP BY 1'), 'old+|200', 'failed: the rows are right');

my $next = start_job($new, q{'d', 'SELECT k, v || ''!'' AS v FROM d', delay => '0', keep_old => false}, $alice);
cmp_ok($next, '>', $done, 'numbers of jobs go on');
is(wait_job($new, $next), 'done', 'a new job is done');
$new->safe_psql('postgres', 'SELECT backfill_purge(job) FROM backfill_status');
check_upgraded($new);
$new->stop;
done_testing();

# As check_clean(), whose procedure is not here.
sub check_upgraded {
    my ($node) = @_;
    await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'");
    return is(leftovers($node), '', 'nothing is left behind');
}
