# The steps of a revert x a worker that dies: the revert goes on by itself, the rows are exactly right, and nothing is left
# behind. A kept table is the only copy of its rows: whatever dies when, it is there as it was, or live.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Revert;
use Test::More;

my $node = new_node('revert_faults', settings => [ "partbackfill.crash_pause = '100ms'", 'restart_after_crash = on' ]);
my $rewrite = "'t', 'SELECT k, ''new'' AS v, n FROM t WHERE k < 200', partitions => '{t_1,t_2}'";

# With a foreign key, which a kept table has to be given again by storage, and a DEFAULT with a proof by attach.
sub make_table {
    my ($swap) = @_;
    $node->safe_psql('postgres', <<"SQL");
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, truth, referred;
        CREATE TABLE referred (r int PRIMARY KEY);
        INSERT INTO referred SELECT generate_series(0, 9);
        CREATE TABLE t (k int PRIMARY KEY, v text, n int) PARTITION BY RANGE (k);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
        INSERT INTO t SELECT k, 'old', k % 10 FROM generate_series(0, 199) AS k;
        CREATE TABLE truth (LIKE t INCLUDING ALL);
        INSERT INTO truth SELECT * FROM t;
SQL
    $node->safe_psql('postgres', 'ALTER TABLE t_2 ADD CONSTRAINT t_2_referred FOREIGN KEY (n) REFERENCES referred') if $swap eq 'storage';
    $node->safe_psql('postgres', "CREATE TABLE t_rest PARTITION OF t DEFAULT; INSERT INTO t SELECT k, repeat('x', 100), 1 FROM generate_series(1000, 8000) AS k") if $swap eq 'attach';
    return;
}

# A session that reverts, and a worker that stands at the point, which then dies.
sub revert_and_kill {
    my ($job, $point) = @_;
    set_point($node, "$point stop");
    my $caller = session($node);
    $caller->query_until(qr/begun/, "\\echo begun\nSELECT backfill_revert($job);\n");
    my $pid = await_point($node, $job, $point =~ s{/.*}{}r);
    is($node->safe_psql('postgres', 'SELECT count(*) FROM t WHERE k < 200'), 200, "$job, $point: a reader sees all rows") unless $point =~ /^(swapping|recheck)/;
    kill_worker($node, $pid);
    clear_point($node);
    eval { $caller->quit }; # it was killed, too
    return;
}

for my $swap (qw(attach storage)) {
    for my $publish (qw(each together)) {
        # By exchange, both ways.
        make_table($swap);
        my $job = done_job($node, "$rewrite, swap => '$swap', publish => '$publish', on_write => 'catch_up'");
        my %end = (old => 'reverted', new => 'done');
        my $rows = 'old';
        for my $point ('claimed', 'adopting/2', 'validating', 'recheck/2', 'swapping', 'swapped', 'ending') {
            next if $point eq 'validating' && $swap eq 'attach'; # the proof on the DEFAULT is made by the first job only
            my $title = "$swap, $publish, $point";
            revert_and_kill($job, $point);
            is(wait_job($node, $job), $end{$rows}, "$title: the job has ended as if nothing had been");
            same_rows($node, '(SELECT * FROM t WHERE k < 200) AS t', "SELECT k, '$rows', n FROM truth", "$title: the $rows rows are there");
            $rows = $rows eq 'old' ? 'new' : 'old';
        }

        # With rows that were written since, by a build.
        for my $point ('created', 'loading/2', 'built', 'catching_up', 'converged/2', 'caught_up', 'swapping', 'swapped') {
            my $title = "$swap, $publish, written, $point";
            for my $table (qw(t truth)) {
                $node->safe_psql('postgres', "UPDATE $table SET n = (n + 1) % 10, v = 'written' WHERE k IN (3, 103)");
                $node->safe_psql('postgres', "BEGIN; DELETE FROM $table WHERE k IN (4, 104); INSERT INTO $table VALUES (4, 'written', 2), (104, 'written', 2); COMMIT");
            }
            revert_and_kill($job, $point);
            is(wait_job($node, $job), $end{$rows}, "$title: the job has ended as if nothing had been");
            same_rows($node, '(SELECT * FROM t WHERE k < 200) AS t', "SELECT k, CASE v WHEN 'old' THEN '$rows' ELSE v END, n FROM truth",
                "$title: the $rows rows are there, and what was written");
            $rows = $rows eq 'old' ? 'new' : 'old';
        }
        $node->safe_psql('postgres', "SELECT backfill_purge($job)");
        $node->safe_psql('postgres', "SELECT backfill_wait($job)");
        is($node->safe_psql('postgres', "SELECT backfill_forget($job)"), 't', "$swap, $publish: nothing of the job is left");
        check_clean($node, "$swap, $publish");
    }
}

done_testing();
