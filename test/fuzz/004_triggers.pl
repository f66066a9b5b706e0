# The extension's trigger functions in triggers that are not its own: each on every event, before, after and instead, for
# rows and statements, on tables whose columns are called as those of the control tables are, or not; and its event trigger
# functions on every event. An error that says what is wrong, or nothing. 1.0 crashed where backfill_announce was made a
# trigger for statements, and complained of a "bad optional access" where a column was missing.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use Backfill;
use Hostile;

my $node = new_node('triggers', settings => ['restart_after_crash = on']);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE bare (a integer);
    CREATE TABLE alike (job bigint, ordinal integer, partition text, state text);
    CREATE TABLE unlike (job text, ordinal text, partition text, state text);
    CREATE VIEW seen AS SELECT * FROM alike;
SQL
my @functions = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', <<'SQL');
    SELECT p.oid::regproc, p.prorettype::regtype FROM pg_proc AS p
    JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    WHERE e.extname = 'partbackfill' AND p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)
SQL
cmp_ok(scalar @functions, '>=', 4, 'the functions are found');

# Fires a trigger with all that its tables may hold.
my %rows = (
    bare => [ '(1)', '(NULL)' ],
    alike => [ "(1, 2, 'p', 's')", '(NULL, NULL, NULL, NULL)', "(1, NULL, NULL, '')", q{(1, -1, '"\', '{}')} ],
    unlike => [ "('x', 'y', '', '')", "('99999999999999999999', '1e9', 'p', 's')" ]);
$rows{seen} = $rows{alike};

my $script = "\\set VERBOSITY verbose\n";
for my $function (@functions) {
    my ($name, $type) = @$function;
    if ($type eq 'event_trigger') {
        for my $event (qw(ddl_command_start ddl_command_end sql_drop table_rewrite)) {
            $script .= <<"SQL";
                BEGIN;
                CREATE EVENT TRIGGER hostile ON $event EXECUTE FUNCTION $name();
                CREATE TABLE made AS SELECT 1 AS a;
                ALTER TABLE made ALTER a TYPE text;
                DROP TABLE made;
                ROLLBACK;
SQL
        }
        next;
    }
    for my $table (sort keys %rows) {
        for my $kind ('BEFORE', 'AFTER', 'INSTEAD OF') {
            for my $level ('ROW', 'STATEMENT') {
                for my $arguments ('', "'1'", "'x', '{}'", 'NULL') {
                    my $truncate = $level eq 'STATEMENT' && $table ne 'seen' && $kind ne 'INSTEAD OF' ? 'OR TRUNCATE' : '';
                    my $insert = join ', ', @{ $rows{$table} };
                    my $create = "CREATE TRIGGER hostile $kind INSERT OR UPDATE OR DELETE $truncate ON $table"
                        . " FOR EACH $level EXECUTE FUNCTION $name($arguments);";
                    my $column = $table eq 'bare' ? 'a' : 'job';
                    # Each statement by itself, on rows that were there before the trigger.
                    for my $statement ("INSERT INTO $table VALUES $insert", "UPDATE $table SET $column = $column", "DELETE FROM $table",
                        $truncate ? "TRUNCATE $table" : ()) {
                        $script .= "BEGIN;\nINSERT INTO $table VALUES $insert;\n$create\n$statement;\nROLLBACK;\n";
                    }
                }
            }
        }
    }
}
# From a file: a session that ends early would break a pipe.
my $file = PostgreSQL::Test::Utils::tempdir_short() . '/script.sql';
append_to_file($file, $script);
my $error = '';
IPC::Run::run([ 'psql', '-Xq', '-h', $node->host, '-p', $node->port, '-f', $file, 'postgres' ], '>', \my $out, '2>', \$error);
is(join("\n", internal_errors($error)), '', 'no internal error');
unlike(slurp_file($node->logfile), qr/terminated by signal/, 'no crash');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill_write'), '0', 'no mark was made');
$node->stop;
done_testing();
