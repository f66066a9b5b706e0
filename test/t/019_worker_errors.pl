# An error that a worker cannot put on a partition ends it, and is in the server's log once and whole.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('worker_errors', settings => ['log_error_verbosity = verbose']);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
SQL

# The worker looks at its job before it takes up a partition, and the table has another column by then.
my $before = -s $node->logfile;
my $job = $node->safe_psql('postgres', <<'SQL');
    BEGIN;
    SELECT backfill_start('t', 't', delay => '0', keep_old => false);
    ALTER TABLE backfill_job RENAME COLUMN keep_old TO kept;
    COMMIT;
SQL
my $log = '';
for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default) {
    $log = slurp_file($node->logfile, $before);
    last if $log =~ /exited with exit code 1/;
    select undef, undef, undef, 0.05;
}
like($log, qr/partbackfill worker ERROR:  42703: column "keep_old" does not exist/, 'the error is in the log');
like($log, qr/partbackfill worker LOCATION:  errorMissingColumn, parse_relation\.c:\d+/, 'with its place in the server');
unlike($log, qr/there is no client connection/, 'and not again, for a client that is not there');
my @pids = $log =~ /\[(\d+)\] partbackfill worker ERROR:/g;
my %seen;
$seen{$_}++ for @pids;
is(join(' ', grep { $_ > 1 } values %seen), '', 'once by each worker');

$node->safe_psql('postgres', 'ALTER TABLE backfill_job RENAME COLUMN kept TO keep_old');
is(wait_job($node, $job), 'done', 'the worker comes back, and does the job');

my (undef, $message) = error_of($node, q{SELECT backfill_start('t', 't', delay => '-1 year 361 days')});
like($message, qr/^delay must not be negative/, 'refused: an interval that is negative in seconds only');

done_testing();
