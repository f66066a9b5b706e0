# What a table's expressions call may need a search_path: a function whose body names another one without its schema is
# found by INSERT and by REINDEX of a session that has it, and so by a job that was started in one. Nothing else of a job
# runs under a search_path that others can set.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('unqualified_functions');
my $version = $node->safe_psql('postgres', 'SHOW server_version_num');

# f is inlined, its body is parsed whenever an expression of it is planned; g is parsed when it runs.
$node->safe_psql('postgres', <<'SQL');
    CREATE SCHEMA app;
    ALTER DATABASE postgres SET search_path = app, public;
SQL
$node->safe_psql('postgres', <<'SQL');
    CREATE FUNCTION app.base(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v / 1';
    CREATE FUNCTION app.f(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT base(v)';
    CREATE FUNCTION app.g(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN base(v); END';
    CREATE FUNCTION app.noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    -- A better match than the server's own in whatever were resolved by this path.
    CREATE FUNCTION app.num_nulls(VARIADIC v int[]) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE ''a decoy was called''; END';
    CREATE OPERATOR app.### (FUNCTION = app.g, RIGHTARG = int);

    -- The table of all tests, with what the caller says.
    CREATE PROCEDURE make_table(key text, definitions text[]) LANGUAGE plpgsql AS $$
    DECLARE definition text;
    BEGIN
        DROP TABLE IF EXISTS t;
        EXECUTE format('CREATE TABLE t (k int NOT NULL, v int) PARTITION BY RANGE (%s)', key);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        FOREACH definition IN ARRAY definitions LOOP
            EXECUTE definition;
        END LOOP;
        INSERT INTO t (k, v) SELECT g, g FROM generate_series(0, 19) AS g;
        -- More than is scanned under a lock.
        INSERT INTO t (k, v) SELECT g, g FROM generate_series(1000, 8000) AS g;
    END
    $$;
SQL

# Each way to have such a function, with definitions that need nothing but what the session of the job has; and the source.
my @cases = (
    [ 'an index', 'k', [ 'CREATE INDEX ON t (f(v))', 'CREATE INDEX ON t (g(v))', 'CREATE INDEX ON t (v) WHERE f(v) > 5',
            'CREATE UNIQUE INDEX ON t_1 (v) WHERE g(v) > 5' ], 'index' ],
    [ 'an exclusion constraint', 'k', [ 'ALTER TABLE t_1 ADD EXCLUDE USING btree (f(v) WITH =)',
            'ALTER TABLE t_2 ADD EXCLUDE USING btree (g(v) WITH =)' ], 'index' ],
    [ 'a statistics object', 'k', ['CREATE STATISTICS app.s ON (f(v)), (g(v)) FROM t_1'], 'index' ],
    [ 'a CHECK', 'k', [ 'ALTER TABLE t ADD CHECK (f(v) >= 0)', 'ALTER TABLE t ADD CHECK (g(v) >= 0)', 'ALTER TABLE t_1 ADD CHECK (### v < 10)' ] ],
    [ 'a CHECK that is not valid', 'k', [ 'ALTER TABLE t_1 ADD CHECK (f(v) >= 0) NOT VALID', 'ALTER TABLE t_2 ADD CHECK (g(v) >= 0) NOT VALID' ] ],
    [ 'a generated column', 'k', [ 'ALTER TABLE t ADD x int GENERATED ALWAYS AS (f(v)) STORED', 'ALTER TABLE t ADD y int GENERATED ALWAYS AS (g(v)) STORED' ] ],
    [ 'a default', 'k', [ 'ALTER TABLE t ADD x int DEFAULT f(1)', 'ALTER TABLE t ADD y int DEFAULT g(1)' ] ],
    [ 'a key that is inlined', 'f(k)', [] ],
    [ 'a key that is not inlined', 'g(k)', [] ],
    [ 'a condition of a trigger', 'k', ['CREATE TRIGGER r AFTER INSERT ON t_1 FOR EACH ROW WHEN (f(NEW.v) < 0) EXECUTE FUNCTION noop()'] ],
    [ 'a policy', 'k', [ 'CREATE POLICY p ON t_1 USING (f(v) > 0 AND g(v) > 0)', 'ALTER TABLE t_1 ENABLE ROW LEVEL SECURITY' ] ],
);

# A line for each thing of the table that can be lost, and its rows by way of its indexes.
sub contents {
    return $node->safe_psql('postgres', <<'EOQ');
        SET enable_seqscan = off;
        SELECT string_agg(t::text, ' ' ORDER BY k) FROM t WHERE k < 1000;
        SELECT count(*), sum(k), sum(v) FROM t WHERE f(v) > 5;
        SELECT count(*), sum(k), sum(v) FROM t WHERE g(v) > 5;
        SELECT pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_index AS i WHERE i.indrelid::regclass::text ~ '^t' ORDER BY 1;
        SELECT k.conrelid::regclass::text, k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint AS k WHERE k.conrelid::regclass::text ~ '^t' ORDER BY 1, 2;
EOQ
}

for my $case (@cases) {
    my ($what, $key, $definitions, $kind) = @$case;
    # From 17 on, the server itself computes indexes and statistics without the session's search_path.
    next if ($kind // '') eq 'index' && $version >= 170000;
    for my $method ([ 'attach', 'rebuild' ], [ 'storage', 'rebuild' ], [ 'attach', 'block' ]) {
        my ($swap, $on_write) = @$method;
        my $title = "$what, by $swap, on_write $on_write";
        my $list = join(', ', map { "\$d\$$_\$d\$" } @$definitions);
        $node->safe_psql('postgres', "CALL make_table('$key', ARRAY[$list]::text[])");
        my $before = contents();
        my $source = $what eq 'a default' ? 'SELECT * FROM t' : 'SELECT k, v FROM t';
        is((error_of($node, "SELECT FROM backfill_plan('t', '$source')"))[0], 'none', "$title: it can be planned");
        my $job = eval { start_job($node, "'t', '$source', delay => '0', keep_old => false, swap => '$swap', on_write => '$on_write', max_attempts => 1") };
        ok($job, "$title: it can be started") or next;
        is(wait_job($node, $job), 'done', "$title: it is done")
            or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND error IS NOT NULL ORDER BY ordinal"));
        same_text(contents(), $before, "$title: the table is as it was");
        check_clean($node, $title);
    }
}

# A foreign key is proved by queries of the server, a key that is referred to by one of the job: both look at the indexes.
{
    my $title = 'tables of a foreign key with an index';
    my @indexes = $version >= 170000 ? () : ('CREATE INDEX ON t_1 (f(v))', 'CREATE INDEX ON t_2 (f(v))', 'CREATE INDEX ON referred (f(v))');
    my $list = join(', ', map { "\$d\$$_\$d\$" } 'CREATE TABLE referred AS SELECT g AS v FROM generate_series(0, 8000) AS g',
        'ALTER TABLE referred ADD PRIMARY KEY (v)', 'ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES referred',
        'CREATE TABLE referring (k int)', 'ALTER TABLE t ADD UNIQUE (k)', 'ALTER TABLE referring ADD FOREIGN KEY (k) REFERENCES t (k)', @indexes);
    $node->safe_psql('postgres', "CALL make_table('k', ARRAY[$list]::text[]); INSERT INTO referring SELECT k FROM t");
    my $before = contents();
    my $job = start_job($node, q{'t', 'SELECT k, v FROM t', delay => '0', keep_old => false, swap => 'storage', max_attempts => 1});
    is(wait_job($node, $job), 'done', "$title: it is done")
        or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND error IS NOT NULL ORDER BY ordinal"));
    same_text(contents(), $before, "$title: the table is as it was");
    check_clean($node, $title);
    $node->safe_psql('postgres', 'DROP TABLE referring, t, referred');
}

# Who calls what: indexes are computed as the table's owner, rows are checked as the caller, as by the server's commands.
{
    my $title = "a job of another role than the table's owner";
    my $who = $version >= 170000 ? 'made.who()' : 'who()';
    $node->safe_psql('postgres', <<"EOQ");
        CREATE ROLE maker;
        CREATE ROLE caller LOGIN IN ROLE maker;
        CREATE SCHEMA made AUTHORIZATION maker;
        GRANT CREATE ON DATABASE postgres TO maker;
        SET ROLE maker;
        SET search_path = made;
        CREATE FUNCTION who() RETURNS text LANGUAGE sql STABLE AS 'SELECT current_user::text';
        CREATE FUNCTION as_maker(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
            'BEGIN IF $who <> ''maker'' THEN RAISE ''called as %'', $who; END IF; RETURN v; END';
        CREATE TABLE t (k int NOT NULL, v int) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        INSERT INTO t SELECT g, g FROM generate_series(0, 9) AS g UNION ALL SELECT g, g FROM generate_series(1000, 8000) AS g;
        CREATE INDEX ON t (as_maker(v));
        CREATE INDEX ON t ((as_maker(v) + 1));
        CREATE FUNCTION as_caller(v int) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN IF who() <> ''caller'' THEN RAISE ''called as %'', who(); END IF; RETURN true; END';
        ALTER TABLE t ADD CHECK (as_caller(v)) NOT VALID;
        RESET ROLE;
        UPDATE pg_constraint SET convalidated = true WHERE conrelid IN ('t'::regclass, 't_1'::regclass, 't_rest'::regclass);
EOQ
    for my $swap ('attach', 'storage') {
        my $job = start_job($node, "'t', 't', delay => '0', keep_old => false, swap => '$swap', max_attempts => 1",
            'SET SESSION AUTHORIZATION caller; SET search_path = made, public');
        is(wait_job($node, $job), 'done', "$title, by $swap: each function is called as by the server")
            or diag($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND error IS NOT NULL"));
        check_clean($node, "$title, by $swap");
    }
}

$node->stop;
done_testing;
