# What readers see of a swap, whatever their snapshot: a partition whole, either as it was or as it is, never an empty
# one and never a mixture. And what a swap does to readers that stand in its way: nothing, it waits for them.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('snapshots', settings => ['deadlock_timeout = 100ms']);
my $holder = session($node);

# Eight partitions of 500 rows; the new rows are as many, so that a missing one shows.
sub make_table {
    my ($table) = @_;
    $node->safe_psql('postgres', <<"SQL");
        CREATE TABLE $table (k int PRIMARY KEY, v text NOT NULL) PARTITION BY RANGE (k);
        SELECT format('CREATE TABLE ${table}_%s PARTITION OF $table FOR VALUES FROM (%s) TO (%s)',
                      n, (n - 1) * 500, n * 500)
        FROM generate_series(1, 8) AS n \\gexec
        INSERT INTO $table SELECT k, 'old' FROM generate_series(0, 3999) AS k;
SQL
    return;
}
$node->safe_psql('postgres', "CREATE TABLE new AS SELECT k, 'new' AS v FROM generate_series(0, 3999) AS k");

# The number of rows of each kind: 'new 500'.
sub content {
    my ($table) = @_;
    return "SELECT string_agg(kind, ', ' ORDER BY kind) FROM (SELECT v || ' ' || count(*) AS kind FROM $table GROUP BY v) AS s";
}

# Rows that a snapshot would not show if it were not that they are frozen.
sub younger_rows {
    my ($table) = @_;
    return "SELECT count(*) FROM $table WHERE NOT pg_visible_in_snapshot(xmin::text::xid8, pg_current_snapshot())";
}

#
# Transactions whose snapshot is older than the build
#
{
    my $title = 'an old snapshot';
    make_table('aged');
    my %reader = map { $_ => session($node) } 'REPEATABLE READ', 'SERIALIZABLE';
    for my $level (sort keys %reader) {
        $reader{$level}->query_safe("BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM new");
    }
    close_gate($holder, 1);
    my $job = start_job($node, q{'aged', 'SELECT * FROM new WHERE CASE WHEN k < 500 THEN true ELSE pass_gate(1) END',}
            . q{ delay => '0', keep_old => false});
    await_partition($node, $job, 1, "state = 'done'");
    # By its own name: who reads through the parent holds a lock that the next swaps wait for.
    for my $level (sort keys %reader) {
        is($reader{$level}->query_safe(content('aged_1')), 'new 500', "$title, $level: a partition after its swap");
        is($reader{$level}->query_safe(younger_rows('aged_1')), '500', "$title, $level: whose rows are younger than it");
    }
    open_gate($holder, 1);
    await_partition($node, $job, 8, "state = 'done'");
    is(wait_job($node, $job), 'done', "$title: the job is done while they are open");
    for my $level (sort keys %reader) {
        is($reader{$level}->query_safe(content('aged')), 'new 4000', "$title, $level: the whole table");
        $reader{$level}->query_safe('SET LOCAL enable_seqscan = off');
        like($reader{$level}->query_safe('EXPLAIN SELECT v FROM aged WHERE k = 3210'), qr/Index Scan/,
            "$title, $level: the index is valid for it");
        is($reader{$level}->query_safe('SELECT v FROM aged WHERE k = 3210'), 'new', "$title, $level: a row by its index");
        is($reader{$level}->query_safe('SELECT count(*), min(k), max(k) FROM aged'), '4000|0|3999',
            "$title, $level: each row once");
        is($reader{$level}->query('COMMIT; SELECT $$committed$$'), 'committed', "$title, $level: it can commit");
        $reader{$level}->quit;
    }
    check_clean($node, $title);
}

#
# Readers of all levels while jobs run
#
{
    my $title = 'readers all the time';
    make_table('busy');
    $node->safe_psql('postgres', <<'SQL');
        CREATE TABLE stop ();

        -- Reads single partitions in transactions of their own until it is stopped: how many it read, how many of
        -- these were younger than the snapshot, and how many were not whole.
        CREATE PROCEDURE read_busy(INOUT whole int DEFAULT 0, INOUT younger int DEFAULT 0, INOUT wrong int DEFAULT 0)
        LANGUAGE plpgsql AS $$
        DECLARE
            n int;
            seen record;
        BEGIN
            WHILE NOT EXISTS (SELECT FROM stop) LOOP
                FOR n IN SELECT generate_series(1, 8) ORDER BY random() LOOP
                    COMMIT;
                    PERFORM count(*) FROM pg_class; -- takes the snapshot
                    PERFORM pg_sleep(random() * 0.01);
                    SELECT count(*) AS rows, count(DISTINCT v) AS kinds,
                           count(*) FILTER (WHERE NOT pg_visible_in_snapshot(xmin::text::xid8, pg_current_snapshot())) AS younger
                    INTO seen FROM busy WHERE k >= (n - 1) * 500 AND k < n * 500;
                    whole := whole + (seen.rows = 500 AND seen.kinds = 1)::int;
                    wrong := wrong + (seen.rows <> 500 OR seen.kinds <> 1)::int;
                    younger := younger + (seen.younger > 0)::int;
                END LOOP;
                COMMIT;
            END LOOP;
        END
        $$;
SQL
    my @readers = map { { level => $_, session => session($node) } }
        'READ COMMITTED', 'REPEATABLE READ', 'REPEATABLE READ', 'SERIALIZABLE';
    for my $reader (@readers) {
        $reader->{session}->query_safe("SET default_transaction_isolation = '\L$reader->{level}'");
        $reader->{session}->query_until(qr/started/, "\\echo started\nCALL read_busy();\n");
    }
    await($node, "SELECT count(*) = 4 FROM pg_stat_activity WHERE query LIKE 'CALL read_busy%' AND state = 'active'");
    my @kinds = ('first', 'second', 'third', 'fourth');
    my @jobs = map {
        my $job = start_job($node, "'busy', \$\$SELECT k, '$_' AS v FROM new\$\$, delay => '10 ms', keep_old => false");
        wait_job($node, $job);
    } @kinds;
    is("@jobs", 'done done done done', "$title: the jobs are done");
    $node->safe_psql('postgres', 'INSERT INTO stop DEFAULT VALUES');
    for my $reader (@readers) {
        chomp(my $counts = $reader->{session}->query_until(qr/\d+\|\d+\|\d+\n/, "\n"));
        my ($whole, $younger, $wrong) = split /\|/, $counts;
        note("$reader->{level}: $whole whole, $younger of these younger than the snapshot, $wrong not whole");
        ok($whole > 0 && $wrong == 0, "$title, $reader->{level}: no partition was empty, short or mixed");
        $reader->{session}->quit;
    }
    is($node->safe_psql('postgres', content('busy')), 'fourth 4000', "$title: the last rows are there");
    check_clean($node, $title);
}

#
# A reader in the way
#
{
    my $title = 'a reader in the way';
    make_table('held');
    my $reader = session($node);
    my $pid = $reader->query_safe('SELECT pg_backend_pid()');
    $reader->query_safe('BEGIN; SELECT count(*) FROM held');
    my $job = start_job($node, q{'held', 'new', delay => '0', keep_old => false});
    await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
    my $tries = $node->safe_psql('postgres', "SELECT swap_attempts FROM backfill_progress WHERE job = $job AND ordinal = 1");
    await_partition($node, $job, 1, "swap_attempts > $tries + 1");
    like($node->safe_psql('postgres',
            "SELECT state || ': ' || waiting_on FROM backfill_progress WHERE job = $job AND ordinal = 1"),
        qr/^ready: .*\b$pid\b/, "$title: the swap waits for it and names it");
    like($node->safe_psql('postgres', "SELECT waiting_on FROM backfill_status WHERE job = $job"), qr/\b$pid\b/,
        "$title: so does the status");
    # The next partitions are built meanwhile.
    await_partition($node, $job, 8, "state = 'ready'");
    is(states($node, $job), join(' ', ('ready') x 8), "$title: all are built");
    is($reader->query_safe(content('held')), 'old 4000', "$title: it reads what it has read before");
    # The longest that a statement waits is one try; a hundredfold is left for a slow machine.
    is($node->safe_psql('postgres', "SET lock_timeout = '10 s'; " . content('held') . ';' x 20), 'old 4000',
        "$title: others are not kept out");
    is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '1', "$title: nobody ends it");
    $reader->query_safe('COMMIT');
    is(wait_job($node, $job), 'done', "$title: the job is done once it has ended");
    is($reader->query_safe(content('held')), 'new 4000', "$title: then it reads the new rows");
    is($node->safe_psql('postgres', "SELECT bool_and(attempts = 1), sum(lock_wait) > '0' FROM backfill_progress WHERE job = $job"),
        't|t', "$title: no partition was built twice, the waiting was counted");
    $reader->quit;
    check_clean($node, $title);
}
{
    # It holds the partition, and comes for the parent when the swap has that.
    my $title = 'a reader that comes from below';
    make_table('crossed');
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM crossed_1');
    my $job = start_job($node, q{'crossed', 'new', partitions => '{crossed_1}', delay => '0', keep_old => false,}
            . q{ lock_timeout => '10 s'});
    await($node, <<"SQL");
        SELECT EXISTS (SELECT FROM backfill_progress WHERE job = $job AND swap_attempts > 0)
            OR EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
                       WHERE a.backend_type = 'partbackfill worker' AND l.relation = 'crossed_1'::regclass AND NOT l.granted
                         AND l.waitstart < clock_timestamp() - interval '300 ms')
SQL
    my ($count, $failed) = $reader->query('SELECT count(*) FROM crossed');
    is($count, '4000', "$title: it is not the victim of a deadlock");
    $reader->query('COMMIT');
    $reader->quit;
    is(wait_job($node, $job), 'done', "$title: the job is done once it has ended");
    is($node->safe_psql('postgres', "SELECT attempts FROM backfill_progress WHERE job = $job"), '1',
        "$title: with what it has built");
    check_clean($node, $title);
}
{
    my $title = 'a swap that may not wait';
    make_table('strict');
    my $before = join "\n", map { fingerprint($node, "strict_$_") } 1, 2;
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM strict');
    my $job = start_job($node, q{'strict', 'new', partitions => '{strict_1,strict_2}', delay => '0', keep_old => false,}
            . q{ lock_timeout => '0', swap_patience => '0'});
    is(wait_job($node, $job), 'failed', "$title: the job fails");
    is($node->safe_psql('postgres',
            "SELECT state, sqlstate, swap_attempts, attempts FROM backfill_progress WHERE job = $job ORDER BY ordinal"),
        "failed|55P03|1|1\nfailed|55P03|1|1", "$title: each partition after one try, and one build");
    like($node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job"),
        qr/could not lock partition "public\.strict_2"/, "$title: the error says why");
    is(join("\n", map { fingerprint($node, "strict_$_") } 1, 2), $before, "$title: the partitions are as they were");
    # What is built is kept for a retry, until the job is canceled.
    is($node->safe_psql('postgres', "SELECT backfill_cancel($job)"), 't', "$title: there is something to cancel");
    is(wait_job($node, $job), 'canceled', "$title: it is canceled");
    check_clean($node, $title);
    is($reader->query_safe(content('strict')), 'old 4000', "$title: the reader reads on");
    $reader->query_safe('COMMIT');
    $reader->quit;
    $job = start_job($node, q{'strict', 'new', partitions => '{strict_1,strict_2}', delay => '0', keep_old => false,}
            . q{ lock_timeout => '0', swap_patience => '0'});
    is(wait_job($node, $job), 'done', "$title: nobody in the way, it need not");
    check_clean($node, $title);
}

#
# Sessions that have planned before the swap
#
{
    my $title = 'a plan from before the swap';
    make_table('planned');
    my $session = session($node);
    $session->query_safe(<<'SQL');
        SET plan_cache_mode = force_generic_plan;
        PREPARE whole AS SELECT count(*), min(v), max(v) FROM planned;
        PREPARE part AS SELECT v FROM planned WHERE k = $1;
        PREPARE leaf AS SELECT count(*), min(v), max(v) FROM planned_3;
        PREPARE change AS UPDATE planned SET v = v || '!' WHERE k = $1 RETURNING v;
        CREATE FUNCTION pg_temp.look(wanted int) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            RETURN (SELECT v FROM planned WHERE k = wanted);
        END
        $$
SQL
    my $look = 'EXECUTE whole; EXECUTE leaf; EXECUTE part(1234); SELECT pg_temp.look(1234)';
    is($session->query_safe($look), "4000|old|old\n500|old|old\nold\nold", "$title: the old rows");
    is($session->query_safe('EXECUTE change(1)'), 'old!', "$title: a change of an old row");
    my $job = start_job($node, q{'planned', 'new', delay => '0', keep_old => false});
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($session->query_safe($look), "4000|new|new\n500|new|new\nnew\nnew", "$title: the new rows");
    is($session->query_safe('EXECUTE change(1)'), 'new!', "$title: a change of a new row");
    is($node->safe_psql('postgres', content('planned')), 'new 3999, new! 1', "$title: which everybody sees");
    $session->quit;
    check_clean($node, $title);
}

$holder->quit;
$node->stop;
done_testing();
