# backfill_revert(): the old rows come back as they were, by the exchange that took them away, and what was written since
# is either carried over or refused.
use strict;
use warnings;

use Backfill;
use CatchUp;
use Definition;
use PostgreSQL::Test::Utils;
use Revert;
use Test::More;

my $node = new_node('revert');
my $rewrite = "'t', \$\$SELECT k, 'new'::text AS v, n FROM t\$\$";

# Three partitions with what a definition may have, 300 rows.
sub make_table {
    $node->safe_psql('postgres', <<'SQL');
        DROP TABLE IF EXISTS t;
        CREATE TABLE t (gone int, k int NOT NULL, v text, n int CHECK (n >= 0), d int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (k)) PARTITION BY RANGE (k);
        ALTER TABLE t DROP COLUMN gone;
        CREATE INDEX ON t (v);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (200) TO (300);
        COMMENT ON TABLE t_2 IS 'the second';
        CREATE STATISTICS t_2_s ON k, n FROM t_2;
        ALTER TABLE t_2 ALTER COLUMN n SET STATISTICS 7;
        CREATE INDEX t_2_n ON t_2 (n) WHERE n > 3;
        INSERT INTO t SELECT k, 'old', k % 10 FROM generate_series(0, 299) AS k;
        ANALYZE t;
SQL
    return;
}

sub rows_of {
    my ($table) = @_;
    return $node->safe_psql('postgres', "SELECT md5(string_agg(x::text, ',' ORDER BY k)) FROM $table AS x");
}

sub versions {
    return $node->safe_psql('postgres', q{SELECT string_agg(v || ' ' || n, ', ' ORDER BY v) FROM (SELECT v, count(*) AS n FROM t GROUP BY v) AS c});
}

sub state_of {
    my ($job) = @_;
    return $node->safe_psql('postgres',
        "SELECT s.state || ': ' || string_agg(p.state, ' ' ORDER BY p.ordinal) FROM backfill_status AS s JOIN backfill_progress AS p USING (job) WHERE job = $job GROUP BY s.state");
}

for my $swap (qw(attach storage)) {
    for my $on_write (qw(rebuild catch_up block ignore)) {
        my $title = "$swap, $on_write";
        make_table();
        my $rows = rows_of('t');
        my $schema = dump_schema($node);
        my $job = done_job($node, "$rewrite, swap => '$swap', on_write => '$on_write'");
        is(versions(), 'new 300', "$title: the new rows are there");
        my $new = rows_of('t');

        is(revert($node, $job), 3, "$title: all are reverted");
        is(state_of($job), 'reverted: reverted reverted reverted', "$title: the states say so");
        is(rows_of('t'), $rows, "$title: the old rows are back");
        is(rows_of("(SELECT * FROM backfill_${job}_old.t_1 UNION ALL SELECT * FROM backfill_${job}_old.t_2 UNION ALL SELECT * FROM backfill_${job}_old.t_3)"),
            $new, "$title: the new ones are kept beside");

        is(revert($node, "$job, 't_2'"), 1, "$title: one gets its new rows back");
        is(state_of($job), 'done: reverted done reverted', "$title: that one alone");
        is(versions(), 'new 100, old 200', "$title: as the rows say");
        is(revert($node, $job), 1, "$title: the job reverts what has its new rows");
        is(rows_of('t'), $rows, "$title: the old rows are back once more");
        is(revert($node, $job), 3, "$title: a revert can be reverted");
        is(rows_of('t'), $new, "$title: the new rows are back");
        is(state_of($job), 'done: done done done', "$title: the job is done again");
        is(revert($node, $job), 3, "$title: and reverted again");

        end_job($node, $job, $title);
        is(dump_schema($node), $schema, "$title: the definition is as before the job");
        is(rows_of('t'), $rows, "$title: so are the rows");
    }
}

sub refused {
    my ($statement, $code, $message, $title) = @_;
    my ($got, $text) = error_of($node, $statement);
    is($got, $code, "$title: refused");
    like($text, $message, "$title: with the reason");
    return;
}

# What cannot be reverted, and why.
make_table();
my $rows = rows_of('t');
refused('SELECT backfill_revert(100000)', '42704', qr/does not exist/, 'no such job');
{
    my $job = done_job($node, "$rewrite, keep_old => false");
    refused("SELECT backfill_revert($job)", '55000', qr/old rows of 3 of 3 partitions .* are not kept.*keep_old => true/s, 'nothing kept');
    $job = done_job($node, "$rewrite, publish => 'each'");
    refused("SELECT backfill_revert($job, 'pg_class')", '55000', qr/was not swapped by backfill job $job/, 'a table of no job');
    refused('DROP EXTENSION partbackfill', '2BP01', qr/backfill job $job keeps old rows.*backfill_purge\($job\).*CASCADE/s, 'DROP EXTENSION');
    refused("BEGIN; SELECT count(*) FROM t_1; SELECT backfill_revert($job)", '25001', qr/cannot revert .* has used table public.t/s, 'in a transaction in the way');
    is($node->safe_psql('postgres', "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT backfill_revert($job, 't_1'); ROLLBACK"), "1\n1", 'above READ COMMITTED');
    is(state_of($job), 'done: reverted done done', 'whatever becomes of the transaction');
    $node->safe_psql('postgres', "SELECT backfill_purge($job)");
    refused("SELECT backfill_revert($job)", '55000', qr/are not kept.*backfill_purge/s, 'purged');
    refused("SELECT backfill_retry($job), backfill_alter($job, delay => '1 s')", '55000', qr/has ended/, 'altered');
    end_job($node, $job, 'purged');
}
for my $swap (qw(attach storage)) {
    my $first = done_job($node, "$rewrite, swap => '$swap'");
    my $second = start_job($node, "'t', 'SELECT k, ''newer'' AS v, n FROM t', partitions => '{t_2}', swap => '$swap', delay => '0'");
    is(wait_job($node, $second), 'done', "$swap, a later job: done");
    refused("SELECT backfill_revert($first)", $swap eq 'attach' ? '55000' : '55006', qr/later job|not noticed all the time/, "$swap, a later job");
    is(revert($node, "$first, 't_1'"), 1, "$swap, a later job: another partition can be reverted");
    is(revert($node, $second), 1, "$swap, a later job: it can be reverted");
    $node->safe_psql('postgres', "SELECT backfill_purge($second), backfill_forget($second)");
    end_job($node, $first, "$swap, a later job");
}

sub dump_public {
    my ($dump, $errors) = run_command([ 'pg_dump', '--schema-only', '--schema', 'public', '--dbname', $node->connstr('postgres') ]);
    return join "\n", grep { !/^\\(un)?restrict / } split /\n/, $dump;
}

# The definition was changed since the swap: by a build, where the old rows can have it.
for my $swap (qw(attach storage)) {
    make_table();
    my $job = done_job($node, "$rewrite, swap => '$swap'");
    $node->safe_psql('postgres', 'CREATE INDEX t_1_d ON t_1 (d); GRANT SELECT ON t_2 TO PUBLIC; ALTER TABLE t_3 ADD CHECK (n < 100)');
    my $schema = dump_public();
    is(revert($node, $job), 3, "$swap, changed since: reverted");
    is(versions(), 'old 300', "$swap, changed since: the old rows are back");
    end_job($node, $job, "$swap, changed since");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_index WHERE indrelid = 't_1'::regclass}), '3', "$swap, changed since: the index is there");
    same_text(dump_public(), $schema, "$swap, changed since: the definition stays");
}
{
    make_table();
    my $job = done_job($node, "$rewrite, swap => 'storage'");
    $node->safe_psql('postgres', 'ALTER TABLE t ADD COLUMN later int');
    refused("SELECT backfill_revert($job)", '55006', qr/3 of 3 partitions .* changed since.*t_1: its columns were changed/s, 'a new column');
    refused("SELECT backfill_revert($job, force => true)", '55000', qr/could not revert 3 of 3 partitions.*has other columns than the table with its old rows/s, 'a new column, by force');
    is(state_of($job), 'done: done done done', 'a new column: the job is done as before');
    end_job($node, $job, 'a new column');
}

# In the hands of a worker: what may be done with the job, and a cancel.
{
    make_table();
    my $job = done_job($node, "$rewrite, swap => 'storage'");
    my $new = rows_of('t');
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t_2');
    my $caller = session($node);
    $caller->query_until(qr/begun/, "\\echo begun\nSELECT backfill_revert($job);\n");
    await_partition($node, $job, 2, "waiting_on LIKE 'lock (held by%'");
    await($node, "SELECT count(*) = 2 FROM backfill_progress WHERE job = $job AND state = 'reverted'");
    refused("SELECT backfill_pause($job)", '55000', qr/cannot be paused while it is being reverted/, 'a pause');
    refused("SELECT backfill_retry($job)", '55000', qr/cannot be retried while it is being reverted/, 'a retry');
    refused("SELECT backfill_revert($job)", '55000', qr/has not ended.*being reverted/s, 'a second revert');
    refused("SELECT backfill_start('t', 't')", '55006', qr/unfinished job/, 'another job');
    refused("SELECT backfill_purge($job)", '55000', qr/has not ended/, 'a purge');
    is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', 'a cancel ends it');
    is(wait_job($node, $job), 'done', 'a cancel: the job is done');
    is(state_of($job), 'done: reverted done reverted', 'a cancel: what is reverted stays so');
    $caller->quit;
    like($caller->{stderr}, qr/could not revert 1 of 3 partitions/, 'a cancel: who waited is told');
    $reader->quit;
    is(revert($node, "$job"), 1, 'a cancel: the rest can be reverted');
    is(versions(), 'old 300', 'a cancel: all old rows are back');
    end_job($node, $job, 'a cancel');
}

# Published together, reverted together.
for my $swap (qw(attach storage)) {
    make_table();
    $node->safe_psql('postgres', <<'SQL');
        CREATE OR REPLACE FUNCTION read_all() RETURNS void LANGUAGE plpgsql AS $$
        DECLARE
            versions text;
        BEGIN
            SELECT string_agg(DISTINCT v, ', ') INTO versions FROM t;
            IF versions LIKE '%,%' THEN
                RAISE EXCEPTION 'a mix: %', versions;
            END IF;
            IF (SELECT count(*) FROM t) <> 300 THEN
                RAISE EXCEPTION 'rows are missing';
            END IF;
        END
        $$
SQL
    append_to_file("$PostgreSQL::Test::Utils::tmp_check/all.sql", "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT read_all();\nSELECT read_all();\nCOMMIT;\nSELECT read_all();\n");
    my $readers = start_clients($node, 2, '-f', "$PostgreSQL::Test::Utils::tmp_check/all.sql");
    my $job = done_job($node, "$rewrite, swap => '$swap', publish => 'together'");
    for my $expected (qw(old new old)) {
        is(revert($node, $job), 3, "$swap, together: to the $expected rows");
        is(versions(), "$expected 300", "$swap, together: the $expected rows are there");
    }
    unlike(stop_clients($readers), qr/ERROR/, "$swap, together: no reader has seen a mix");
    end_job($node, $job, "$swap, together");
}

done_testing();
