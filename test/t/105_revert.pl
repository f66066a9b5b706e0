# backfill_revert(): the old rows come back as they were, by the exchange that took them away, and what was written since
# is either carried over or refused.
use strict;
use warnings;

use Backfill;
use CatchUp;
use Definition;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('revert');

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

sub start {
    my ($arguments) = @_;
    my $job = start_job($node, "'t', \$\$SELECT k, 'new'::text AS v, n FROM t\$\$, delay => '0', $arguments");
    is(wait_job($node, $job), 'done', "$arguments: done");
    return $job;
}

sub revert {
    my ($arguments) = @_;
    return $node->safe_psql('postgres', "SELECT backfill_revert($arguments)");
}

sub state_of {
    my ($job) = @_;
    return $node->safe_psql('postgres',
        "SELECT s.state || ': ' || string_agg(p.state, ' ' ORDER BY p.ordinal) FROM backfill_status AS s JOIN backfill_progress AS p USING (job) WHERE job = $job GROUP BY s.state");
}

sub end_with {
    my ($job, $title) = @_;
    $node->safe_psql('postgres', "SELECT backfill_purge($job)");
    $node->safe_psql('postgres', "SELECT backfill_wait($job)");
    is($node->safe_psql('postgres', "SELECT backfill_forget($job)"), 't', "$title: nothing of the job is left");
    check_clean($node, $title);
    return;
}

for my $swap (qw(attach storage)) {
    for my $on_write (qw(rebuild catch_up block ignore)) {
        my $title = "$swap, $on_write";
        make_table();
        my $rows = rows_of('t');
        my $schema = dump_schema($node);
        my $job = start("swap => '$swap', on_write => '$on_write'");
        is(versions(), 'new 300', "$title: the new rows are there");
        my $new = rows_of('t');

        is(revert($job), 3, "$title: all are reverted");
        is(state_of($job), 'reverted: reverted reverted reverted', "$title: the states say so");
        is(rows_of('t'), $rows, "$title: the old rows are back");
        is(rows_of("(SELECT * FROM backfill_${job}_old.t_1 UNION ALL SELECT * FROM backfill_${job}_old.t_2 UNION ALL SELECT * FROM backfill_${job}_old.t_3)"),
            $new, "$title: the new ones are kept beside");

        is(revert("$job, 't_2'"), 1, "$title: one gets its new rows back");
        is(state_of($job), 'done: reverted done reverted', "$title: that one alone");
        is(versions(), 'new 100, old 200', "$title: as the rows say");
        is(revert($job), 1, "$title: the job reverts what has its new rows");
        is(rows_of('t'), $rows, "$title: the old rows are back once more");
        is(revert($job), 3, "$title: a revert can be reverted");
        is(rows_of('t'), $new, "$title: the new rows are back");
        is(state_of($job), 'done: done done done', "$title: the job is done again");
        is(revert($job), 3, "$title: and reverted again");

        end_with($job, $title);
        is(dump_schema($node), $schema, "$title: the definition is as before the job");
        is(rows_of('t'), $rows, "$title: so are the rows");
    }
}

done_testing();
