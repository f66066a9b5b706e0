# What can be seen of a job while it works: NOTIFY, lines in the log, the views in the middle of a build.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use Backfill;

my $node = new_node('progress', allows_streaming => 1);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE "Odd t" (k integer, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF "Odd t" FOR VALUES FROM (0) TO (2000);
    CREATE TABLE "Odd ""2""" PARTITION OF "Odd t" FOR VALUES FROM (2000) TO (4000);
    -- Its build can be held up as a source can.
    CREATE FUNCTION held(k integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(7);
        RETURN k;
    END
    $$;
    CREATE INDEX ON "Odd t" (held(k));
    CREATE TABLE truth AS SELECT k, repeat(md5(k::text), 20) AS v FROM generate_series(0, 3999) AS k;
    INSERT INTO "Odd t" TABLE truth;
    ANALYZE "Odd t";
SQL

# What a session that listens is told until the job has ended, as 'partition: state' and 'job: state'.
sub told {
    my ($arguments, $meanwhile) = @_;
    my $session = session($node);
    $session->query_safe('LISTEN partbackfill');
    my $job = start_job($node, $arguments);
    $meanwhile->($job) if $meanwhile;
    wait_job($node, $job);
    my $heard = '';
    for (1 .. 200) {
        $heard .= $session->query('SELECT pg_sleep(0.05)');
        last if $heard =~ /"\{"job":$job,"state":"(?:done|failed|canceled)"[,}]/;
    }
    $session->quit;
    my @told;
    while ($heard =~ /payload "(\{"job":$job,.*?\})" received/g) {
        my $payload = $1;
        my $parsed = $node->safe_psql('postgres', "SELECT format('%s: %s', COALESCE(p->>'partition', 'job'), p->>'state')"
                . " FROM (SELECT \$payload\$$payload\$payload\$::jsonb) AS payload (p)");
        push @told, $parsed;
    }
    return ($job, join("\n", @told), $heard);
}

my $log_from = -s $node->logfile;
my ($job, $told) = told(q{'"Odd t"', 'truth', delay => '0', keep_old => false});
is($told, <<'END' =~ s/\n\z//r, 'each change of state is told of');
job: running
public.t_1: running
public.t_1: ready
public.t_1: done
public."Odd ""2""": running
public."Odd ""2""": ready
public."Odd ""2""": done
job: done
END
my $log = slurp_file($node->logfile, $log_from);
like($log, qr/LOG:  backfill job $job swapped partition public\.t_1: 2000 rows in [\d.]+ s, [\d.]+ MB of WAL; waited [\d.]+ ms for locks, held them for [\d.]+ ms/,
    'each swap is a line in the log');

$log_from = -s $node->logfile;
($job, $told, my $labelled) = told(q{'"Odd t"', 'truth', delay => '0', keep_old => false, label => 'fix "1"'});
like($labelled, qr/\{"job":$job,"state":"done","label":"fix \\"1\\""\}/, 'a job is told of with its label');
like(slurp_file($node->logfile, $log_from), qr/LOG:  backfill job $job \(fix "1"\) swapped partition public\.t_1:/, 'the log has it, too');

$job = start_job($node, q{'"Odd t"', 'truth', label => 'again', throttle_query => 'SELECT true'});
my (undef, $again, $notice) = $node->psql('postgres', q{SELECT backfill_start('"Odd t"', 'SELECT * FROM truth', label => 'again')});
is($again, $job, 'a repeated call gives the number of the job with that label');
like($notice, qr/NOTICE:  backfill job $job has label "again" and is unfinished: no job is started\nDETAIL:  Its source is another one\./, 'and says so');
unlike($notice, qr/HINT:/, 'a running job needs no advice');
$node->safe_psql('postgres', "SELECT backfill_pause($job)");
wait_job($node, $job);
(undef, $again, $notice) = $node->psql('postgres', q{SELECT backfill_start('"Odd t"', 'truth', label => 'again')});
like($notice, qr/HINT:  The job is paused: call backfill_resume\($job\)\./, 'and that it is paused');
cancel_job($node, $job);

$log_from = -s $node->logfile;
($job, $told, my $heard) = told(q{'"Odd t"', $$SELECT k, (1 / (k - 2500)) || 'secret' AS v FROM truth$$, delay => '0', keep_old => false, max_attempts => 2});
is($told, <<'END' =~ s/\n\z//r, 'a failed attempt and what becomes of it');
job: running
public.t_1: running
public.t_1: ready
public.t_1: done
public."Odd ""2""": running
public."Odd ""2""": pending
public."Odd ""2""": running
public."Odd ""2""": failed
job: failed
END
unlike($heard, qr/secret|zero/, 'neither query nor error is told to everybody');
$log = slurp_file($node->logfile, $log_from);
like($log, qr/LOG:  backfill job $job could not rebuild partition public\."Odd ""2""" in attempt $_ of 2: division by zero/,
    "failure $_ is a line in the log") for 1 .. 2;

($job, $told) = told(q{'"Odd t"', 'truth', delay => '0', max_wal_rate => '50kB'}, sub {
        my ($running) = @_;
        await_partition($node, $running, 1, "phase = 'loading'");
        cancel_job($node, $running);
});
like($told, qr/^public\.t_1: canceled$/m, 'partitions that are canceled');
like($told, qr/^job: canceled$/m, 'and their job');

# In the middle of a load everything moves.
$node->safe_psql('postgres', q{UPDATE "Odd t" SET v = 'old'});
$job = start_job($node, q{'"Odd t"', 'truth', delay => '0', keep_old => false, max_wal_rate => '300kB'});
await_partition($node, $job, 1, "phase = 'loading' AND rows BETWEEN 1 AND 1500 AND throttled_time > '0'");
is($node->safe_psql('postgres', <<"SQL"), 't|t|t|t|t|t', 'the partition in the middle of its load');
    SELECT percent > 0 AND percent < 70, rows_estimate > 0, throttled_time > '0',
           waiting_on ~ '^WAL [0-9.]+ [kMG]B/s > 300 kB/s\$', worker_pid IS NOT NULL, started_at < clock_timestamp()
    FROM backfill_progress WHERE job = $job AND ordinal = 1
SQL
is($node->safe_psql('postgres', <<"SQL"), 'running|1|1|t|t|t|t|t', 'and its job');
    SELECT state, running, pending, percent > 0 AND percent < 50, bar ~ '^\\[#*-+\\]\$', rows > 0, rows_per_second > 0,
           eta > '0' AND eta < '5 min'
    FROM backfill_status WHERE job = $job
SQL
like($node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'"),
    qr/^backfill job $job partition 1 public\.t_1: loading; \d+ rows; throttled [\d.]+ s(; waiting on WAL .*)?$/, 'a line of the worker that can be read');
my $gate = session($node);
close_gate($gate, 7);
await_partition($node, $job, 1, "phase = 'indexing' AND rows = 2000 AND percent >= 70");
is($node->safe_psql('postgres', <<"SQL"), '1', 'pg_stat_progress_create_index shows the index');
    SELECT count(*) FROM backfill_progress AS p JOIN pg_stat_progress_create_index AS i ON i.pid = p.worker_pid
    WHERE p.job = $job
SQL
open_gate($gate, 7);
$gate->quit;
is(wait_job($node, $job), 'done', 'and it is done');
is($node->safe_psql('postgres', 'TABLE "Odd t" EXCEPT ALL TABLE truth'), '', 'with the right rows');

# Rows that take long are seen one by one, and the job obeys between them.
$job = start_job($node, q{'"Odd t"', 'SELECT k, v FROM truth WHERE pg_sleep(0.02) IS NOT NULL', delay => '0', keep_old => false});
await_partition($node, $job, 1, "phase = 'loading' AND rows BETWEEN 8 AND 999");
$node->safe_psql('postgres', "SELECT backfill_alter($job, nice_ratio => 1)");
await_partition($node, $job, 1, "throttled_time > '0' AND rows < 1000");
cancel_job($node, $job);
is(wait_job($node, $job), 'canceled', 'and canceled');

# Time in which a job can do nothing says nothing of its pace.
$node->safe_psql('postgres', 'CREATE TABLE sign AS SELECT true AS is_up');
$job = start_job($node, q{'"Odd t"', 'truth', delay => '0', keep_old => false, throttle_query => 'TABLE sign', nice_ratio => 1});
await_partition($node, $job, 1, "throttled_time > '4 s'");
$node->safe_psql('postgres', 'UPDATE sign SET is_up = false');
is(wait_job($node, $job), 'done', 'a job that was held up');
is($node->safe_psql('postgres', <<"SQL"), 't', 'its rate is that of the time in which it could work');
    SELECT rows_per_second > rows / date_part('epoch', finished_at - started_at) * 2 FROM backfill_status WHERE job = $job
SQL
check_clean($node, 'all of them');

done_testing();
