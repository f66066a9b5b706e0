# Event triggers may alter each new table, and so the one that is built for a partition. By attach that one would take the
# partition's place: it is refused when it is not defined like it, and the error says what differs. By storage the
# partition keeps all that is its own. An index that is not valid is refused by both, as nothing takes its place.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('new_tables');
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE reader;
    CREATE TABLE t (k int NOT NULL, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
    INSERT INTO t SELECT k, 'x' FROM generate_series(0, 899) AS k;
    GRANT SELECT ON t, t_1 TO reader;
    CREATE TABLE change (statement text);
    CREATE FUNCTION alter_table() RETURNS event_trigger LANGUAGE plpgsql AS $$
    DECLARE
        made record;
        change text;
    BEGIN
        FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE' LOOP
            FOR change IN SELECT statement FROM public.change LOOP
                EXECUTE format(change, made.objid::regclass);
            END LOOP;
        END LOOP;
    END
    $$;
    CREATE EVENT TRIGGER every_table ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION alter_table();
SQL

sub rows_of_reader { return $node->safe_psql('postgres', 'SET ROLE reader; SELECT count(*) FROM t_1'); }

for my $case (
    [ 'ALTER TABLE %s ENABLE ROW LEVEL SECURITY', qr/only of the shadow: row security is enabled/ ],
    [ 'ALTER TABLE %s REPLICA IDENTITY FULL', qr/replica identity is "f"/ ],
    [ 'ALTER TABLE %s SET (autovacuum_enabled = off)', qr/option autovacuum_enabled=off/ ],
    [ q{COMMENT ON TABLE %s IS 'made by somebody'}, qr/comment 'made by somebody'/ ],
    [ 'ALTER TABLE %s ALTER v SET DEFAULT 7', qr/column v has default/ ],
    [ 'ALTER TABLE %s ADD CONSTRAINT more CHECK (k < 5000)', qr/constraint more/ ],
    [ 'CREATE INDEX ON %s (v)', qr/index t_1_v_idx/ ]) {
    my ($statement, $reason) = @$case;
    $node->safe_psql('postgres', "TRUNCATE change; INSERT INTO change VALUES (\$\$$statement\$\$)");
    my $job = start_job($node, "'t', 't', swap => 'attach', keep_old => false, max_attempts => 1");
    is(wait_job($node, $job), 'failed', "attach, $statement: refused");
    my $error = $node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job");
    like($error, $reason, 'the error says what differs');
    like($error, qr/event trigger/, 'and what may have made it');
    is(rows_of_reader(), 900, 'a reader sees what he saw');
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    wait_job($node, $job);
    next if $statement =~ /CREATE INDEX/;
    $job = start_job($node, "'t', 't', swap => 'storage', keep_old => false");
    is(wait_job($node, $job), 'done', "storage, $statement: done");
    is(rows_of_reader(), 900, 'a reader sees what he saw');
}
$node->safe_psql('postgres', 'TRUNCATE change');

$node->safe_psql('postgres', q{CREATE INDEX i ON t_1 (v); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass});
for my $method (qw(attach storage)) {
    my ($code, $message) = error_of($node, "SELECT backfill_start('t', 't', swap => '$method')");
    is($code, '0A000', "$method: an index that is not valid is refused");
    like($message, qr/has index i, which is not valid \(drop it or rebuild it with REINDEX\)/, 'the reason says so');
}
$node->safe_psql('postgres', 'DROP INDEX i');
check_clean($node, 'after all');

$node->stop;
done_testing();
