# What pg_stat_all_tables says of a partition after its swap: what is true of its rows, which the build has analyzed, so
# that autovacuum leaves them alone; and how it was used, which goes on.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = 2000;
my $node = new_node('counters', settings => [
        "shared_preload_libraries = 'partbackfill'",
        'autovacuum_naptime = 1s',
        'autovacuum_vacuum_threshold = 10',
        'autovacuum_vacuum_scale_factor = 0',
        'autovacuum_vacuum_insert_threshold = 10',
        'autovacuum_vacuum_insert_scale_factor = 0',
        'autovacuum_analyze_threshold = 10',
        'autovacuum_analyze_scale_factor = 0',
]);

# Runs the statements; what their session has counted is known by then.
sub run_counted {
    my ($statements) = @_;
    $node->safe_psql('postgres', "$statements; SELECT pg_stat_force_next_flush()");
    return;
}

# Made, vacuumed and used, in turn.
sub make_table {
    my ($name) = @_;
    run_counted(<<"SQL");
        CREATE TABLE $name (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        CREATE TABLE ${name}_1 PARTITION OF $name FOR VALUES FROM (0) TO (10000);
        INSERT INTO $name SELECT k, 'old' FROM generate_series(0, 999) AS k;
        CREATE TABLE source_of_$name AS SELECT k, 'new'::text AS v FROM generate_series(1, $rows) AS k;
SQL
    run_counted(<<"SQL");
        VACUUM ANALYZE ${name}_1;
SQL
    run_counted(<<"SQL");
        UPDATE $name SET v = 'dead' WHERE k < 300;
        DELETE FROM $name WHERE k < 50;
        SET enable_seqscan = off;
        SELECT v FROM ${name}_1 WHERE k = 500;
SQL
    return;
}

# Its rows and those that died or came since it was vacuumed and analyzed.
my $row_counters = 'n_live_tup, n_dead_tup, n_mod_since_analyze, n_ins_since_vacuum';
my $uses = 'seq_scan, seq_tup_read, idx_scan, n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd, vacuum_count, autovacuum_count, '
    . 'autoanalyze_count, last_vacuum';

sub counters {
    my ($what, $table) = @_;
    return $node->safe_psql('postgres', "SELECT $what FROM pg_stat_all_tables WHERE relid = '$table'::regclass");
}

sub index_uses {
    my ($table) = @_;
    return $node->safe_psql('postgres',
        "SELECT indexrelname, idx_scan, idx_tup_read, idx_tup_fetch FROM pg_stat_all_indexes WHERE relid = '$table'::regclass");
}

my $new_rows = "$rows|0|0|0";

sub check_swap {
    my ($table, $arguments, $title) = @_;
    my $partition = "${table}_1";
    make_table($table);
    my $old_rows = counters($row_counters, $partition);
    my $kept_rows = counters('n_live_tup, n_dead_tup', $partition);
    like($kept_rows, qr/^950\|[1-9]/, "$title: rows live and dead");
    my $analyzed = counters('analyze_count', $partition);
    my $at = counters('last_analyze', $partition);
    my $used = counters($uses, $partition);
    my $index_used = index_uses($partition);

    # A swap that is rolled back, and the time in which what is built waits for another.
    $node->safe_psql('postgres', "ALTER SYSTEM SET partbackfill.injection_point = 'swapping fail'; SELECT pg_reload_conf()");
    my $job = start_job($node, "'$table', 'source_of_$table', delay => '0', max_attempts => 1, $arguments");
    is(wait_job($node, $job), 'failed', "$title: a swap that fails");
    is(counters($row_counters, $partition), $old_rows, "$title: a swap that fails: nothing changed");
    is(counters($uses, $partition), $used, "$title: a swap that fails: nor how it was used");
    $node->safe_psql('postgres', 'ALTER SYSTEM RESET partbackfill.injection_point; SELECT pg_reload_conf()');
    $node->safe_psql('postgres', "SELECT backfill_retry($job)");
    is(wait_job($node, $job), 'done', "$title: swapped");
    is(counters($row_counters, $partition), $new_rows, "$title: the new rows, none dead, none to analyze, none to vacuum");
    is(counters("analyze_count - $analyzed, last_analyze > '$at'", $partition), '1|t', "$title: analyzed once more");
    is(counters($uses, $partition), $used, "$title: how it was used goes on");
    is(index_uses($partition), $index_used, "$title: how its index was used goes on");
    is(counters('n_live_tup, n_dead_tup', "backfill_${job}_old.$partition"), $kept_rows, "$title: what is kept are the old rows");

    # What is written from now on is counted.
    run_counted("INSERT INTO $table SELECT generate_series(9000, 9004)");
    is(counters($row_counters, $partition), ($rows + 5) . '|0|5|5', "$title: what is written then is counted");
    return;
}

check_swap('attached', "swap => 'attach'", 'attach');
check_swap('stored', "swap => 'storage'", 'storage');
check_swap('attached_held', "swap => 'attach', on_write => 'block'", 'attach, built and swapped in one transaction');
check_swap('stored_held', "swap => 'storage', on_write => 'block'", 'storage, built and swapped in one transaction');

#
# Autovacuum finds nothing to do, for what was just swapped and for what is built and waits
#
$node->safe_psql('postgres', "ALTER SYSTEM SET partbackfill.injection_point = 'ready stop'; SELECT pg_reload_conf()");
my %waits;
for my $method ('attach', 'storage') {
    make_table("waits_$method");
    $waits{$method} = start_job($node, "'waits_$method', 'source_of_waits_$method', delay => '0', swap => '$method'");
    await_partition($node, $waits{$method}, 1, "state = 'ready'");
}
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE canary (k int);
    INSERT INTO canary SELECT generate_series(1, 1000);
    ALTER SYSTEM SET autovacuum = on;
    SELECT pg_reload_conf();
SQL
# Each round that meets the canary has looked at all tables after what came before it; the second begins when the first
# has ended, or beside it, and so does the third.
for my $round (1 .. 3) {
    await($node, "SELECT autovacuum_count >= $round AND autoanalyze_count >= $round FROM pg_stat_all_tables WHERE relname = 'canary'");
    $node->safe_psql('postgres', 'INSERT INTO canary SELECT generate_series(1, 1000)');
}
is($node->safe_psql('postgres', <<'SQL'), '', 'autovacuum has nothing to do');
    SELECT relid::regclass, n_live_tup, autovacuum_count, autoanalyze_count FROM pg_stat_all_tables
    WHERE (relid IN ('attached_1'::regclass, 'stored_1'::regclass) OR schemaname LIKE 'backfill%new')
      AND (autovacuum_count > 0 OR autoanalyze_count > 0)
SQL
$node->safe_psql('postgres', 'ALTER SYSTEM RESET partbackfill.injection_point; SELECT pg_reload_conf()');
is(wait_job($node, $waits{$_}), 'done', "$_: built, and swapped later") for sort keys %waits;
$node->stop;
done_testing();
