# How a source is read: only the partition's part of it, by an index where there is one, in parallel where that is
# safe, and the table's own rows without its parent. The server's log has the workers' plans.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('plans', settings => [
        "shared_preload_libraries = 'auto_explain'",
        'auto_explain.log_min_duration = 0',
        'auto_explain.log_analyze = on',
        'auto_explain.log_timing = off',
        'auto_explain.log_level = log',
]);
my $holder = session($node);

# The plans by which workers read sources, from that place of the log on, in the order in which they ended.
sub plans {
    my ($offset) = @_;
    my $log = substr slurp_file($node->logfile), $offset;
    return grep { /\bpartbackfill worker\b/ && /Query Text: SELECT source\./ } split /^(?=\d{4}-\d\d-\d\d )/m, $log;
}

# Rebuilds the table from the source; the plans of its partitions.
sub rebuild {
    my ($title, $table, $source, $before) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $offset = -s $node->logfile;
    my $job = start_job($node, "'$table', \$\$$source\$\$, delay => '0', keep_old => false", $before);
    is(wait_job($node, $job), 'done', "$title: the job is done")
        or diag($node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job"));
    return plans($offset);
}

# How many rows the two queries do not have in common.
sub difference {
    my ($one, $other) = @_;
    return $node->safe_psql('postgres',
        "SELECT (SELECT count(*) FROM ($one EXCEPT ALL $other) AS a) + (SELECT count(*) FROM ($other EXCEPT ALL $one) AS b)");
}

$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE source (k int NOT NULL, v text);
    INSERT INTO source SELECT k, md5(k::text) FROM generate_series(0, 39999) AS k;
    CREATE TABLE heap AS SELECT * FROM source;
    CREATE INDEX source_k ON source (k);
    CREATE VIEW odd AS SELECT k, upper(v) AS v FROM source WHERE k % 2 = 1;
    CREATE TABLE times (at timestamptz NOT NULL, v text);
    INSERT INTO times SELECT '2024-01-01 00:00+00'::timestamptz + n * interval '10 minutes', n FROM generate_series(0, 39999) AS n;
    CREATE INDEX times_at ON times (at);
    VACUUM ANALYZE source, heap, times;

    CREATE TABLE t (k int NOT NULL, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (1000) TO (2000);
    CREATE TABLE dated (at timestamptz NOT NULL, v text) PARTITION BY RANGE (at);
    CREATE TABLE dated_1 PARTITION OF dated FOR VALUES FROM ('2024-02-01 00:00+00') TO ('2024-02-08 00:00+00');
SQL

#
# The bounds reach an index of the source
#
{
    my %sources = (
        'a table' => [ 'source', 'TABLE source' ],
        'a view' => [ 'odd', 'TABLE odd' ],
        'a query with parameters' => [ 'SELECT k, v FROM source WHERE k >= $1 AND k < $2', 'TABLE source' ],
        'a query without' => [ 'SELECT k, v || $x$!$x$ AS v FROM source', 'SELECT k, v || $x$!$x$ FROM source' ],
        'a query with WITH' => [ 'WITH w AS (SELECT * FROM source) SELECT * FROM w', 'TABLE source' ],
        'a query with ORDER BY' => [ 'SELECT * FROM source ORDER BY v', 'TABLE source' ],
        'a query with a volatile column' => [ 'SELECT k, v || left(random()::text, 0) AS v FROM source', 'TABLE source' ],
    );
    for my $title (sort keys %sources) {
        my ($source, $same) = @{ $sources{$title} };
        my @plans = rebuild($title, 't', $source);
        is(scalar @plans, 2, "$title: a plan for each partition");
        like($plans[0], qr/Index.* source_k\b.*Index Cond: .*\bk >= 0\).*\bk < 1000\)/s, "$title: the first by its bounds");
        like($plans[1], qr/Index.* source_k\b.*Index Cond: .*\bk >= 1000\).*\bk < 2000\)/s, "$title: the second by its");
        unlike("@plans", qr/(?:Cond|Filter): .*\$[12]/, "$title: known to the planner");
        is(difference('TABLE t', "SELECT * FROM ($same) AS s WHERE k < 2000"), '0', "$title: the rows");
    }
}
{
    my $title = 'a key of timestamps';
    my @plans = rebuild($title, 'dated', 'times', "SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'SQL, DMY'");
    like($plans[0], qr/Index.* times_at\b.*Index Cond: .*at >= .*at < /s, "$title: by an index");
    is(difference('TABLE dated', q{SELECT * FROM times WHERE at >= '2024-02-01 00:00+00' AND at < '2024-02-08 00:00+00'}),
        '0', "$title: the rows");
}

#
# In parallel, when the session's settings say so and all that the load computes may be computed meanwhile
#
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;'
    . ' SET max_parallel_workers_per_gather = 2';
{
    my $title = 'a parallel plan';
    my @plans = rebuild($title, 't', 'heap', $parallel);
    like($plans[$_], qr/Gather.*Workers Launched: [1-9]/s, "$title: for partition $_") for 0, 1;
    is(difference('TABLE t', 'SELECT * FROM heap WHERE k < 2000'), '0', "$title: the rows");
    @plans = rebuild('a plan by the defaults', 't', 'heap');
    unlike($plans[0], qr/Gather/, 'a plan by the defaults: one of this size is not parallel');
}

{
    my $title = 'a query that is worth a worker';
    my @plans = rebuild($title, 't', 'SELECT k, v FROM heap ORDER BY v', 'SET parallel_setup_cost = 0.1');
    like($plans[$_], qr/Gather.*Workers Launched: 1\b.*Single Copy: true/s, "$title: one computes it, for partition $_") for 0, 1;
    is(difference('TABLE t', 'SELECT * FROM heap WHERE k < 2000'), '0', "$title: the rows");
    is($node->safe_psql('postgres', 'SELECT array_agg(v ORDER BY ctid) = array_agg(v ORDER BY v) FROM t_1'), 't', "$title: in their order");
    for my $case (
        [ 'one for which no worker is free', 'SELECT k, v FROM heap', 'SET parallel_setup_cost = 0.1; SET max_parallel_workers = 0' ],
        [ 'one in a session without workers', 'SELECT k, v FROM heap', 'SET parallel_setup_cost = 0.1; SET max_parallel_workers_per_gather = 0' ],
        [ 'one in a session without helpers', 'SELECT k, v FROM heap', "SET parallel_setup_cost = 0.1; SET partbackfill.helpers = 'off'" ],
        [ 'one that calls what is not safe', 'SELECT k, v FROM heap WHERE random() >= 0', 'SET parallel_setup_cost = 0.1' ],
        [ 'a query that is not worth one', 'SELECT k, v FROM heap', 'SET parallel_setup_cost = 1000000' ])
    {
        my ($other, $source, $settings) = @$case;
        @plans = rebuild($other, 't', $source, $settings);
        unlike($plans[0], qr/Workers Launched: [1-9]/, "$other: no worker computes it");
        is(difference('TABLE t', 'SELECT * FROM heap WHERE k < 2000'), '0', "$other: the rows");
    }
}

$node->safe_psql('postgres', <<'SQL');
    -- What may not be called while workers run: it begins a subtransaction, which is an error then.
    CREATE FUNCTION unsafe(v text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        PERFORM 1 / length(v);
        RETURN true;
    EXCEPTION WHEN division_by_zero THEN
        RETURN false;
    END
    $$;
    CREATE FUNCTION restricted(v text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL RESTRICTED AS 'SELECT v IS NOT NULL';
    CREATE FUNCTION unsafe_text(v text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        RETURN CASE WHEN unsafe(v) THEN v END;
    END
    $$;
    CREATE DOMAIN checked AS text CHECK (unsafe(VALUE));
    CREATE TYPE wrapped AS (v text);
    CREATE FUNCTION wrap(v text) RETURNS wrapped LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        RETURN ROW(unsafe_text(v))::wrapped;
    END
    $$;
    CREATE CAST (text AS wrapped) WITH FUNCTION wrap(text) AS ASSIGNMENT;

    CREATE TABLE has_check (k int NOT NULL, v text CHECK (unsafe(v))) PARTITION BY RANGE (k);
    CREATE TABLE has_generated (k int NOT NULL, v text, w text GENERATED ALWAYS AS (unsafe_text(v)) STORED)
        PARTITION BY RANGE (k);
    CREATE TABLE has_domain (k int NOT NULL, v checked) PARTITION BY RANGE (k);
    CREATE TABLE has_cast (k int NOT NULL, v wrapped) PARTITION BY RANGE (k);
    CREATE TABLE has_restricted (k int NOT NULL, v text CHECK (restricted(v))) PARTITION BY RANGE (k);
    SELECT format('CREATE TABLE has_%s_1 PARTITION OF has_%1$s FOR VALUES FROM (0) TO (1000)', kind)
    FROM unnest('{check,generated,domain,cast,restricted}'::text[]) AS kind \gexec
SQL
for my $case (
    [ 'a CHECK that is not parallel safe' => 'has_check', 'k, v' ],
    [ 'a generated column that is not' => 'has_generated', 'k, w' ],
    [ 'a domain that is not' => 'has_domain', 'k, v::text' ],
    [ 'a cast that is not' => 'has_cast', 'k, (v).v' ])
{
    my ($title, $table, $columns) = @$case;
    my @plans = rebuild($title, $table, 'heap', $parallel);
    is(scalar @plans, 1, "$title: a plan");
    unlike($plans[0], qr/Gather/, "$title: it is not parallel");
    is(difference("SELECT $columns FROM $table", 'SELECT * FROM heap WHERE k < 1000'), '0', "$title: the rows");
}
{
    my $title = 'a CHECK for the leader alone';
    my @plans = rebuild($title, 'has_restricted', 'heap', $parallel);
    like($plans[0], qr/Workers Launched: [1-9]/, "$title: the plan is parallel");
    is(difference('TABLE has_restricted', 'SELECT * FROM heap WHERE k < 1000'), '0', "$title: the rows");
}

#
# The table's own rows
#
{
    my $title = 'the table itself';
    $node->safe_psql('postgres', <<'SQL');
        CREATE TABLE own (k int NOT NULL CHECK (k < 1000 OR k >= 2000 OR pass_gate(1)), v text) PARTITION BY RANGE (k);
        CREATE TABLE own_1 PARTITION OF own FOR VALUES FROM (0) TO (1000);
        CREATE TABLE own_2 PARTITION OF own FOR VALUES FROM (1000) TO (2000);
        CREATE TABLE own_3 PARTITION OF own FOR VALUES FROM (2000) TO (3000);
        INSERT INTO own SELECT * FROM heap WHERE k < 3000;
        CREATE TABLE own_before AS TABLE own;
SQL
    my $offset = -s $node->logfile;
    close_gate($holder, 1);
    my $job = start_job($node, q{'own', 'own', workers => 2, delay => '0', keep_old => false});
    my $pid = await_at_gate($node, 1);
    is($node->safe_psql('postgres', <<"SQL"), 'own_2 AccessShareLock', "$title: its load locks the leaf alone");
        SELECT string_agg(relation::regclass || ' ' || mode, ', ' ORDER BY relation::regclass::text, mode)
        FROM pg_locks WHERE pid = $pid AND relation IN (SELECT relid FROM pg_partition_tree('own'))
SQL
    await_partition($node, $job, $_, "state = 'done'") for 1, 3;
    is(states($node, $job), 'done running done', "$title: so the other worker goes on");
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    my @plans = plans($offset);
    is(scalar @plans, 3, "$title: a plan for each partition");
    is(join(' ', sort map { /\bScan on (\w+) source\b/ } @plans), 'own_1 own_2 own_3', "$title: each reads its leaf");
    unlike("@plans", qr/Append|Filter/, "$title: and all of it");
    is(difference('TABLE own', 'TABLE own_before'), '0', "$title: the rows");

    @plans = rebuild('a query on the table itself', 'own', 'SELECT k, upper(v) AS v FROM own');
    is(join(' ', map { /\bScan on (\w+)/ } @plans), 'own_1 own_2 own_3',
        'a query on the table itself: partitions that do not matter are pruned');
    is(difference('TABLE own', 'SELECT k, upper(v) FROM own_before'), '0', 'a query on the table itself: the rows');
}
check_clean($node, 'in the end');

$holder->quit;
$node->stop;
done_testing();
