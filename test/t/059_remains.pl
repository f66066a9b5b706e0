# Nothing of a job remains once it rests, whatever was done meanwhile to what it works on: siblings with jobs of their
# own, tables, partitions and schemas with new names, a DEFAULT that is detached, dropped, made anew or rebuilt, trees
# below trees, cancels and crashes. And nothing goes that only has a name like ours.
#
# BACKFILL_ROUNDS: how many rounds of all that, by either method; a few at random otherwise. PARTBACKFILL_SEED.
use strict;
use warnings;

use Backfill;
use List::Util 'shuffle';
use Test::More;
use Time::HiRes;

my $node = new_node('remains', settings => [ 'restart_after_crash = on', 'partbackfill.crash_pause = 0', 'max_locks_per_transaction = 200' ]);
$node->safe_psql('postgres', <<'SQL');
    CREATE PROCEDURE make_table() LANGUAGE plpgsql AS $$
    BEGIN
        DROP SCHEMA IF EXISTS s, s2 CASCADE;
        CREATE SCHEMA s;
        CREATE TABLE s.t (k int NOT NULL, v text) PARTITION BY RANGE (k);
        CREATE TABLE s.t_1 PARTITION OF s.t FOR VALUES FROM (0) TO (10);
        CREATE TABLE s.t_2 PARTITION OF s.t FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (k);
        CREATE TABLE s.t_2a PARTITION OF s.t_2 FOR VALUES FROM (10) TO (15);
        CREATE TABLE s.t_2rest PARTITION OF s.t_2 DEFAULT;
        CREATE TABLE s.t_rest PARTITION OF s.t DEFAULT;
        INSERT INTO s.t SELECT g, repeat('x', 1000) FROM generate_series(0, 1500) AS g;
        INSERT INTO s.t SELECT 15 + g % 5, repeat('x', 1000) FROM generate_series(1, 500) AS g;
        -- Names like ours on what is not ours.
        ALTER TABLE s.t_rest ADD CONSTRAINT partbackfill_1_1 CHECK (k > -5) NOT VALID, ADD CONSTRAINT partbackfill_99_1 CHECK (v <> 'y');
        CREATE TRIGGER partbackfill_guard_1_row AFTER INSERT ON s.t_1 FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
        ALTER TABLE s.t_1 DISABLE TRIGGER partbackfill_guard_1_row;
    END
    $$;
SQL

# What the user's own things are that look like ours; of the tables wherever they are by now.
sub own {
    return $node->safe_psql('postgres', q{
        SELECT conname FROM pg_constraint WHERE conname LIKE 'partbackfill%' AND pg_get_constraintdef(oid) ~ '(-5|y)'
        UNION ALL SELECT tgname FROM pg_trigger WHERE tgname = 'partbackfill_guard_1_row' AND tgenabled = 'D' ORDER BY 1});
}

sub left {
    return $node->safe_psql('postgres', q{
        SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'backfill\_%'
        UNION ALL
        SELECT format('constraint %s of %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE conname LIKE 'partbackfill%' AND pg_get_constraintdef(oid) !~ '(-5|y)'
        UNION ALL
        SELECT format('trigger %s of %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE tgname LIKE 'partbackfill%' AND tgisinternal
        UNION ALL
        SELECT format('mark of job %s', job) FROM backfill_write
        ORDER BY 1});
}

my @deeds = (
    'ALTER TABLE s.t RENAME TO renamed', 'ALTER TABLE s.t_1 RENAME TO renamed', 'ALTER TABLE s.t_rest RENAME TO renamed',
    'ALTER SCHEMA s RENAME TO s2', 'ALTER TABLE s.t DETACH PARTITION s.t_rest', 'ALTER TABLE s.t DETACH PARTITION s.t_1',
    'ALTER TABLE s.t DETACH PARTITION s.t_rest CONCURRENTLY', 'ALTER TABLE s.t DETACH PARTITION s.t_1 CONCURRENTLY',
    'ALTER TABLE s.t_rest SET SCHEMA public', 'DROP TABLE s.t_rest', 'DROP TABLE s.t', 'DROP TABLE s.t_1',
    'BEGIN; ALTER TABLE s.t DETACH PARTITION s.t_rest; ALTER TABLE s.t_rest RENAME TO was; CREATE TABLE s.t_rest PARTITION OF s.t DEFAULT; COMMIT',
    'ALTER TABLE s.t_rest RENAME COLUMN v TO w', 'ALTER TABLE s.t RENAME COLUMN k TO key', 'ALTER TABLE s.t ADD more int',
    'VACUUM FULL s.t_rest', 'TRUNCATE s.t_rest', 'ALTER TABLE s.t_1 RENAME TO t_3; CREATE TABLE s.t_1 (k int)',
    'ALTER TABLE s.t_2 RENAME TO t_9', 'ALTER TABLE s.t DETACH PARTITION s.t_2', 'ALTER TABLE s.t_2 DETACH PARTITION s.t_2rest', 'DROP TABLE s.t_2rest');
my $reader = session($node);
my $seed = $ENV{PARTBACKFILL_SEED} // time;
srand $seed;
my $rounds = $ENV{BACKFILL_ROUNDS};
my @bad;
for my $round (1 .. $rounds // 1) {
    for my $method (qw(attach storage)) {
        for my $deed ($rounds ? @deeds : (shuffle @deeds)[ 0 .. 6 ]) {
            my $end = ('cancel', 'done', 'pause', 'kill')[ rand 4 ];
            $end = 'done' if $end eq 'kill' && rand() < 0.7; # a crash costs the test a second
            $node->safe_psql('postgres', 'CALL make_table()');
            my $own = own();
            my $held = ('s.t_1', 's.t_2a', 's.t_rest')[ rand 3 ];
            $reader->query_safe("BEGIN; SELECT count(*) FROM ONLY $held WHERE false");
            my $few = rand() < 0.5;
            my @jobs = start_job($node, "'s.t', 's.t', swap => '$method', delay => '0', keep_old => false, max_attempts => 1, swap_patience => '1 s', workers => "
                    . (1 + int rand 2) . ($few ? ", partitions => '{s.t_1, s.t_2a}'" : ''));
            push @jobs, start_job($node, "'s.t', 's.t', swap => 'attach', delay => '0', keep_old => false, partitions => '{s.t_2rest}'") if $few && rand() < 0.6;
            $node->poll_query_until('postgres', "SELECT bool_or(state IN ('ready', 'failed', 'done')) FROM backfill_progress WHERE job = $jobs[0]");
            Time::HiRes::usleep(rand 300_000);
            my $deed_first = rand() < 0.5; # while the reader is there: what needs his table waits
            $reader->query_safe('COMMIT') if !$deed_first;
            $node->psql('postgres', "SET lock_timeout = '200 ms'; SET client_min_messages = error; $deed");
            if ($end eq 'kill') {
                my $pid = $node->safe_psql('postgres', q{SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'});
                if ($pid ne '') {
                    eval { $reader->quit };
                    kill_worker($node, $pid);
                    $reader = session($node);
                    $deed_first = 0;
                }
            }
            # A job that ends at the same moment refuses that.
            $node->psql('postgres', "SELECT backfill_$end($_)") for $end =~ /cancel|pause/ ? @jobs : ();
            $reader->query_safe('COMMIT') if $deed_first;
            for my $job (@jobs) {
                my $state = wait_job($node, $job);
                if ($state !~ /^(done|canceled)$/) {
                    push @bad, "$method, $deed, $end: job $job is running" if $state eq 'running';
                    $node->psql('postgres', "SELECT backfill_cancel($job)");
                    wait_job($node, $job);
                }
            }
            my $left = left();
            push @bad, "$method, $deed, $end, held $held: left $left; "
                . $node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', job, state, error), ' | ') FROM backfill_status WHERE job >= $jobs[0]") if $left ne '';
            my $now = own();
            push @bad, "$method, $deed, $end: the user's own went: $own; now $now" if $deed !~ /DROP TABLE|new|CREATE/ && $now ne $own;
            $node->safe_psql('postgres', 'DROP TABLE IF EXISTS t_rest, renamed CASCADE');
        }
    }
}
is(join("\n", @bad), '', "nothing of ours remains, all of others does (seed $seed)");

$reader->quit;
$node->stop;
done_testing();
