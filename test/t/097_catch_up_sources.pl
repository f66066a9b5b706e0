# Sources of many kinds, whose rows are computed again for the keys that were written; sources that fail; foreign keys that
# act; a key that gets another type; and writers that are faster than the source.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $node = new_node('catch_up_sources');
my $holder = session($node);

sub make_table {
    my ($more) = @_;
    $node->safe_psql('postgres', <<'SQL' . ($more // ''));
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, items, names CASCADE;
        CREATE TABLE t (k int PRIMARY KEY, total bigint, name text) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        CREATE TABLE items (k int, n bigint);
        CREATE TABLE names (k int PRIMARY KEY, name text);
        INSERT INTO t SELECT k, 0, 'old' FROM generate_series(0, 199) AS k;
        INSERT INTO items SELECT k % 200, k FROM generate_series(0, 999) AS k;
        INSERT INTO names SELECT k, 'name ' || k FROM generate_series(0, 199) AS k;
        CREATE INDEX ON items (k);
        CREATE VIEW totals AS SELECT k, sum(n)::bigint AS total, max(n)::text AS name FROM items GROUP BY k;
        CREATE VIEW joined AS SELECT names.k, sum(items.n)::bigint AS total, names.name FROM names LEFT JOIN items USING (k) GROUP BY names.k, names.name;
        ANALYZE items, names;
SQL
    return;
}

sub start {
    my ($method, $source, $options) = @_;
    close_gate($holder, 1);
    my $job = start_job($node, "'t', \$\$$source\$\$, swap => '$method', on_write => 'catch_up', delay => '0', keep_old => false, allow_shrink => true"
            . ($options ? ", $options" : ''));
    await_at_gate($node, 1);
    return $job;
}

# What makes and keeps t a table of sums: each transaction writes the key in t whose sum it changes.
my $writes = <<'SQL';
    BEGIN; INSERT INTO items VALUES (1, 1000); UPDATE t SET total = -1 WHERE k = 1; UPDATE names SET name = 'other' WHERE k = 1; COMMIT;
    BEGIN; DELETE FROM items WHERE k = 2; DELETE FROM names WHERE k = 2; DELETE FROM t WHERE k = 2; COMMIT;
    BEGIN; DELETE FROM items WHERE k = 3; DELETE FROM names WHERE k = 3; UPDATE t SET name = 'a key that the source does not have' WHERE k = 3; COMMIT;
    BEGIN; DELETE FROM items WHERE k IN (4, 5); DELETE FROM t WHERE k IN (4, 5); INSERT INTO t VALUES (4, -1, 'again');
           INSERT INTO items VALUES (4, 7), (4, 8); UPDATE names SET name = NULL WHERE k = 4; DELETE FROM names WHERE k = 5; COMMIT;
    BEGIN; UPDATE items SET n = n + 1 WHERE k IN (7, 107); UPDATE t SET total = -1 WHERE k IN (7, 107); COMMIT
SQL

#
# Sources that are right
#
for my $method (qw(attach storage)) {
    for my $kind (
        [ 'a view that groups', 'SELECT * FROM totals WHERE pass_gate(1)', 'SELECT * FROM totals' ],
        [ 'a view that joins', 'SELECT * FROM joined WHERE pass_gate(1)', 'SELECT * FROM joined' ],
        [ 'a query with the bounds', 'SELECT k, sum(n)::bigint AS total, max(n)::text AS name FROM items WHERE k >= $1 AND k < $2 AND pass_gate(1) GROUP BY k',
            'SELECT * FROM totals' ],
        [ 'a volatile function in the list', 'SELECT k, total, CASE WHEN random() < 2 THEN name END AS name FROM totals WHERE pass_gate(1)', 'SELECT * FROM totals' ],
        [ 'a common table expression', 'WITH x AS MATERIALIZED (SELECT * FROM joined) SELECT * FROM x WHERE pass_gate(1)', 'SELECT * FROM joined' ],
        [ 'UNION ALL', 'SELECT * FROM totals WHERE k % 2 = 0 AND pass_gate(1) UNION ALL SELECT k, total, name FROM totals WHERE k % 2 = 1', 'SELECT * FROM totals' ],
        [ 'other types of what is no key', 'SELECT k, total::numeric, name::varchar FROM joined WHERE pass_gate(1)', 'SELECT * FROM joined' ]) {
        my ($title, $source, $truth) = @$kind;
        $title = "$method: $title";
        make_table();
        my $job = start($method, $source, q{partitions => ARRAY['t_1'::regclass]});
        $node->safe_psql('postgres', $writes);
        open_gate($holder, 1);
        is(wait_job($node, $job), 'done', "$title: the job is done") or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"));
        is(figures($node, $job), 'done 1 0', "$title: in one build");
        same_rows($node, 't_1', "SELECT * FROM ($truth) AS s WHERE k < 100", "$title: the rows are right");
        check_clean($node, $title);
    }
}

#
# Sources that fail
#
for my $method (qw(attach storage)) {
    for my $kind (
        [ 'two rows for a key', q{INSERT INTO items VALUES (1, 2)}, '23505', qr/duplicate key value violates unique constraint/ ],
        [ 'an error for a row', q{INSERT INTO items VALUES (1, 0)}, '22012', qr/division by zero/ ]) {
        my ($title, $write, $sqlstate, $message) = @$kind;
        $title = "$method: $title";
        make_table('UPDATE items SET n = 1; DELETE FROM items WHERE ctid NOT IN (SELECT min(ctid) FROM items GROUP BY k)');
        my $job = start($method, 'SELECT k, n AS total, (1 / n)::text AS name FROM items WHERE pass_gate(1)', q{max_attempts => 1, partitions => ARRAY['t_1'::regclass]});
        $node->safe_psql('postgres', "BEGIN; $write; UPDATE t SET name = 'w' WHERE k = 1; COMMIT");
        my $before = fingerprint($node, 't_1');
        open_gate($holder, 1);
        is(wait_job($node, $job), 'failed', "$title: the job fails");
        is($node->safe_psql('postgres', "SELECT state, sqlstate FROM backfill_progress WHERE job = $job"), "failed|$sqlstate", "$title: with the error");
        like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"), $message, "$title: as the server says it");
        is(fingerprint($node, 't_1'), $before, "$title: the partition is as it was");
        check_clean($node, $title);
    }
}

#
# Foreign keys that act
#
{
    my $title = 'storage: foreign keys that act';
    $node->safe_psql('postgres', <<'SQL');
        CREATE TABLE parent (p int PRIMARY KEY, q int UNIQUE);
        INSERT INTO parent SELECT p, p FROM generate_series(0, 20) AS p;
        CREATE TABLE f (k int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
                        q int REFERENCES parent (q) ON DELETE SET NULL ON UPDATE CASCADE, v text) PARTITION BY RANGE (k);
        CREATE TABLE f_1 PARTITION OF f FOR VALUES FROM (0) TO (100);
        INSERT INTO f SELECT k, k % 20, (k + 7) % 20, 'old' FROM generate_series(0, 99) AS k;
SQL
    close_gate($holder, 1);
    my $job = start_job($node, q{'f', $$SELECT k, p, q, upper(v) AS v FROM f WHERE pass_gate(1)$$, swap => 'storage', on_write => 'catch_up', delay => '0',}
            . q{ keep_old => false, lock_timeout => '2 s'});
    await_at_gate($node, 1);
    $node->safe_psql('postgres', <<'SQL');
        DELETE FROM parent WHERE p = 3;
        UPDATE parent SET p = 104 WHERE p = 4;
        UPDATE parent SET q = 205 WHERE q = 5;
        INSERT INTO parent VALUES (30, 30);
        INSERT INTO f VALUES (3, 30, 30, 'new');
SQL
    my $truth = $node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', k, p, q, upper(v)), ',' ORDER BY k) FROM f});
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done") or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"));
    is(figures($node, $job), 'done 1 0', "$title: in one build");
    is($node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', k, p, q, v), ',' ORDER BY k) FROM f}), $truth, "$title: the rows are right");
    check_clean($node, $title);
}

#
# A key that gets another type
#
for my $method (qw(attach storage)) {
    my $title = "$method: another type of the key";
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS a, a_raw;
        CREATE TABLE a (k int, id int, v text, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
        CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (0) TO (100);
        INSERT INTO a SELECT k, k, 'old' FROM generate_series(0, 99) AS k;
        CREATE TABLE a_raw AS SELECT k, id, 'new'::text AS v FROM a;
SQL
    set_point($node, 'converged stop');
    my $job = start_job($node, "'a', 'SELECT k, id::int, v FROM a_raw', swap => '$method', on_write => 'catch_up', delay => '0', keep_old => false, max_attempts => 1");
    await_point($node, $job, 'converged');
    $node->safe_psql('postgres', q{ALTER TABLE a ALTER id TYPE bigint; BEGIN; UPDATE a SET v = 'w' WHERE k = 1; UPDATE a_raw SET v = 'w' WHERE k = 1; COMMIT});
    clear_point($node);
    like(wait_job($node, $job), qr/^(?:done|failed)$/, "$title: the job ends");
    my $state = $node->safe_psql('postgres', "SELECT state FROM backfill_progress WHERE job = $job");
    same_rows($node, 'a', $state eq 'done' ? 'SELECT k, id::bigint, v FROM a_raw' : q{SELECT k, k::bigint, CASE k WHEN 1 THEN 'w' ELSE 'old' END FROM generate_series(0, 99) AS k},
        "$title: the rows are right ($state)");
    check_clean($node, $title);
}

#
# Writers that are faster than the source
#
for my $method (qw(attach storage)) {
    my $title = "$method: a slow source";
    make_table('CREATE OR REPLACE FUNCTION slowly(k int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN'
            . q{ IF EXISTS (SELECT FROM backfill_control WHERE state = 'ready') THEN PERFORM pg_sleep(0.1); END IF; RETURN k >= 0; END $$});
    append_to_file("$PostgreSQL::Test::Utils::tmp_check/slow.sql", "\\set k random(0, 199)\nBEGIN; UPDATE t SET name = 'w' WHERE k = :k; UPDATE names SET name = 'w' || random() WHERE k = :k; COMMIT;\n")
        if $method eq 'attach';
    set_point($node, 'ready stop');
    my $job = start_job($node, "'t', 'SELECT k, 1::bigint AS total, name FROM names WHERE slowly(k)', partitions => ARRAY['t_1'::regclass], swap => '$method', on_write => 'catch_up',"
            . " delay => '0', keep_old => false, swap_patience => '3 s'");
    await_point($node, $job, 'ready');
    my $clients = start_clients($node, 2, '--rate=100', '-f', "$PostgreSQL::Test::Utils::tmp_check/slow.sql");
    usleep(20_000) while keys_behind($node, $job, 't_1') < 30; # and more to come, while these are refreshed
    clear_point($node);
    is(wait_job($node, $job), 'failed', "$title: it does not catch up");
    is($node->safe_psql('postgres', "SELECT state, attempts, rebuilds, sqlstate, split_part(error, chr(10), 1) FROM backfill_progress WHERE job = $job"),
        'failed|1|0|55P03|could not catch up with the writers of partition "public.t_1"', "$title: and says so");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"), qr/keys behind/, "$title: and how far it was behind");
    unlike(stop_clients($clients), qr/ERROR/, "$title: no writer has met an error");
    $node->safe_psql('postgres', 'CREATE OR REPLACE FUNCTION slowly(k int) RETURNS boolean LANGUAGE sql AS $$ SELECT k >= 0 $$');
    $node->safe_psql('postgres', "SELECT backfill_retry($job)");
    is(wait_job($node, $job), 'done', "$title: without writers it does");
    is(figures($node, $job), 'done 1 0', "$title: with the same build");
    same_rows($node, 't_1', 'SELECT k, 1, name FROM names WHERE k < 100', "$title: the rows are right");
    check_clean($node, $title);
}

#
# How much is left, and for how long: the first batch tells the pace
#
{
    my $title = 'slow keys';
    $node->safe_psql('postgres', <<'SQL');
        CREATE TABLE paced (k int PRIMARY KEY, v int) PARTITION BY RANGE (k);
        CREATE TABLE paced_1 PARTITION OF paced FOR VALUES FROM (0) TO (4000);
        CREATE TABLE paced_raw (k int PRIMARY KEY, v int);
        INSERT INTO paced SELECT k, 0 FROM generate_series(0, 3999) AS k;
        INSERT INTO paced_raw SELECT k, 1 FROM generate_series(0, 3999) AS k;
        CREATE FUNCTION take_a_moment() RETURNS boolean LANGUAGE plpgsql COST 100000 AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN true; END $$;
SQL
    set_point($node, 'converged stop');
    my $job = start_job($node, "'paced', 'SELECT * FROM paced_raw WHERE take_a_moment()', swap => 'storage', on_write => 'catch_up', delay => '0', keep_old => false");
    await_point($node, $job, 'converged');
    $node->safe_psql('postgres', 'UPDATE paced SET v = 2');
    clear_point($node); # the swap has no time for so many
    ok($node->poll_query_until('postgres', <<"SQL"), "$title: how many keys are left, and the time for them is part of eta");
        SELECT keys_behind BETWEEN 1 AND 3999 AND eta >= catch_up_time AND catch_up_time > '0'
        FROM backfill_status JOIN backfill_live() USING (job) WHERE job = $job
SQL
    is(wait_job($node, $job), 'done', "$title: the job is done");
    same_rows($node, 'paced', 'SELECT * FROM paced_raw', "$title: the rows are right");
}

$holder->query('SELECT 1'); # the limit of its time counts from its last statement
$holder->quit;
$node->stop;
done_testing();
