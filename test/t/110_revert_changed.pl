# What has changed between a swap and its revert: the old rows come back whole and where they belong, or not at all, and then the
# partition and its kept table are as they were.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Revert;
use Test::More;

my $node = new_node('revert_changed', settings => ['restart_after_crash = on']);

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Not reverted, also not by force: no row is lost or moved.
sub is_kept {
    my ($job, $table, $title, %expected) = @_;
    my $live = sql("SELECT md5(string_agg(x::text, ' ' ORDER BY x::text)) FROM $table AS x");
    my $kept = sql("SELECT count(*) FROM backfill_${job}_old.$expected{kept}");
    for my $force ('', ', force => true') {
        next if $force && $expected{forced};
        my ($code, $message) = error_of($node, "SELECT backfill_revert($job$force)");
        isnt($code, 'none', "$title$force: refused");
        like($message, $expected{reason}, "$title$force: with the reason") if !$force || !$expected{by_force};
        is(sql("SELECT md5(string_agg(x::text, ' ' ORDER BY x::text)) FROM $table AS x"), $live, "$title$force: the rows stay");
        is(sql("SELECT count(*) FROM backfill_${job}_old.$expected{kept}"), $kept, "$title$force: the old rows, too");
    }
    return;
}

for my $swap (qw(attach storage)) {
    # A sibling has taken a part of a DEFAULT's place.
    sql(<<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t;
        CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        INSERT INTO t SELECT k, 'old' FROM generate_series(100, 299) AS k;
SQL
    my $job = done_job($node, "'t', 'SELECT k, ''new'' AS v FROM t WHERE k < 200', partitions => '{t_rest}', swap => '$swap', allow_shrink => true");
    sql('CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (200) TO (300)');
    is_kept($job, 't', "$swap, a new sibling", kept => 't_rest', reason => qr/partbackfill_bounds/);
    sql('DROP TABLE t_2');
    is(sql("SELECT backfill_revert($job)"), 1, "$swap, a new sibling: once it is gone the old rows come back");
    is(sql('SELECT v, count(*) FROM t GROUP BY v'), 'old|200', "$swap, a new sibling: all of them");
    end_job($node, $job, "$swap, a new sibling");

    # Columns.
    for my $change ('ALTER COLUMN n TYPE bigint USING (n * 100)::bigint', 'ALTER COLUMN n TYPE numeric USING n * 100', 'DROP COLUMN n', 'RENAME COLUMN a TO was_a', 'ADD COLUMN x int') {
        sql(<<'SQL');
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS t;
            CREATE TABLE t (k int PRIMARY KEY, n numeric, a int, b int) PARTITION BY RANGE (k);
            CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
            INSERT INTO t SELECT k, 1.23, 1, 2 FROM generate_series(0, 99) AS k;
SQL
        $job = done_job($node, "'t', 'SELECT k, 4.56 AS n, a, b FROM t', swap => '$swap'");
        sql("ALTER TABLE t $change");
        is_kept($job, 't', "$swap, $change", kept => 't_1', reason => qr/its columns were changed/, by_force => 1, forced => $change =~ /numeric/);
        end_job($node, $job, "$swap, $change");
    }
    $job = done_job($node, "'t', 'SELECT k, n, a, b, 1 AS x FROM t', swap => '$swap'");
    sql('VACUUM FULL t_1');
    is(sql("SELECT backfill_revert($job)"), 1, "$swap: VACUUM FULL changes nothing");
    sql('ALTER TABLE t_1 ALTER COLUMN a SET STATISTICS 5');
    is(sql("SELECT backfill_revert($job)"), 1, "$swap: nor does an option of a column");
    end_job($node, $job, "$swap, nothing changed");

    # The kept table, while its rows come back by a build.
    sql('DROP TABLE t; CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);'
            . ' CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100); INSERT INTO t SELECT k, $$old$$ FROM generate_series(0, 99) AS k');
    $job = done_job($node, "'t', 'SELECT k, ''new'' AS v FROM t', swap => '$swap', on_write => 'catch_up'");
    sql("UPDATE t SET v = 'written' WHERE k = 3");
    for my $dependent (
        [ 'VIEW seen', "CREATE VIEW seen AS SELECT k FROM backfill_${job}_old.t_1" ],
        [ 'FUNCTION counted()', "CREATE FUNCTION counted() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM backfill_${job}_old.t_1; END" ]) {
        sql($dependent->[1]);
        my ($name) = $dependent->[0] =~ /(\w+)\W*$/;
        my ($code, $message) = error_of($node, "SELECT backfill_revert($job)");
        like($message, qr/rows were written to it, and public\.$name\S* depends on the table with its old rows/, "$swap, a $dependent->[0]: refused before a build");
        sql("DROP $dependent->[0]");
    }
    set_point($node, 'built stop');
    my $caller = session($node);
    $caller->query_until(qr/begun/, "\\echo begun\nSELECT backfill_revert($job);\n");
    await_point($node, $job, 'built');
    sql("UPDATE backfill_${job}_old.t_1 SET v = 'late' WHERE k = 50");
    clear_point($node);
    is(wait_job($node, $job), 'done', "$swap, a late write to the old rows: not reverted");
    $caller->quit;
    like($caller->{stderr}, qr/the table with its old rows, or what was built of it, was changed/, "$swap, a late write to the old rows: with the reason");
    is(sql("SELECT v FROM backfill_${job}_old.t_1 WHERE k = 50"), 'late', "$swap, a late write to the old rows: it is not lost");
    is(sql("SELECT backfill_revert($job, force => true)"), 1, "$swap, a late write to the old rows: by force");
    is(sql('SELECT v, count(*) FROM t GROUP BY v ORDER BY v'), "late|1\nold|99", "$swap, a late write to the old rows: as they are");
    end_job($node, $job, "$swap, a late write");

    # Unlogged rows that a crash has taken.
    sql('DROP TABLE t; CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);'
            . ' CREATE UNLOGGED TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100); INSERT INTO t SELECT k, $$old$$ FROM generate_series(0, 99) AS k');
    $job = done_job($node, "'t', 'SELECT k, ''new'' AS v FROM t', swap => '$swap'");
    sql('ALTER TABLE t_1 SET LOGGED');
    $node->stop('immediate');
    $node->start;
    my ($code, $message) = error_of($node, "SELECT backfill_revert($job)");
    like($message, qr/lost in a crash|columns were changed/, "$swap, unlogged: refused");
    is(sql('SELECT count(*) FROM t'), 100, "$swap, unlogged: no reader finds it empty");
    end_job($node, $job, "$swap, unlogged");

    # A later job that keeps nothing.
    sql('DROP TABLE t; CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);'
            . ' CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100); INSERT INTO t SELECT k, $$old$$ FROM generate_series(0, 99) AS k');
    $job = done_job($node, "'t', 'SELECT k, ''new'' AS v FROM t', swap => '$swap'");
    my $later = done_job($node, "'t', 'SELECT k, ''newer'' AS v FROM t', swap => 'storage', keep_old => false");
    ($code, $message) = error_of($node, "SELECT backfill_revert($job)");
    is($code, '55006', "$swap, a later job: refused");
    is(sql('SELECT DISTINCT v FROM t'), 'newer', "$swap, a later job: its rows stay");
    is(sql("SELECT backfill_revert($job, force => true)"), 1, "$swap, a later job: by force");
    is(sql('SELECT DISTINCT v FROM t'), 'old', "$swap, a later job: the old rows are back");
    end_job($node, $job, "$swap, a later job");

    # Another owner.
    sql(<<'SQL');
        SET client_min_messages = warning;
        DROP ROLE IF EXISTS alice, bob;
        CREATE ROLE alice;
        CREATE ROLE bob;
        GRANT ALL ON SCHEMA public TO alice, bob;
        ALTER TABLE t OWNER TO alice;
        ALTER TABLE t_1 OWNER TO alice;
SQL
    $job = done_job($node, "'t', 'SELECT k, ''new'' AS v FROM t', swap => '$swap'");
    sql("ALTER TABLE t OWNER TO bob; ALTER TABLE t_1 OWNER TO bob; UPDATE t SET v = 'secret of bob' WHERE k = 1");
    is(sql("SELECT backfill_revert($job, force => true)"), 1, "$swap, another owner: by force");
    is(sql("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'backfill_${job}_old.t_1'::regclass"), 'bob', "$swap, another owner: what was his is kept as his");
    end_job($node, $job, "$swap, another owner");
    sql('DROP TABLE t; REVOKE ALL ON SCHEMA public FROM alice, bob; DROP ROLE alice, bob;'
            . ' CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100); INSERT INTO t SELECT k, $$old$$ FROM generate_series(0, 99) AS k');

    # Who reads a key log keeps nobody from the table.
    $job = done_job($node, "'t', 'SELECT k, ''new'' AS v FROM t', swap => '$swap', on_write => 'catch_up', swap_patience => '1 s'");
    my $log = sql("SELECT oid::regclass FROM pg_class WHERE relnamespace = 'backfill_${job}_new'::regnamespace AND relname LIKE 'partbackfill_keys_%'");
    my $reader = session($node);
    $reader->query_safe("BEGIN; SELECT count(*) FROM $log");
    set_point($node, 'swapping stop');
    ($code, $message) = error_of($node, "SELECT backfill_revert($job)");
    like($message, qr/could not lock partition.*backfill_revert\($job\) tries again/s, "$swap, a reader of the key log: the swap is not begun");
    clear_point($node);
    ($code) = error_of($node, "BEGIN; SELECT count(*) FROM $log; SELECT backfill_revert($job)");
    is($code, '25001', "$swap, a reader of the key log: nor by the reader himself");
    $reader->quit;
    is(sql("SELECT backfill_revert($job)"), 1, "$swap, a reader of the key log: once he has gone");
    end_job($node, $job, "$swap, a reader of the key log");
}

done_testing();
