# backfill_diff beside others: of a partition that is built and waits for its swap, across a swap that comes between, under an old
# snapshot, by roles with and without rights, under row security, canceled; and what it locks meanwhile.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use CatchUp;
use IPC::Run;
use Test::More;

my $node = new_node('diff');
# A key whose comparisons pass a gate, at which a statement that merges rows can be held up.
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text NOT NULL) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);

    CREATE TYPE slow AS (x int);
    CREATE FUNCTION slow_cmp(slow, slow) RETURNS int IMMUTABLE LANGUAGE plpgsql
        AS $$ BEGIN PERFORM public.pass_gate(1); RETURN ($1).x - ($2).x; END $$;
    CREATE FUNCTION slow_lt(slow, slow) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN ($1).x < ($2).x; END';
    CREATE FUNCTION slow_le(slow, slow) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN ($1).x <= ($2).x; END';
    CREATE FUNCTION slow_eq(slow, slow) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN ($1).x = ($2).x; END';
    CREATE FUNCTION slow_ge(slow, slow) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN ($1).x >= ($2).x; END';
    CREATE FUNCTION slow_gt(slow, slow) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN ($1).x > ($2).x; END';
    CREATE OPERATOR < (LEFTARG = slow, RIGHTARG = slow, FUNCTION = slow_lt, COMMUTATOR = >);
    CREATE OPERATOR <= (LEFTARG = slow, RIGHTARG = slow, FUNCTION = slow_le, COMMUTATOR = >=);
    CREATE OPERATOR = (LEFTARG = slow, RIGHTARG = slow, FUNCTION = slow_eq, COMMUTATOR = =, MERGES);
    CREATE OPERATOR >= (LEFTARG = slow, RIGHTARG = slow, FUNCTION = slow_ge, COMMUTATOR = <=);
    CREATE OPERATOR > (LEFTARG = slow, RIGHTARG = slow, FUNCTION = slow_gt, COMMUTATOR = <);
    CREATE OPERATOR CLASS slow_ops DEFAULT FOR TYPE slow USING btree AS
        OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 slow_cmp(slow, slow);
    CREATE TABLE gated (k int, id slow, v text, PRIMARY KEY (k, id)) PARTITION BY LIST (k);
    CREATE TABLE gated_1 PARTITION OF gated FOR VALUES IN (1);
    INSERT INTO gated SELECT 1, ROW(x)::slow, 'old' FROM generate_series(1, 10) AS x;
SQL

my $counts = 'old_rows, new_rows, same, changed, only_old, only_new, changed_columns';
my $source = q{'SELECT k, CASE WHEN k = 3 THEN ''new'' ELSE v END AS v FROM t WHERE k <> 1 UNION ALL SELECT k, ''more'' FROM generate_series(101, 102) AS k'};
my $expected = '10|11|8|1|1|2|{"v": 1}';

sub fill {
    $node->safe_psql('postgres', q{TRUNCATE t; INSERT INTO t SELECT k, 'old' FROM generate_series(1, 10) AS k});
    return;
}

sub diff_of {
    my ($job) = @_;
    return $node->safe_psql('postgres', "SELECT $counts FROM backfill_diff($job)");
}

# psql in the background, until finish() returns what it printed.
sub start_psql {
    my ($statements) = @_;
    my %running = (out => '', err => '');
    local $ENV{PGAPPNAME} = 'behind';
    $running{run} = IPC::Run::start(
        [ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-c', $statements, 'postgres' ],
        '>', \$running{out}, '2>', \$running{err});
    return \%running;
}

sub finish {
    my ($running) = @_;
    $running->{run}->finish;
    chomp(my $printed = $running->{out} . $running->{err});
    return $printed;
}

for my $method ('attach', 'storage') {
    for my $on_write ('rebuild', 'catch_up') {
        my $title = "$method, $on_write";
        fill();
        set_point($node, 'ready/1 stop');
        my $job = start_job($node, "'t', $source, delay => '0', swap => '$method', on_write => '$on_write'");
        await_point($node, $job, 'ready');
        is(diff_of($job), $expected, "$title: a partition that is ready");
        is($node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', kind, key, old, new), '; ') FROM backfill_diff_rows($job, 't_1')"),
            'changed {"k": 3} {"v": "old"} {"v": "new"}; only_old {"k": 1} {"k": 1, "v": "old"};'
                . ' only_new {"k": 101} {"k": 101, "v": "more"}; only_new {"k": 102} {"k": 102, "v": "more"}',
            "$title: its rows");
        $node->safe_psql('postgres', 'DELETE FROM t WHERE k = 10');
        is(diff_of($job), '9|11|7|1|1|3|{"v": 1}', "$title: a write that it does not know yet");
        clear_point($node);
        is(wait_job($node, $job), 'done', "$title: the job is done");
        is(diff_of($job), '9|10|7|1|1|2|{"v": 1}', "$title: it knows the write");
        $node->safe_psql('postgres', "SELECT backfill_purge($job)");

        # A diff that has found the partition ready waits for the swap, and compares what there is after it.
        fill();
        set_point($node, 'ready/1 stop');
        $job = start_job($node, "'t', $source, delay => '0', swap => '$method', on_write => '$on_write'");
        await_point($node, $job, 'ready');
        my $old = session($node);
        $old->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM backfill_status");
        set_point($node, 'swapping/1 stop');
        await_point($node, $job, 'swapping');
        my @behind = map { start_psql($_) } (
            "SELECT $counts FROM backfill_diff($job)",
            "SELECT $counts FROM backfill_diff($job, 't_1')",
            "SELECT string_agg(concat_ws(' ', kind, key), '; ') FROM backfill_diff_rows($job, 't_1')");
        await($node, q{SELECT count(*) = 3 FROM pg_stat_activity WHERE application_name = 'behind' AND wait_event_type = 'Lock'});
        clear_point($node);
        is(finish($behind[0]), $expected, "$title: a swap comes between");
        is(finish($behind[1]), $expected, "$title: a swap comes between, of a partition by its name");
        is(finish($behind[2]), 'changed {"k": 3}; only_old {"k": 1}; only_new {"k": 101}; only_new {"k": 102}', "$title: a swap comes between, rows");
        is(wait_job($node, $job), 'done', "$title: the job is done");
        is($old->query_safe("SELECT $counts FROM backfill_diff($job)"), $expected, "$title: a snapshot from before the swap");
        $old->query_safe('COMMIT');
        $old->quit;
        $node->safe_psql('postgres', "SELECT backfill_purge($job)");
        check_clean($node, $title);
    }
}

# A partition that is no longer to be compared once the lock is granted.
{
    fill();
    set_point($node, 'ready/1 stop');
    my $job = start_job($node, "'t', $source, delay => '0'");
    await_point($node, $job, 'ready');
    my $holder = session($node);
    $holder->query_safe('BEGIN; LOCK TABLE t_1');
    my @behind = map { start_psql($_) } ("SELECT $counts FROM backfill_diff($job)", "SELECT $counts FROM backfill_diff($job, 't_1')");
    await($node, q{SELECT count(*) = 2 FROM pg_stat_activity WHERE application_name = 'behind' AND wait_event_type = 'Lock'});
    my ($code) = error_of($node, "SET lock_timeout = '10 ms'; SELECT $counts FROM backfill_diff($job)");
    is($code, '55P03', 'lock_timeout of the session bounds the wait');
    clear_point($node);
    $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
    $holder->query_safe('COMMIT');
    $holder->quit;
    is(finish($behind[0]), '', 'a job that is canceled meanwhile: there is nothing to compare');
    like(finish($behind[1]), qr/cannot compare the rows of partition "public.t_1"\nDETAIL:  Its state is "canceled"/, '... and an error by name');
    is(wait_job($node, $job), 'canceled', '... it ends');
    check_clean($node, 'a job that is canceled meanwhile');
}

# What is locked meanwhile, and a cancel. Rows are sorted: what waits within a search of an index is not canceled.
{
    my $gate = session($node);
    set_point($node, 'ready/1 stop');
    for my $on_write ('rebuild', 'catch_up') {
        my $job = start_job($node, "'gated', 'SELECT k, id, ''new'' AS v FROM gated', delay => '0', on_write => '$on_write'");
        await_point($node, $job, 'ready');
        close_gate($gate, 1);
        my $behind = start_psql("SET enable_hashjoin = off; SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT $counts FROM backfill_diff($job)");
        my $pid = Backfill::await_at_gate($node, 1);
        is($node->safe_psql('postgres', <<"SQL"), 'AccessShareLock ' . ($on_write eq 'catch_up' ? 'ShareLock' : 'AccessShareLock'), "$on_write: its locks");
            SELECT string_agg(DISTINCT l.mode, ' ' ORDER BY l.mode) FILTER (WHERE c.oid = 'gated_1'::regclass)
                || ' ' || max(l.mode) FILTER (WHERE c.oid = 'backfill_${job}_new.gated_1'::regclass)
            FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
            WHERE l.pid = $pid AND c.relkind = 'r'
SQL
        $node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
        like(finish($behind), qr/canceling statement due to user request/, "$on_write: a cancel ends it");
        open_gate($gate, 1);
        is(diff_of($job), '10|10|0|10|0|0|{"v": 10}', "$on_write: it is right without the gate");
        $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
        is(wait_job($node, $job), 'canceled', "$on_write: the job ends");
    }
    clear_point($node);
    $gate->quit;
    check_clean($node, 'a diff that is canceled');
}

# Who may: a role that may control the job, and may read both tables.
{
    fill();
    $node->safe_psql('postgres', <<'SQL');
        CREATE ROLE owner LOGIN;
        CREATE ROLE member IN ROLE owner;
        CREATE ROLE other_member NOINHERIT IN ROLE owner;
        CREATE ROLE stranger;
        ALTER TABLE t OWNER TO owner;
        ALTER TABLE t_1 OWNER TO owner;
        GRANT CREATE ON DATABASE postgres TO owner;
        GRANT SELECT ON t, t_1 TO stranger;
SQL
    my $job = start_job($node, "'t', $source, delay => '0', swap => 'storage'", 'SET ROLE owner');
    is(wait_job($node, $job), 'done', 'a job of a role');
    my $as = sub { return "SET ROLE $_[0]; SELECT $counts FROM backfill_diff($job)" };
    is($node->safe_psql('postgres', $as->($_)), $expected, "$_ may") for ('owner', 'member', 'postgres');
    my @refused = error_of($node, $as->('stranger'));
    is($refused[0], '42501', 'another role may not, though it may read the table');
    like($refused[1], qr/^permission denied for backfill job/, '... since it may not control the job');
    @refused = error_of($node, $as->('other_member'));
    is($refused[0], '42501', 'a member without privileges may not');
    like($refused[1], qr/^permission denied for schema backfill_${job}_old/, '... since it may not read');
    $node->safe_psql('postgres', "GRANT USAGE ON SCHEMA backfill_${job}_old TO other_member; GRANT SELECT ON t_1 TO other_member");
    @refused = error_of($node, $as->('other_member'));
    like($refused[1], qr/^permission denied for table t_1/, '... nor the one table');
    $node->safe_psql('postgres', "REVOKE SELECT ON t_1 FROM other_member; GRANT SELECT ON backfill_${job}_old.t_1 TO other_member");
    @refused = error_of($node, "SET ROLE other_member; SELECT * FROM backfill_diff_rows($job, 't_1')");
    like($refused[1], qr/^permission denied for table t_1/, '... nor the other one');
    $node->safe_psql('postgres', 'GRANT SELECT ON t_1 TO other_member');
    is($node->safe_psql('postgres', $as->('other_member')), $expected, '... but with SELECT on both');

    # Rows that are hidden are an error, not left out.
    $node->safe_psql('postgres', 'ALTER TABLE t_1 ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON t_1 USING (k > 5)');
    is($node->safe_psql('postgres', $as->('owner')), $expected, 'row security: the owner sees all rows');
    @refused = error_of($node, $as->('other_member'));
    is($refused[0], '42501', 'row security: a role that does not is refused');
    like($refused[1], qr/^query would be affected by row-level security policy for table "t_1"/, '... with the reason');
    is($node->safe_psql('postgres', 'SET ROLE other_member; SELECT count(*) FROM t_1'), 7, '... and its own statements are as before');
}
$node->stop;
done_testing();
