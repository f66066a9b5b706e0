# A role that gives a job texts of hundreds of megabytes, which every process that looks at the job would load. On 1.0 four jobs
# with sources of 200 MB cost a superuser's backfill_resume() 1 GB, and the launcher 0.8 GB.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('sizes');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    INSERT INTO t SELECT generate_series(0, 9);
SQL

my $limit = 1024 * 1024;
my $long = "repeat('x', " . ($limit + 1) . ')';
sub refused {
    my ($call, $message, $title) = @_;
    my ($code, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$call");
    isnt($code, 0, "$title: refused");
    like($error, qr/ERROR:  54000: \Q$message\E/, "$title: the reason");
}

# Each text of each function that takes some.
my %texts = (
    backfill_start => [ "'t', 'SELECT k FROM t'", qw(range_start range_end max_wal_rate throttle_query min_free_disk on_write on_error swap) ],
    backfill_plan => [ "'t'", qw(source range_start range_end) ],
);
for my $function (sort keys %texts) {
    my ($first, @names) = @{ $texts{$function} };
    refused("SELECT $function($first, $_ => $long)", "$_ must not be longer than 1 MB", "$function, $_") for @names;
}
refused("SELECT backfill_start('t', $long)", 'source must not be longer than 1 MB', 'backfill_start, source');
refused("SELECT backfill_start('t', 'SELECT k FROM t', partitions => array_fill('t_1'::regclass, ARRAY [100001]))",
    'an array of partitions must not have more than 100000 elements', 'backfill_start, partitions');
refused("SELECT set_config('app.long', $long, false); SELECT backfill_start('t', 'SELECT k FROM t')",
    'settings of the session must not be longer than 1 MB in all', 'backfill_start, a setting');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill_job'), '0', 'no job is left of that');

# What is as long as it may be works.
my $padded = "rpad('SELECT k FROM t -- ', $limit, 'x')";
my $job = $node->safe_psql('postgres', "SELECT backfill_start('t', $padded, delay => '0', keep_old => false)");
is(wait_job($node, $job), 'done', 'a source of 1 MB');
is($node->safe_psql('postgres', "SELECT length(source) FROM backfill_status WHERE job = $job"), $limit, 'is shown');

my $keeper = session($node);
close_gate($keeper, 1);
$job = $node->safe_psql('postgres', "SELECT backfill_start('t', 'SELECT k FROM t WHERE pass_gate(1)', delay => '0', keep_old => false)");
refused("SELECT backfill_alter($job, $_ => $long)", "$_ must not be longer than 1 MB", "backfill_alter, $_")
    for qw(max_wal_rate throttle_query min_free_disk);
open_gate($keeper, 1);
$keeper->quit;
is(wait_job($node, $job), 'done', 'the job is as it was');

# A longer one, that an older version took, is loaded by those only who build from it.
SKIP: {
    skip 'no /proc', 1 unless -r '/proc/self/status';
    my $holder = session($node);
    close_gate($holder, 1);
    $job = $node->safe_psql('postgres', "SELECT backfill_start('t', 'SELECT k FROM t WHERE pass_gate(1)', delay => '0', keep_old => false)");
    await_at_gate($node, 1);
    $node->safe_psql('postgres', "SELECT backfill_pause($job)");
    is(wait_job($node, $job), 'paused', 'a paused job');
    $node->safe_psql('postgres', "UPDATE backfill_job SET source = rpad('SELECT k FROM t -- ', 200000000, 'x') WHERE job = $job");
    my $caller = session($node);
    my $pid = $caller->query_safe('SELECT pg_backend_pid()');
    my $before = peak($pid);
    $caller->query_safe($_) for "SELECT backfill_alter($job, delay => '1 ms')", 'SELECT state FROM backfill_status',
        'SELECT state FROM backfill_progress', "SELECT backfill_wait($job)", 'SELECT backfill_resume()', "SELECT backfill_cancel($job)";
    cmp_ok(peak($pid) - $before, '<', 100, 'functions and views do not load the source, in MB');
    $caller->quit;
    open_gate($holder, 1);
    $holder->quit;
}

# The most memory that the process has had, in MB.
sub peak {
    my ($pid) = @_;
    my ($kb) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
    return $kb / 1024;
}

$node->stop;
done_testing();
