# What the owner of a partition, or a foreign key, does to its shadow between its build and its swap. He may do with his
# table what he likes, and yet no reader shall ever see what the source did not give, nor a row that the partition's
# definition forbids: the shadow is thrown away and built again.
use strict;
use warnings;

use Backfill;
use Test::More;

my $node = new_node('shadow');
$node->safe_psql('postgres', 'CREATE PUBLICATION forged');

# One partition for each, of ten rows: $s is its shadow, %d the first key of the next partition.
my @tampers = (
    [ 'a row deleted', 'DELETE FROM $s WHERE k % 10 = 1' ],
    [ 'rows updated', q{UPDATE $s SET v = 'forged'} ],
    [ 'a row added', q{INSERT INTO $s SELECT k + 6, v, n, c FROM $s WHERE k % 10 = 0} ],
    [ 'emptied', 'TRUNCATE $s' ],
    [ 'NULL in a NOT NULL column', 'ALTER TABLE $s ALTER v DROP NOT NULL; UPDATE $s SET v = NULL' ],
    [ 'NOT NULL taken off', 'ALTER TABLE $s ALTER v DROP NOT NULL' ],
    [ 'a row that a CHECK forbids', 'ALTER TABLE $s DROP CONSTRAINT own_n_check; UPDATE $s SET n = -1' ],
    [ 'a CHECK dropped', 'ALTER TABLE $s DROP CONSTRAINT own_n_check' ],
    [ 'a CHECK replaced', 'ALTER TABLE $s DROP CONSTRAINT own_n_check, ADD CONSTRAINT own_n_check CHECK (n > -5)' ],
    [ 'a row out of bounds', 'ALTER TABLE $s DROP CONSTRAINT partbackfill_bounds; UPDATE $s SET k = k + 1000' ],
    [ 'its bounds dropped', 'ALTER TABLE $s DROP CONSTRAINT partbackfill_bounds' ],
    [ 'rewritten', 'ALTER TABLE $s ALTER n TYPE bigint; ALTER TABLE $s ALTER n TYPE integer' ],
    [ 'a column added', 'ALTER TABLE $s ADD more text' ],
    [ 'made unlogged', 'ALTER TABLE $s SET UNLOGGED' ],
    [ 'an index dropped', 'ALTER TABLE $s DROP CONSTRAINT "$p_pkey"' ],
    [ 'dropped', 'DROP TABLE $s' ],
    [ 'renamed', 'ALTER TABLE $s RENAME TO elsewhere' ],
    [ 'moved', 'ALTER TABLE $s SET SCHEMA elsewhere' ],
    [ 'statistics of something else', <<'SQL' ],
        DROP STATISTICS $schema."$p_stat";
        CREATE STATISTICS $schema."$p_stat" (mcv) ON (v || 'x'), (k::text || v) FROM $s;
        ANALYZE $s
SQL
    [ 'a policy added', 'CREATE POLICY none ON $s USING (false)' ],
    [ 'a comment', 'COMMENT ON COLUMN $s.v IS $$forged$$' ],
    [ 'published', 'ALTER PUBLICATION forged ADD TABLE $s' ],
    [ 'triggers switched off for a while', 'SET session_replication_role = replica; DELETE FROM $s' ],
);

for my $swap ('storage', 'attach') {
    my $table = "own_$swap";
    my $raw = "raw_$swap";
    $node->safe_psql('postgres', <<"SQL");
        CREATE SCHEMA IF NOT EXISTS elsewhere;
        CREATE TABLE $table (k int PRIMARY KEY, v text NOT NULL, n int CONSTRAINT own_n_check CHECK (n >= 0), c int) PARTITION BY RANGE (k);
        CREATE TABLE $raw (k int PRIMARY KEY, v text, n int, c int);
        INSERT INTO $raw SELECT k, 'new ' || k, k % 3, k % 2 FROM generate_series(1, 10 * @{[ scalar @tampers ]}) AS k WHERE k % 10 <> 6;
SQL
    for my $i (0 .. $#tampers) {
        my ($from, $to) = (10 * $i, 10 * $i + 10);
        my $p = sprintf('%s_%02d', $table, $i + 1);
        $node->safe_psql('postgres', <<"SQL");
            CREATE TABLE $p PARTITION OF $table FOR VALUES FROM ($from) TO ($to);
            CREATE STATISTICS ${p}_stat (mcv) ON n, c FROM $p;
            INSERT INTO $table SELECT k, 'old', n, c FROM $raw WHERE k >= $from AND k < $to;
SQL
    }
    my $reader = session($node);
    $reader->query_safe("BEGIN; SELECT count(*) FROM $table");
    my $job = start_job($node, "'$table', '$raw', swap => '$swap', delay => '0', lock_timeout => '5 ms', keep_old => false");
    await_partition($node, $job, $_ + 1, "state = 'ready' AND swap_attempts > 0") for 0 .. $#tampers;
    for my $i (0 .. $#tampers) {
        my ($title, $sql) = @{ $tampers[$i] };
        my $p = sprintf('%s_%02d', $table, $i + 1);
        $sql =~ s/\$schema/backfill_${job}_new/g;
        $sql =~ s/\$p/$p/g;
        $sql =~ s/\$s\b/backfill_${job}_new.$p/g;
        # At once: the worker drops the shadow when it sees a part of it.
        $node->safe_psql('postgres', "BEGIN; $sql; COMMIT");
    }
    $reader->query_safe('COMMIT');
    $reader->quit;
    is(wait_job($node, $job), 'done', "$swap: done") or diag($node->safe_psql('postgres', "SELECT ordinal, state, error FROM backfill_progress WHERE job = $job"));
    for my $i (0 .. $#tampers) {
        my $title = "$swap: $tampers[$i][0]";
        my $p = sprintf('%s_%02d', $table, $i + 1);
        my ($from, $to) = (10 * $i, 10 * $i + 10);
        is($node->safe_psql('postgres', <<"SQL"), "t\n1\nt", "$title: built again, and exactly what the source gave");
            SELECT count(*) = 0 FROM ((TABLE $p EXCEPT ALL SELECT * FROM $raw WHERE k >= $from AND k < $to)
                UNION ALL (SELECT * FROM $raw WHERE k >= $from AND k < $to EXCEPT ALL TABLE $p)) AS different;
            SELECT rebuilds FROM backfill_progress WHERE job = $job AND ordinal = $i + 1;
            SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = '$p'::regclass AND attname = 'v' AND attnotnull)
               AND EXISTS (SELECT FROM pg_index WHERE indrelid = '$p'::regclass AND indisprimary AND indisvalid);
SQL
        # The planner reads what the statistics objects hold.
        $node->safe_psql('postgres', "EXPLAIN SELECT count(*) FROM $p WHERE n = 1 AND c = 1");
    }
    $node->safe_psql('postgres', 'DROP SCHEMA elsewhere CASCADE');
    check_clean($node, $swap);
}

#
# Between two looks of the swap, before it has locked the shadow
#
for my $swap ('storage', 'attach') {
    for my $tamper ('ALTER v DROP NOT NULL', 'DROP CONSTRAINT own_n_check', 'DROP CONSTRAINT "m_1_pkey"', 'ADD more text', 'SET UNLOGGED') {
        my $title = "$swap, between two looks, $tamper";
        $node->safe_psql('postgres', <<'SQL');
            CREATE TABLE m (k int PRIMARY KEY, v text NOT NULL, n int CONSTRAINT own_n_check CHECK (n >= 0)) PARTITION BY RANGE (k);
            CREATE TABLE m_1 PARTITION OF m FOR VALUES FROM (0) TO (10);
            INSERT INTO m VALUES (1, 'v', 1);
            LOAD 'partbackfill';
            ALTER SYSTEM SET partbackfill.injection_point = 'recheck stop';
            SELECT pg_reload_conf();
SQL
        my $job = start_job($node, "'m', 'm', swap => '$swap', delay => '0', max_attempts => 1, keep_old => false");
        await_worker($node, $job, q{query LIKE '%injection point recheck%'});
        $node->safe_psql('postgres', "ALTER TABLE backfill_${job}_new.m_1 $tamper; ALTER SYSTEM SET partbackfill.injection_point = ''; SELECT pg_reload_conf()");
        is(wait_job($node, $job), 'done', "$title: done");
        is($node->safe_psql('postgres', "SELECT rebuilds, attempts FROM backfill_progress WHERE job = $job"), '1|2',
            "$title: built again for it, which is no failure");
        check_clean($node, $title);
        $node->safe_psql('postgres', 'DROP TABLE m');
    }
}

#
# A foreign key that deletes rows of the shadow alone
#
for my $case ([ 'storage', 'rebuild' ], [ 'storage', 'ignore' ], [ 'attach', 'rebuild' ], [ 'attach', 'ignore' ]) {
    my ($method, $on_write) = @$case;
    my $title = "a cascade, $method, on_write $on_write";
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, t_right, cat, child CASCADE;
        CREATE TABLE cat (c int PRIMARY KEY);
        INSERT INTO cat VALUES (1), (2);
        CREATE TABLE t (k int PRIMARY KEY, c int REFERENCES cat ON DELETE CASCADE) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
        INSERT INTO t SELECT k, 1 FROM generate_series(0, 9) AS k;
        CREATE TABLE t_right AS SELECT k, 2 AS c FROM generate_series(0, 9) AS k;
        CREATE TABLE child (k int);
        INSERT INTO child VALUES (7);
SQL
    # Where nobody notices what comes meanwhile no key may refer to it; by attach none ever may.
    $node->safe_psql('postgres', 'ALTER TABLE child ADD FOREIGN KEY (k) REFERENCES t') if $method eq 'storage' && $on_write eq 'rebuild';
    my $reader = session($node);
    $reader->query_safe('BEGIN; SELECT count(*) FROM t');
    my $job = start_job($node, "'t', 'SELECT k, c FROM t_right JOIN cat USING (c)', swap => '$method', on_write => '$on_write',"
            . " max_attempts => 1, keep_old => false, allow_shrink => true, lock_timeout => '5 ms'");
    await_partition($node, $job, 1, "state = 'ready' AND swap_attempts > 0");
    $node->safe_psql('postgres', 'DELETE FROM cat WHERE c = 2');
    $reader->query_safe('COMMIT');
    $reader->quit;
    # Built again, the source gives no row any more.
    my $fails = $method eq 'storage' && $on_write eq 'rebuild';
    is(wait_job($node, $job), $fails ? 'failed' : 'done', "$title: what was built is not shown");
    is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), $fails ? '10' : '0', "$title: every key refers to a row");
    if ($fails) {
        $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
        wait_job($node, $job);
    }
    check_clean($node, $title);
}

done_testing();
