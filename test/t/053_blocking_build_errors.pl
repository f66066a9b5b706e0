# An error in the swap of a build that holds writers is the partition's error: its worker lives, and says which it was.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('blocking_build_errors');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int NOT NULL) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
    INSERT INTO t VALUES (1);
    CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'public.t') THEN
            RAISE 'table t is not to be altered';
        END IF;
    END
    $$;
    CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION refuse();
SQL

for my $on_write ('rebuild', 'block') {
    my $job = start_job($node, "'t', 't', delay => '0', on_write => '$on_write', max_attempts => 1");
    is(wait_job($node, $job), 'failed', "on_write $on_write: the job fails");
    is($node->safe_psql('postgres', "SELECT attempts, split_part(error, chr(10), 1) FROM backfill_progress WHERE job = $job"),
        '1|table t is not to be altered', "on_write $on_write: its error is told");
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
}
check_clean($node, 'errors in swaps');

$node->stop;
done_testing;
