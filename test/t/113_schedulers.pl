# docs/schedulers.md and contrib/schedulers, dbt and airflow: the recipes for pg_cron run as they stand in the document, and so do its
# commands and scripts. Clients find the job of their label again, and say by their exit status how it ended.
use strict;
use warnings;

use Backfill;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

my $top = "$FindBin::RealBin/../..";
my $document = slurp_file("$top/docs/schedulers.md");
plan skip_all => 'the clients are not beside the tests' unless -r "$top/contrib/schedulers/partbackfill.sh";

# The blocks of a language in a section of the document.
sub blocks {
    my ($section, $language) = @_;
    my ($text) = $document =~ /^## \Q$section\E\n(.*?)(?=^## |\z)/ms or die "no section $section";
    return $text =~ /^```$language\n(.*?)^```/gms;
}

my $python = '/usr/bin/python3';
my %has = map { $_ => -x $python && system("$python -c 'import $_' 2>/dev/null") == 0 } qw(psycopg psycopg2 jinja2);

my $node = new_node('schedulers', settings => ['partbackfill.crash_pause = 1']);
my $has_cron = $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_cron'");
if ($has_cron) {
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'\ncron.host = '" . $node->host . "'\n");
    $node->restart;
    $node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
}
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE app LOGIN;
    GRANT CREATE ON SCHEMA public TO app;
    SET ROLE app;
    CREATE TABLE raw_events (id bigint PRIMARY KEY, at timestamptz NOT NULL, amount_in_cents bigint NOT NULL);
    INSERT INTO raw_events
        SELECT row_number() OVER (), at, row_number() OVER ()
        FROM (SELECT generate_series('2024-01-01'::timestamptz, '2024-12-31', '1 day') AS at
              UNION ALL
              SELECT generate_series(current_date - interval '6 days', current_date + interval '1 day', '1 hour')) AS times;
    CREATE VIEW recompute_source AS SELECT id, at, amount_in_cents / 100.0 AS amount FROM raw_events;
    CREATE VIEW corrected_events AS SELECT * FROM recompute_source;
    CREATE TABLE events (id bigint, at timestamptz, amount numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', to_char(m, 'YYYY_MM'), m, m + interval '1 month')
    FROM generate_series('2024-01-01'::timestamptz, '2024-12-01', '1 month') AS m
    UNION ALL
    SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', to_char(d, 'YYYY_MM_DD'), d, d + interval '1 day')
    FROM generate_series(current_date - interval '6 days', current_date + interval '2 days', '1 day') AS d
    \gexec
    INSERT INTO events SELECT id, at, 0 FROM raw_events;
    CREATE TABLE history (LIKE events) PARTITION BY RANGE (id);
    CREATE TABLE history_1 PARTITION OF history FOR VALUES FROM (0) TO (100);
    CREATE TABLE history_2 PARTITION OF history FOR VALUES FROM (100) TO (200);
    INSERT INTO history SELECT id, at, 0 FROM raw_events WHERE id < 200;
    CREATE VIEW history_source AS SELECT * FROM recompute_source WHERE id < 200 AND pass_gate(2);
SQL
my %environment = (PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'app', PGDATABASE => 'postgres', PYTHONDONTWRITEBYTECODE => 1,
    PYTHONPATH => "$top/contrib/schedulers:$top/contrib/airflow", PATH => "$top/contrib/schedulers:$top/test/schedulers:$ENV{PATH}");

# A command in the environment of a client: how it ended and what it said, when it is finished.
sub begin {
    my ($command, $input) = @_;
    local %ENV = (%ENV, %environment);
    my $file = "$PostgreSQL::Test::Utils::tmp_check/input";
    unlink $file;
    append_to_file($file, $input // '');
    my %run = (out => '', err => '');
    $run{run} = IPC::Run::start($command, '<', $file, '>', \$run{out}, '2>', \$run{err});
    return \%run;
}

sub finish {
    my ($run) = @_;
    $run->{run}->finish;
    return $run->{run}->full_result >> 8;
}

# The same for what the document shows, which leaves a second between partitions.
sub finish_soon {
    my ($run, $label) = @_;
    $node->poll_query_until('postgres', <<"SQL");
        SELECT count(backfill_alter(job, delay => '0')) > 0 FROM backfill_status WHERE label = '$label' AND state = 'running'
SQL
    return finish($run);
}

# Waits until the client has said it.
sub await_line {
    my ($run, $pattern) = @_;
    for (1 .. 1800) {
        $run->{run}->pump_nb if $run->{run}->pumpable;
        return if $run->{out} =~ $pattern;
        last if !$run->{run}->pumpable;
        usleep(50_000);
    }
    die "waited in vain for $pattern: $run->{out} $run->{err}";
}

sub sql { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'app' ]); }

sub job_of {
    my ($label) = @_;
    return sql("SELECT max(job) FROM backfill_status WHERE label = '$label'");
}

sub wrong_rows {
    my ($table, $condition) = @_;
    return sql("SELECT count(*) FROM $table AS t JOIN raw_events AS r USING (id) WHERE ($condition) AND t.amount <> r.amount_in_cents / 100.0");
}

#
# pg_cron: the recipes are scheduled first, and run at the next full minute; meanwhile the clients do
#
my $gate = session($node);
if ($has_cron) {
    $node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA cron TO app');
    for my $block (blocks('pg_cron', 'sql')) {
        my ($status, undef, $complaint) = $node->psql('postgres', $block, extra_params => [ '-U', 'app', '-v', 'ON_ERROR_STOP=1' ]);
        is("$status $complaint", '0 ', 'pg_cron: the recipe runs: ' . ($block =~ /'([^']*)'/)[0]);
    }
    is(sql(q{SELECT string_agg(jobname || ' ' || schedule, ', ' ORDER BY jobid) FROM cron.job}),
        'recompute 30 1 * * *, window opens 0 22 * * *, window closes 0 6 * * *, after restarts */5 * * * *', 'pg_cron: all are scheduled');
    is(sql(q{SELECT state, done FROM backfill_status WHERE label = 'three years'}), 'paused|0', 'pg_cron: the long job waits for its window');
    close_gate($gate, 2);
    $node->safe_psql('postgres', q{SELECT cron.alter_job(jobid, schedule => '* * * * *') FROM cron.job WHERE jobname IN ('recompute', 'window opens')});
}

#
# The clients, in the shell and in Python
#
my %clients = ('partbackfill.sh' => [ 'partbackfill.sh', '-i', '0.2', '-p', '60', '-l' ]);
if ($has{psycopg} || $has{psycopg2}) {
    $clients{'partbackfill_client.py'} = [ $python, "$top/contrib/schedulers/partbackfill_client.py", '--interval', '0.2', '--patience', '60', '--label' ];
} else {
    diag('neither psycopg nor psycopg2 is installed: the client in Python is not run');
}
sql('CREATE TABLE item (k int, v int) PARTITION BY LIST (k); CREATE TABLE item_1 PARTITION OF item FOR VALUES IN (1); CREATE TABLE item_2 PARTITION OF item FOR VALUES IN (2);'
        . ' CREATE TABLE truth (k int, v int); INSERT INTO truth VALUES (1, 1), (2, 2); INSERT INTO item TABLE truth');

for my $client (sort keys %clients) {
    my @client = @{ $clients{$client} };
    my @signal = $client =~ /sh\z/ ? ('-s') : ('--on-signal');

    # Signals, and those who come again. The gate keeps the job from its end.
    close_gate($gate, 1);
    my @work = ("$client again", 'item', 'SELECT * FROM truth WHERE pass_gate(1)', "delay=0", 'keep_old=false');
    my $first = begin([ @client, @work ]);
    await_line($first, qr/running/);
    my $job = job_of("$client again");
    like($first->{out}, qr/^job $job: started, label $client again$/m, "$client: starts the job");
    my $second = begin([ @client[ 0 .. $#client - 1 ], @signal, 'pause', $client[-1], @work ]);
    await_line($second, qr/running/);
    like($second->{out}, qr/^job $job: found, /m, "$client: another one finds it");
    $first->{run}->signal('TERM');
    is(finish($first), 143, "$client: SIGTERM ends it");
    like($first->{err}, qr/stopped by signal 15; job $job: leave/, "$client: and says so");
    is(sql("SELECT state FROM backfill_status WHERE job = $job"), 'running', "$client: the job goes on");
    $second->{run}->signal('INT');
    is(finish($second), 130, "$client: Ctrl-C ends it");
    is(sql("SELECT state FROM backfill_status WHERE job = $job"), 'paused', "$client: the job is paused where that was asked for");
    my $third = begin([ @client, @work ]);
    await_line($third, qr/running/);
    like($third->{out}, qr/^job $job: resumed, /m, "$client: who comes again resumes it");
    sql("SELECT backfill_pause($job)");
    is(finish($third), 3, "$client: a job that a person pauses");
    my $fourth = begin([ @client, @work ]);
    await_line($fourth, qr/running/);
    sql("SELECT backfill_cancel($job)");
    is(finish($fourth), 4, "$client: one that is canceled");
    open_gate($gate, 1);

    # Failures, and another try.
    @work = ("$client fails", 'item', 'SELECT * FROM truth', 'audits={"SELECT * FROM {shadow} WHERE v = 2"}', 'delay=0', 'keep_old=false');
    my $failing = begin([ @client, @work ]);
    is(finish($failing), 1, "$client: a job of which a partition fails");
    like($failing->{err}, qr/^failed: public\.item_2: audit 1 of partition "public\.item_2" returned a row \(\w+, attempt 1\)$/m, "$client: it is listed, with the reason");
    unlike($failing->{err}, qr/item_1/, "$client: the other one is not");
    sql('UPDATE truth SET v = 3 WHERE k = 2');
    $failing = begin([ @client, @work ]);
    is(finish($failing), 0, "$client: another try is done");
    like($failing->{out}, qr/: retried, /, "$client: by a retry");
    is(sql('SELECT string_agg(v::text, \' \' ORDER BY k) FROM item'), '1 3', "$client: with the rows as they are now");
    sql('UPDATE truth SET v = 2 WHERE k = 2');

    # A job that has nothing left to do says so.
    sql('CREATE TABLE gone (k int, v int) PARTITION BY LIST (k); CREATE TABLE gone_1 PARTITION OF gone DEFAULT');
    close_gate($gate, 1);
    my $skipped = begin([ @client, "$client skipped", 'gone', 'SELECT * FROM truth WHERE pass_gate(1)', 'delay=0' ]);
    await_at_gate($node, 1);
    sql('DROP TABLE gone');
    open_gate($gate, 1);
    is(finish($skipped), 1, "$client: a job of which all partitions are gone");
    like($skipped->{err}, qr/^failed: every partition was skipped$/m, "$client: is told");

    # What cannot be started, and what is no command line.
    my $refused = begin([ @client, "$client refused", 'item', 'SELECT k FROM truth' ]);
    is(finish($refused), 2, "$client: what is refused");
    like($refused->{err}, qr/column "?v"?/, "$client: with the server's error");
    is(finish(begin([ @client, "$client refused", 'item', 'truth', 'workers' ])), 2, "$client: a wrong argument");
    is(finish(begin([ @client, "x'y", 'item', 'truth', "swap=attach', workers => 2, --" ])), 2, "$client: a value is no SQL");
}

if ($has{psycopg} && $has{psycopg2}) {
    my $older = begin([ $python, '-c', 'import sys, runpy; sys.modules["psycopg"] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")',
            "$top/contrib/schedulers/partbackfill_client.py", '--label', 'older', 'item', 'truth', 'keep_old=false', 'delay=0' ]);
    is(finish($older), 0, 'partbackfill_client.py: psycopg2 will do');
}

#
# What stands in the document
#
sub start_over { return sql('UPDATE events SET amount = 0') }

sub all_done {
    my ($label, $condition, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(sql("SELECT state FROM backfill_status WHERE label = '$label' ORDER BY job DESC LIMIT 1"), 'done', "$title: the job is done");
    is(wrong_rows('events', $condition), 0, "$title: its rows are right");
    cmp_ok(wrong_rows('events', "NOT ($condition)"), '>', 0, "$title: and no others");
    sql("SELECT backfill_purge(job) FROM backfill_status WHERE label = '$label'");
    return;
}

my ($command) = blocks('A shell script', 'bash');
start_over();
my $shown = begin([ 'bash', '-c', $command ]);
is(finish_soon($shown, 'recompute 2024'), 0, 'the shell command of the document');
like($shown->{out}, qr/^job \d+: started, label recompute 2024\n(?:job \d+: running .*\n)*job \d+: done \[#{20}\] 100\.0 %, 12 of 12 partitions\n\z/, 'says what the document shows');
all_done('recompute 2024', q{t.at < '2025-01-01'}, 'the shell command');

SKIP: {
    skip 'psycopg is not installed', 1 unless $has{psycopg};
    start_over();
    my ($script) = blocks('Python', 'python');
    is(finish_soon(begin([ $python, '-' ], $script), 'recompute 2024'), 0, 'the script of the document');
    all_done('recompute 2024', q{t.at < '2025-01-01'}, 'the script');

    my ($listener) = blocks('Listening', 'python');
    my $listening = begin([ $python, '-' ], $listener);
    await($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'LISTEN partbackfill' AND state = 'idle'});
    my $job = sql(q{SELECT backfill_start('item', 'truth', delay => '0', keep_old => false, label => 'heard')});
    await_line($listening, qr/^$job job done$/m);
    is(join('', grep { /^$job / } map { "$_\n" } split /\n/, $listening->{out}),
        "$job job running\n" . join('', map { "$job public.item_$_ running\n$job public.item_$_ ready\n$job public.item_$_ done\n" } 1, 2) . "$job job done\n", 'the listener hears it all')
        or diag($listening->{out});
    $listening->{run}->signal('TERM');
    $listening->{run}->finish;
    for my $payload (blocks('Listening', '')) {
        for my $example (split /\n/, $payload) {
            my ($label, $partition) = map { index($example, $_) >= 0 } '"label"', '"partition"';
            like($example, qr/^\{"job":\d+,(?:"ordinal":\d+,"partition":"[^"]*",)?"state":"\w+"(?:,"label":"[^"]*")?\}$/, 'a payload of the document');
        }
    }

    skip 'python3-jinja2 is not installed', 1 unless $has{jinja2};
    start_over();
    my ($operation) = blocks('dbt', 'bash');
    my $dbt = begin([ 'bash', '-e', '-c', $operation ]);
    is(finish_soon($dbt, 'fix-1234'), 0, 'the dbt operation') or diag($dbt->{err});
    like($dbt->{out}, qr/^backfill job \d+: done, /m, 'shows the job');
    is(sql(q{SELECT state, workers FROM backfill_status WHERE label = 'fix-1234'}), 'done|2', 'the dbt operation: the job is done');
    is(wrong_rows('events', 'true'), 0, 'the dbt operation: its rows are right');
    sql(q{SELECT backfill_purge(job) FROM backfill_status WHERE label = 'fix-1234'});
    my $failing = <<'JSON';
{"target": "item", "source": "truth", "label": "it's", "arguments": {"keep_old": "false", "delay": 0, "audits": "{\"SELECT 1 FROM {shadow} WHERE v = 2\"}"}}
JSON
    my @failing = ('dbt', 'run-operation', 'backfill', '--args', $failing);
    $dbt = begin(\@failing);
    is(finish($dbt), 1, 'a dbt operation of which a partition fails');
    like($dbt->{err}, qr/^backfill job \d+ is failed: public\.item_2: audit 1 of partition "public\.item_2" returned a row$/m, 'says which, and why');
    sql('UPDATE truth SET v = 3 WHERE k = 2');
    is(finish(begin(\@failing)), 0, 'when it is run again it is done');
    is(sql(q{SELECT count(*) FROM backfill_status WHERE label = 'it''s'}), 1, 'by the same job');

    my ($dag) = blocks('Airflow', 'python');
    my @airflow = ($python, "$top/test/schedulers/run_airflow.py", 'recompute', '2024-03-01');
    start_over();
    my $task = begin(\@airflow, $dag);
    is(finish($task), 0, 'the Airflow task') or diag($task->{err});
    all_done('recompute 2024-03-01', q{t.at >= '2024-03-01' AND t.at < '2024-04-01'}, 'the Airflow task');
    $failing = $dag =~ s/"recompute_source"/"SELECT id, at, amount FROM recompute_source WHERE 1 \/ (id - 65) > -9"/r;
    $task = begin(\@airflow, $failing);
    is(finish($task), 1, 'an Airflow task of which a partition fails');
    like($task->{err}, qr/^AirflowException: job \d+ failed: public\.events_2024_03: division by zero \(22012, attempt 3\)$/m, 'may be tried again');
    sql('DELETE FROM raw_events WHERE id = 65; DELETE FROM events WHERE id = 65');
    $task = begin(\@airflow, $failing);
    is(finish($task), 0, 'and is done then') or diag($task->{err});
    close_gate($gate, 1);
    my $waiting = $dag =~ s/"recompute_source"/"SELECT * FROM recompute_source WHERE pass_gate(1)"/r;
    $task = begin(\@airflow, $waiting);
    await_line($task, qr/running/);
    $task->{run}->signal('TERM');
    is(finish($task), 1, 'an Airflow task that is killed');
    is(sql(q{SELECT state FROM backfill_status WHERE label = 'recompute 2024-03-01' ORDER BY job DESC LIMIT 1}), 'paused', 'pauses its job');
    $task = begin(\@airflow, $waiting);
    await_line($task, qr/: resumed, .*running/s);
    sql('SELECT backfill_cancel(' . job_of('recompute 2024-03-01') . ')');
    is(finish($task), 1, 'an Airflow task of a job that is canceled');
    like($task->{err}, qr/^AirflowFailException: job \d+ is canceled$/m, 'is not tried again');
    open_gate($gate, 1);
}

#
# pg_cron again
#
SKIP: {
    skip 'pg_cron is not installed for this server', 1 unless $has_cron;
    await($node, q{SELECT count(*) > 0 FROM backfill_status WHERE label = 'nightly' AND state = 'done'});
    my $nightly = job_of('nightly');
    is(sql("SELECT count(*) FROM backfill_progress WHERE job = $nightly"), 3, 'pg_cron: three days');
    is(sql("SELECT count(*) FROM backfill_progress WHERE job = $nightly AND state <> 'done'"), 0, 'pg_cron: are done');
    my $long = job_of('three years');
    await_partition($node, $long, 1, q{phase = 'loading'});
    is(sql("SELECT state FROM backfill_status WHERE job = $long"), 'running', 'pg_cron: the window is open');
    my %command = map { split /\t/, $_, 2 } split /\n/, sql(q{SELECT jobname || E'\t' || replace(command, E'\n', ' ') FROM cron.job});
    sql(q{SELECT cron.unschedule(jobid) FROM cron.job});
    sql($command{'window closes'});
    is(sql("SELECT state, done FROM backfill_status WHERE job = $long"), 'paused|0', 'pg_cron: the window is closed');
    sql($command{'after restarts'});
    is(sql("SELECT state FROM backfill_status WHERE job = $long"), 'paused', 'pg_cron: what is paused is left alone');
    sql($command{'window opens'});
    await_partition($node, $long, 1, q{phase = 'loading'});
    $gate->quit;
    $node->stop('immediate');
    $node->start;
    await($node, "SELECT waiting_on LIKE 'no worker%' FROM backfill_status WHERE job = $long");
    sql($command{'after restarts'});
    is(wait_job($node, $long), 'done', 'pg_cron: it goes on, and is done');
    is(wrong_rows('history', 'true'), 0, 'pg_cron: its rows are right');
}

#
# The server goes away, and is back without workers: their library is not preloaded
#
$gate = session($node);
close_gate($gate, 1);
my %waiting;
for my $client (sort keys %clients) {
    my $table = 'item_of_' . scalar keys %waiting;
    sql("CREATE TABLE $table (k int, v int) PARTITION BY LIST (k); CREATE TABLE ${table}_1 PARTITION OF $table DEFAULT");
    $waiting{$client} = begin([ @{ $clients{$client} }, "$client restart", $table, 'SELECT * FROM truth WHERE pass_gate(1)', 'delay=0', 'keep_old=false' ]);
    await_line($waiting{$client}, qr/running/);
}
$gate->quit;
$node->stop('immediate');
$node->start;
for my $client (sort keys %waiting) {
    is(finish($waiting{$client}), 0, "$client: the job is done after a restart");
    like($waiting{$client}{out}, qr/waits for no worker/, "$client: which had left it without a worker");
}

$node->stop;
done_testing();
