# Every function with hostile arguments on a hot standby, where nothing can be written: an error that says so, or an
# answer; and the standby goes on.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use Backfill;
use Hostile;

my $seed = $ENV{FUZZ_SEED} || (time ^ $$) % 1_000_000_000;
srand $seed;
diag("FUZZ_SEED=$seed");

my $primary = new_node('primary', allows_streaming => 1);
$primary->safe_psql('postgres', slurp_file("$FindBin::RealBin/world.sql"));
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'restart_after_crash = off');
$standby->start;
my $job = start_job($primary, "'t', 'truth', partitions => ARRAY['t_1']::regclass[]", 'SET ROLE jo');
wait_job($primary, $job);
$primary->wait_for_catchup($standby);

my @functions = functions_of($standby);
my $script = "\\set VERBOSITY verbose\nSET statement_timeout = '1 s';\n";
for my $number (1 .. 300) {
    my $call = call(pick(@functions));
    $script .= "\\warn CALL $number $call\n" =~ s/\n(?=.)/ /gr . "SELECT * FROM $call;\n";
}
my ($code, $out, $error) = $standby->psql('postgres', $script, on_error_stop => 0);
is($code, 0, 'the session lasts');
is(join("\n", internal_errors($error)), '', 'no internal error');
like($error, qr/25006: cannot execute backfill_start\(\) in a read-only transaction|25006: /, 'what would write is refused');
is($standby->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"), 'done', 'the views can be read');
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype = 'advisory'"),
    '0', 'no lock is left');
unlike(slurp_file($standby->logfile), qr/terminated by signal|PANIC|TRAP/, 'no process died');
$_->stop for $standby, $primary;
done_testing();
