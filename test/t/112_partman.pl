# Sets of partitions that pg_partman makes and maintains, while its maintenance runs beside a job: it creates partitions, its
# retention drops or detaches them, and the DEFAULT partition is emptied. What is still there is rebuilt, what is not is
# skipped with the reason, and no row is lost or twice there.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('partman');
plan skip_all => 'pg_partman is not installed for this server'
    if $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_partman'") == 0;
$node->safe_psql('postgres', 'CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman');
my $is_native = $node->safe_psql('postgres', "SELECT extversion LIKE '4.%' FROM pg_extension WHERE extname = 'pg_partman'") eq 't' ? "p_type => 'native'," : '';

# A set by month from nine months ago to two ahead, with a key that only the template gives its partitions. Rows of the two months
# before that are in the DEFAULT partition. The source has 1 where the table has 0.
sub make_set {
    my ($t) = @_;
    $node->safe_psql('postgres', <<"SQL");
        CREATE TABLE public.$t (id bigint NOT NULL, at timestamptz NOT NULL, v int) PARTITION BY RANGE (at);
        CREATE TABLE public.${t}_template (LIKE public.$t, PRIMARY KEY (id));
        SELECT partman.create_parent('public.$t', 'at', $is_native p_interval => '1 month', p_premake => 2, p_template_table => 'public.${t}_template',
            p_start_partition => (date_trunc('month', now()) - interval '9 months')::text);
        CREATE TABLE raw_$t AS
            SELECT row_number() OVER () AS id, at, 1 AS v
            FROM generate_series(date_trunc('month', now()) - interval '11 months', date_trunc('month', now()) + interval '20 days', interval '1 hour') AS at;
        INSERT INTO $t SELECT id, at, 0 FROM raw_$t;
SQL
    return;
}

sub configure {
    my ($t, $settings) = @_;
    $node->safe_psql('postgres', "UPDATE partman.part_config SET $settings WHERE parent_table = 'public.$t'");
    return;
}

sub maintain {
    $node->safe_psql('postgres', 'CALL partman.run_maintenance_proc()');
    return;
}

sub empty_default {
    my ($t, $before) = @_;
    return $node->psql('postgres', ($before // '') . "CALL partman.partition_data_proc('public.$t', p_wait => 0)");
}

sub count_partitions {
    my ($t) = @_;
    return $node->safe_psql('postgres', "SELECT count(*) FROM pg_inherits WHERE inhparent = '$t'::regclass");
}

# 'state: reason' of each partition of the job, those that are alike once with their number.
sub outcomes {
    my ($job) = @_;
    return $node->safe_psql('postgres', <<"SQL");
        SELECT string_agg(format('%s %s', number, outcome), ', ' ORDER BY outcome)
        FROM (SELECT concat_ws(': ', state, sqlstate, error) AS outcome, count(*) AS number FROM backfill_progress WHERE job = $job GROUP BY 1) AS outcomes
SQL
}

# The rows of the table, in what it has partitions for, are those of the source. Those that fulfil the condition are computed.
sub check_rows {
    my ($t, $title, $computed) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $least = $node->safe_psql('postgres', "SELECT min(at) FROM $t");
    same_rows($node, "(SELECT id, at FROM $t) AS t", "SELECT id, at FROM raw_$t WHERE at >= '$least'", "$title: no row is lost or twice there");
    is($node->safe_psql('postgres', "SELECT count(*) FROM $t WHERE v = 0 AND $computed"), 0, "$title: they are computed") if defined $computed;
    return;
}

my $gone = 'skipped: the partition was dropped, detached or given other bounds';
my $gate = session($node);

for my $method (qw(attach storage)) {
    for my $retention (qw(drops detaches)) {
        my $t = "r_${method}_$retention";
        make_set($t);
        my $is_kept = $retention eq 'detaches' ? 'true' : 'false';

        # The oldest partition is being built when its time is over, and that of the next two.
        close_gate($gate, 1);
        my $job = start_job($node, "'$t', 'SELECT * FROM raw_$t WHERE pass_gate(1)', swap => '$method', delay => '0', max_attempts => 1");
        await_at_gate($node, 1);
        configure($t, "premake = 4, retention = '6 months', retention_keep_table = $is_kept");
        maintain();
        is(count_partitions($t), 13 - 3 + 2, "$method, retention $retention: three have gone and two come, while one is built");
        open_gate($gate, 1);
        is(wait_job($node, $job), 'done', "$method, retention $retention: the job is done");
        is(outcomes($job), "10 done, 3 $gone", "$method, retention $retention: what is gone is skipped");
        check_rows($t, "$method, retention $retention", 'true');
        $node->safe_psql('postgres', "SELECT backfill_purge($job)");
        check_clean($node, "$method, retention $retention");
    }

    # What the retention takes has its old rows kept like the others, until they are purged.
    my $t = "k_$method";
    make_set($t);
    my $job = start_job($node, "'$t', 'raw_$t', swap => '$method', delay => '0'");
    is(wait_job($node, $job), 'done', "$method, kept rows: the job is done");
    my ($oldest, $newest) = split /\|/, $node->safe_psql('postgres', "SELECT min(partition), max(partition) FROM backfill_progress WHERE job = $job AND range_start IS NOT NULL");
    configure($t, q{retention = '7 months', retention_keep_table = false});
    maintain();
    configure($t, q{retention = '6 months', retention_keep_table = true});
    maintain();
    is(count_partitions($t), 13 - 3, "$method, kept rows: the retention goes on");
    my ($code, $message) = error_of($node, "SELECT backfill_revert($job, '$oldest')");
    is($code, '42P01', "$method, kept rows: what was dropped cannot be reverted");
    ($code, $message) = error_of($node, "SELECT backfill_revert($job)");
    like($message, qr/is not the one that backfill job $job has swapped.*It was dropped, detached/s, "$method, kept rows: nor all of them together");
    is($node->safe_psql('postgres', "SELECT backfill_revert($job, '$newest')"), 1, "$method, kept rows: one that is there can");
    is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), 13, "$method, kept rows: all are purged");
    check_clean($node, "$method, kept rows");

    # The DEFAULT partition is emptied while it is built.
    for my $on_write (qw(rebuild catch_up)) {
        $t = "d_${method}_$on_write";
        make_set($t);
        close_gate($gate, 1);
        $job = start_job($node, "'$t', 'SELECT * FROM raw_$t WHERE pass_gate(1)', partitions => '{${t}_default}', swap => '$method',"
                . " on_write => '$on_write', keep_old => false");
        await_at_gate($node, 1);
        my ($status, undef, $complaint) = empty_default($t);
        is($status, 0, "$method, $on_write: rows of the DEFAULT partition move while it is built") or diag($complaint);
        open_gate($gate, 1);
        is(wait_job($node, $job), 'done', "$method, $on_write: the job is done");
        is($node->safe_psql('postgres', "SELECT count(*) FROM ${t}_default"), 0, "$method, $on_write: they have left it");
        check_rows($t, "$method, $on_write"); # the job does not know the partitions that they have moved to
        check_clean($node, "$method, $on_write");
    }

    # A build that reads the DEFAULT partition itself holds a lock that has to wait for it.
    $t = "s_$method";
    make_set($t);
    close_gate($gate, 1);
    $job = start_job($node, "'$t', 'SELECT id, at, 1 AS v FROM $t WHERE pass_gate(1)', partitions => '{${t}_default}', swap => '$method', keep_old => false");
    await_at_gate($node, 1);
    my (undef, undef, $complaint) = empty_default($t, q{SET lock_timeout = '100 ms'; });
    like($complaint, qr/lock timeout/, "$method, its own source: a new partition waits for the build of the DEFAULT one");
    open_gate($gate, 1);
    is(wait_job($node, $job), 'done', "$method, its own source: the job is done");
    is((empty_default($t))[0], 0, "$method, its own source: then there is nothing to wait for");
    check_rows($t, "$method, its own source", "at < date_trunc('month', now()) - interval '9 months'");
    check_clean($node, "$method, its own source");
}
$gate->quit;

# Maintenance without a break, beside writers and jobs: no session meets an error, and nothing is lost.
make_set('busy');
configure('busy', 'infinite_time_partitions = true');
$node->safe_psql('postgres', <<'SQL');
    ALTER TABLE raw_busy ADD PRIMARY KEY (id);
    CREATE SEQUENCE busy_ids START 1000000;
    CREATE FUNCTION write_busy(earlier interval) RETURNS void LANGUAGE sql AS $$
        WITH written AS (
            INSERT INTO busy
            SELECT nextval('busy_ids'), date_trunc('month', now()) - interval '9 months' + random() * interval '9 months' - earlier, 0
            RETURNING id, at)
        INSERT INTO raw_busy SELECT id, at, 1 FROM written;
    $$;
SQL
# One session at a time maintains the set, as pg_partman wants it; late rows, for which there are no partitions, come from it, too.
append_to_file("$PostgreSQL::Test::Utils::tmp_check/write.sql", "SELECT write_busy('0');\n");
append_to_file("$PostgreSQL::Test::Utils::tmp_check/maintain.sql", <<'SQL');
    SELECT pg_try_advisory_lock(99) AS mine \gset
    \if :mine
    SELECT write_busy(random() * interval '2 years') FROM generate_series(1, 3);
    UPDATE partman.part_config SET premake = least(premake + 1, 12) WHERE parent_table = 'public.busy';
    CALL partman.run_maintenance_proc();
    CALL partman.partition_data_proc('public.busy', p_wait => 0, p_quiet => true);
    SELECT pg_advisory_unlock(99);
    \endif
SQL
my $clients = start_clients($node, 3, '--rate=100', '-f', "$PostgreSQL::Test::Utils::tmp_check/write.sql\@40", '-f',
    "$PostgreSQL::Test::Utils::tmp_check/maintain.sql\@1");
my $partitions = count_partitions('busy');
for my $way ([ attach => 'catch_up' ], [ storage => 'catch_up' ], [ storage => 'rebuild' ]) {
    my ($method, $on_write) = @$way;
    my $job = start_job($node, "'busy', 'raw_busy', swap => '$method', on_write => '$on_write', workers => 2, delay => '0', keep_old => false");
    is(wait_job($node, $job), 'done', "busy, $method, $on_write: the job is done");
    like(outcomes($job), qr/^\d+ done$/, "busy, $method, $on_write: all partitions of it");
}
await($node, "SELECT count(*) > $partitions + 5 FROM pg_inherits WHERE inhparent = 'busy'::regclass");
unlike(stop_clients($clients), qr/ERROR|abort/, 'busy: neither a writer nor the maintenance has met an error');
check_rows('busy', 'busy', 'id < 1000000');
check_clean($node, 'busy');

$node->stop;
done_testing();
