# Indexes of a partition that is large enough are built side by side, by the worker and parallel workers of its
# transaction: the same indexes, the same errors, and nothing that outlives them.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('indexes', settings => [
        'wal_level = replica', # without WAL they are built one after the other
        'min_parallel_table_scan_size = 0',
        'max_parallel_maintenance_workers = 2',
        'maintenance_work_mem = 96MB',
]);
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    CREATE EXTENSION amcheck;
    CREATE ROLE owner LOGIN;
    GRANT CREATE ON SCHEMA public TO owner;
    CREATE FUNCTION whoami(k integer) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS 'BEGIN RETURN current_user || k % 7; END';
    CREATE FUNCTION unsafe(k integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN -k; END';
    -- Its build can be held up as a source can.
    CREATE FUNCTION held(k integer, gate integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(gate);
        RETURN k;
    END
    $$;
    CREATE TABLE t (k int PRIMARY KEY, v text COLLATE "C", n int, p point) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (20000);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (20000) TO (40000);
    CREATE UNIQUE INDEX ON t (k, v) INCLUDE (n);
    CREATE INDEX ON t (v, n DESC NULLS LAST);
    CREATE INDEX ON t (lower(v)) WHERE n % 3 = 0;
    CREATE INDEX ON t (whoami(k));
    CREATE INDEX ON t (unsafe(k));
    CREATE INDEX ON t USING hash (n);
    CREATE INDEX ON t USING brin (k);
    CREATE INDEX ON t USING gist (p);
    ALTER TABLE t_2 ADD CONSTRAINT own UNIQUE (n, k) DEFERRABLE INITIALLY DEFERRED;
    INSERT INTO t SELECT k, md5(k::text), k % 100, point(k, k) FROM generate_series(0, 39999) AS k;
    ALTER TABLE t OWNER TO owner;
    ALTER TABLE t_1 OWNER TO owner;
    ALTER TABLE t_2 OWNER TO owner;
    CREATE VIEW truth AS SELECT k, md5((-k)::text) AS v, k % 100 AS n, point(-k, k) AS p FROM generate_series(0, 39999) AS k;

    CREATE TABLE gated (k int NOT NULL, v text) PARTITION BY RANGE (k);
    CREATE TABLE gated_1 PARTITION OF gated FOR VALUES FROM (0) TO (5000);
    CREATE INDEX ON gated (held(k, 1));
    CREATE INDEX ON gated (held(k, 2));
    CREATE INDEX ON gated (held(k, 3));
    INSERT INTO gated SELECT k, 'old' FROM generate_series(0, 4999) AS k;
    VACUUM ANALYZE;
SQL

# Every index of the table's partitions finds every row, and says how large it is.
sub check_indexes {
    my ($table, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($code, undef, $stderr) = $node->psql('postgres', <<"SQL");
        SELECT bt_index_check(i.indexrelid, true)
        FROM pg_partition_tree('$table') AS p JOIN pg_index AS i ON i.indrelid = p.relid JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE p.isleaf AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
SQL
    is($stderr, '', "$title: the indexes have every row");
    is($node->safe_psql('postgres', <<"SQL"), '', "$title: they are valid, and their sizes known");
        SELECT c.relname, i.indisvalid, i.indisready, c.relpages, pg_relation_size(c.oid) / 8192, c.reltuples
        FROM pg_partition_tree('$table') AS p JOIN pg_index AS i ON i.indrelid = p.relid JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE p.isleaf AND NOT (i.indisvalid AND i.indisready AND c.relpages = pg_relation_size(c.oid) / 8192 AND (c.reltuples > 0 OR c.relam <> 403))
SQL
    return;
}

for my $method ('attach', 'storage') {
    my (@wal, @sizes);
    for my $workers (0, 2) {
        my $title = "$method, $workers parallel workers";
        $node->safe_psql('postgres', q{UPDATE t SET v = md5(k::text), p = point(k, k)});
        my $job = start_job($node, qq{'t', 'truth', swap => '$method', delay => '0', keep_old => false},
            "SET max_parallel_maintenance_workers = $workers");
        is(wait_job($node, $job), 'done', "$title: the job is done")
            or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job"));
        is($node->safe_psql('postgres', 'SELECT count(*) FROM t JOIN truth USING (k, v, n) WHERE t.p ~= truth.p'), '40000', "$title: with the right rows");
        check_indexes('t', $title);
        check_clean($node, $title);
        push @wal, $node->safe_psql('postgres', "SELECT sum(wal_bytes) FROM backfill_progress WHERE job = $job");
        push @sizes, $node->safe_psql('postgres', <<'SQL');
            SELECT string_agg(c.relname || ' ' || pg_relation_size(c.oid), ', ' ORDER BY c.relname)
            FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indrelid IN ('t_1'::regclass, 't_2'::regclass)
SQL
    }
    is($sizes[1], $sizes[0], "$method: the indexes are of the same size");
    ok(abs($wal[1] - $wal[0]) < 0.05 * $wal[0], "$method: the log that all processes wrote is counted") or diag("@wal");
}

{
    my $title = 'a key that is not unique';
    my $job = start_job($node, q{'t', 'SELECT k - k % 2 AS k, v, n, p FROM truth', max_attempts => 1, delay => '0', keep_old => false});
    is(wait_job($node, $job), 'failed', "$title: the job fails");
    is($node->safe_psql('postgres', "SELECT count(*) FROM backfill_progress WHERE job = $job AND sqlstate = '23505'"), '2', "$title: with its code");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND ordinal = 1"),
        qr/^could not create unique index "[\w]+"\nDetail: Key \(k.*\)=\(.*\) is duplicated\./, "$title: and the key");
    check_indexes('t', $title);
    check_clean($node, $title);
}

# A job that is held in the builds of three indexes; the parallel workers of its worker.
sub start_held {
    my ($title, $settings) = (@_, '');
    close_gate($holder, $_) for 1 .. 3;
    my $job = start_job($node, qq{'gated', 'SELECT k, ''new''::text AS v FROM generate_series(0, 4999) AS k', max_attempts => 2, delay => '0', keep_old => false$settings});
    my $workers = "FROM pg_stat_activity AS w JOIN backfill_progress AS p ON p.job = $job AND p.worker_pid = w.leader_pid WHERE w.backend_type = 'parallel worker'";
    await($node, "SELECT count(DISTINCT objid) = 3 FROM pg_locks WHERE locktype = 'advisory' AND objid IN (1, 2, 3) AND NOT granted");
    is($node->safe_psql('postgres', "SELECT count(*) $workers"), '2', "$title: each of the indexes is built by one process");
    is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_progress_create_index AS i JOIN backfill_progress AS p ON p.worker_pid = i.pid WHERE p.job = $job"),
        '1', "$title: pg_stat_progress_create_index shows it");
    return ($job, $workers);
}

{
    my $title = 'a parallel worker that is terminated';
    my ($job, $workers) = start_held($title);
    $node->safe_psql('postgres', "SELECT pg_terminate_backend(w.pid) $workers");
    await_partition($node, $job, 1, "attempts = 2 OR state <> 'running'");
    open_gate($holder, $_) for 1 .. 3;
    is(wait_job($node, $job), 'done', "$title: the partition is built again");
    is($node->safe_psql('postgres', "SELECT attempts FROM backfill_progress WHERE job = $job"), '2', "$title: in another attempt");
    is($node->safe_psql('postgres', 'SELECT count(*), min(v) FROM gated'), '5000|new', "$title: with the right rows");
    check_indexes('gated', $title);
    check_clean($node, $title);
}
{
    my $title = 'a cancel';
    $node->safe_psql('postgres', q{UPDATE gated SET v = 'old'});
    my ($job) = start_held($title);
    my ($canceled, $elapsed) = cancel_job($node, $job);
    ok($elapsed ne '' && $elapsed < 10_000, "$title: nobody works on");
    open_gate($holder, $_) for 1 .. 3;
    is(wait_job($node, $job), 'canceled', "$title: the job is canceled");
    is($node->safe_psql('postgres', 'SELECT count(*), min(v) FROM gated'), '5000|old', "$title: the rows are the old ones");
    check_clean($node, $title);
}
{
    my $title = 'with nice_ratio';
    my ($job) = start_held($title, ', nice_ratio => 0.1');
    open_gate($holder, $_) for 1 .. 3;
    is(wait_job($node, $job), 'done', "$title: the job is done");
    check_indexes('gated', $title);
}
{
    my $title = 'with max_wal_rate';
    close_gate($holder, $_) for 1 .. 3;
    my $job = start_job($node, q{'gated', 'SELECT k, ''new''::text AS v FROM generate_series(0, 4999) AS k', delay => '0', keep_old => false, max_wal_rate => '1GB'});
    for my $k (1 .. 3) {
        await_worker($node, $job, "query LIKE '%indexing $k/3%'");
        await($node, 'SELECT count(DISTINCT objid) = 1 FROM pg_locks WHERE locktype = \'advisory\' AND objid IN (1, 2, 3) AND NOT granted');
        is($node->safe_psql('postgres', "SELECT DISTINCT objid FROM pg_locks WHERE locktype = 'advisory' AND objid IN (1, 2, 3) AND NOT granted"),
            $k, "$title: index $k of 3, and no other");
        open_gate($holder, $k);
    }
    is(wait_job($node, $job), 'done', "$title: the job is done");
    check_indexes('gated', $title);
    check_clean($node, $title);
}

$node->stop;
done_testing();
