# sqlsmith for FUZZ_SECONDS by an ordinary role and at once by a superuser, beside a job that is slow and throttled: its
# random queries call the extension's functions and read its views. The server lives, and the job ends as if they had not
# been there. FUZZ_SEED repeats the queries.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use Backfill;

my $seed = $ENV{FUZZ_SEED} || (time ^ $$) % 1_000_000_000;
my $seconds = $ENV{FUZZ_SECONDS} || 60;

diag("FUZZ_SEED=$seed FUZZ_SECONDS=$seconds");

my $node = new_node('smith', settings => [
        'restart_after_crash = off', "log_line_prefix = '%m [%p] %e %b %q%a '", 'track_functions = all', 'log_min_error_statement = fatal' ]);

# Few tables, or the arguments that are meant for the functions would seldom come up.
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE jo LOGIN;
    GRANT ALL ON SCHEMA public TO jo;
    GRANT CREATE ON DATABASE postgres TO jo;
    SET ROLE jo;
    CREATE TABLE t (k integer NOT NULL, v text) PARTITION BY RANGE (k);
    SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', n, 10 * n - 10, 10 * n)
    FROM generate_series(1, 4) AS n \gexec
    CREATE TABLE truth AS SELECT k, 'v' || k AS v FROM generate_series(0, 39) AS k;
    INSERT INTO t SELECT k, 'old' FROM truth;
    CREATE TABLE slow (k integer NOT NULL, v text) PARTITION BY RANGE (k);
    SELECT format('CREATE TABLE slow_%s PARTITION OF slow FOR VALUES FROM (%s) TO (%s)', n, 10 * n - 10, 10 * n)
    FROM generate_series(1, 20) AS n \gexec
    CREATE TABLE slow_truth AS SELECT k, 'v' || k AS v FROM generate_series(0, 199) AS k;
    INSERT INTO slow SELECT k, 'old' FROM slow_truth;
    RESET ROLE;

    -- What sqlsmith takes for the catalog of functions: ours, and so few of the server's that ours come up often. What
    -- ends or stops the server by design, or writes files, is not for it.
    CREATE SCHEMA smith;
    CREATE VIEW smith.pg_proc AS
        SELECT * FROM pg_catalog.pg_proc
        WHERE (pronamespace = 'public'::regnamespace AND proname ~ '^backfill_')
           OR (pronamespace = 'pg_catalog'::regnamespace AND abs(hashint4(oid::integer)) % 64 = 0
               AND proname !~ 'terminate|promote|replication|logical|^lo_|rotate|pg_ls_|_file|binary_upgrade|backup|wal|sleep|advisory');

    -- Arguments that let a call get somewhere.
    CREATE TABLE smith.food (target regclass, source text, job bigint, partitions regclass[], pause interval, ratio float8,
                             workers integer, flag boolean);
    INSERT INTO smith.food
    SELECT 't', s, j, p::regclass[], '10 ms', 0, 1, j > 1
    FROM unnest(ARRAY['truth', 'SELECT k, v FROM truth', 'TABLE t']) AS s, generate_series(1, 3) AS j,
         unnest(ARRAY[NULL, '{t_1}', '{t_2,t_3}']) AS p;
    SELECT format('CREATE VIEW smith.food_%s AS SELECT * FROM smith.food', n) FROM generate_series(1, 10) AS n \gexec
    GRANT USAGE ON SCHEMA smith TO jo;
    GRANT SELECT ON ALL TABLES IN SCHEMA smith TO jo;
    ALTER ROLE jo SET search_path = smith, pg_catalog, public;
    ALTER ROLE postgres SET search_path = smith, pg_catalog, public;
SQL
# It lasts longer than the queries.
my $delay = $seconds / 15;
$node->safe_psql('postgres', "SET ROLE jo; SET search_path = public; SELECT backfill_start('slow', 'slow_truth',"
        . " delay => '$delay s', nice_ratio => 2, max_wal_rate => '1MB', keep_old => false, swap_patience => '10 min')");

# What it says of its queries' errors is of no interest; how many there were is.
my @smiths;
for my $role ('jo', 'postgres') {
    my %smith = (role => $role, out => '');
    local $ENV{PGOPTIONS} = '-c lock_timeout=100ms -c idle_in_transaction_session_timeout=10s';
    $smith{run} = IPC::Run::start(
        [ 'timeout', '--signal=INT', $seconds, 'sqlsmith', '--exclude-catalog', '--verbose', "--seed=$seed",
            '--target=host=' . $node->host . ' port=' . $node->port . " dbname=postgres user=$role" ],
        '>', \$smith{out}, '2>&1');
    push @smiths, \%smith;
}
$_->{run}->finish for @smiths;

is($node->psql('postgres', 'SELECT 1'), 0, 'the server is there');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP|AddressSanitizer|runtime error|in recovery mode/, 'and was there all the time');
for my $smith (@smiths) {
    my ($queries) = $smith->{out} =~ /.*queries: (\d+)/s;
    ok(($queries // 0) > 20, "queries of $smith->{role}: " . ($queries // substr $smith->{out}, -2000));
}

# That the functions were called: those that returned are counted, the others complain of a job, or of an argument.
my $returned = $node->safe_psql('postgres', <<'SQL');
    SELECT COALESCE(sum(calls), 0) FROM pg_stat_user_functions
    WHERE funcname ~ '^backfill_(start|plan|alter|pause|resume|retry|cancel|wait|purge)$'
SQL
my $complained = () = slurp_file($node->logfile) =~ /ERROR:  (?:backfill job|cannot wait for|\w+ must )/g;
diag("fuzz: $returned calls returned, $complained complained");
cmp_ok($returned + $complained, '>', $seconds / 20, 'the functions were called');

# Nothing that a query began outlives it; the job goes on, and fast if it may. It may have ended: while a query keeps partitions from their
# swaps, the next ones are built without a pause.
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill_job'), '1', 'no other job was started');
my (undef, undef, $error) = $node->psql('postgres', "SELECT backfill_resume(1); SELECT backfill_alter(1, workers => 2, delay => '0', nice_ratio => 0, max_wal_rate => '')");
unlike($error, qr/ERROR:(?!  backfill job 1 has ended$)/m, 'it is resumed');
is(wait_job($node, 1), 'done', 'the job is done');
is($node->safe_psql('postgres', '(TABLE public.slow EXCEPT ALL TABLE public.slow_truth)'
            . ' UNION ALL (TABLE public.slow_truth EXCEPT ALL TABLE public.slow)'), '', 'its rows are right');
is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE v <> 'old'"), '0', 'those of the other table are as they were');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), '0', 'no lock is left');
check_clean($node, 'after sqlsmith');
$node->stop;
done_testing();
