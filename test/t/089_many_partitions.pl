# What a partition costs does not depend on how many partitions its job has, nor on how many jobs have ended: the rows of
# backfill_control that a job reads, by the server's own counters, are as many for each of 120 partitions as for each of 30. 1.0 read the whole
# job several times for each of its partitions. Nor does it depend on how many tables the database has: no catalog that grows with them is
# read whole for each partition.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Test::More;

my $node = new_node('many_partitions');

# Rows of backfill_control that were read until now.
sub rows_read {
    return $node->safe_psql('postgres',
        "SELECT COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0) FROM pg_stat_all_tables WHERE relname = 'backfill_control'");
}

sub make_table {
    my ($table, $partitions) = @_;
    $node->safe_psql('postgres', <<"SQL");
        CREATE TABLE $table (k integer PRIMARY KEY, v integer) PARTITION BY RANGE (k);
        SELECT format('CREATE TABLE ${table}_%s PARTITION OF $table FOR VALUES FROM (%s) TO (%s)', n, n * 10, n * 10 + 10)
        FROM generate_series(0, $partitions - 1) AS n
        \\gexec
        INSERT INTO $table SELECT k, k FROM generate_series(0, $partitions * 10 - 1) AS k;
SQL
    return;
}

# Rows read by a job, from its start to its end. Its session waits in the server, and the views are not looked at meanwhile.
sub rows_of_job {
    my ($table, $more) = @_;
    my $before = rows_read();
    my $job = start_job($node, "'$table', 'SELECT k, v + 1 AS v FROM $table', delay => '0', keep_old => false, $more");
    is($node->safe_psql('postgres', "SELECT backfill_wait($job, '10 min')"), 'done', "$table, $more: the job is done");
    await($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'partbackfill worker'});
    return rows_read() - $before;
}

# Control rows of jobs that have ended, as after years.
sub add_ended_jobs {
    my ($jobs, $partitions) = @_;
    $node->safe_psql('postgres', <<"SQL");
        INSERT INTO backfill_job
        SELECT (jsonb_populate_record(j, jsonb_build_object('job', 1000000 + n))).*
        FROM backfill_job AS j, generate_series(1, $jobs) AS n
        WHERE j.job = (SELECT min(job) FROM backfill_job WHERE state = 'done');
        INSERT INTO backfill_control
        SELECT (jsonb_populate_record(c, jsonb_build_object('job', j.job, 'ordinal', n))).*
        FROM backfill_job AS j, backfill_control AS c, generate_series(1, $partitions) AS n
        WHERE j.job > 1000000 AND c.ordinal = 1 AND c.job = (SELECT min(job) FROM backfill_job WHERE state = 'done');
SQL
    return;
}

my ($few, $many) = (30, 120);
make_table('few', $few);
make_table('many', $many);
for my $method ('storage', 'attach') {
    for my $workers (1, 2) {
        my $options = "swap => '$method', workers => $workers";
        my $small = rows_of_job('few', $options) / $few;
        my $large = rows_of_job('many', $options) / $many;
        cmp_ok($large, '<=', 1.3 * $small,
            sprintf('%s: %.1f rows a partition of %d, %.1f of %d', $options, $small, $few, $large, $many));
    }
}

# Rows of catalogs that grow with the tables of the database, read whole until now.
sub catalog_rows_read {
    return $node->safe_psql('postgres', q{
        SELECT sum(seq_tup_read) FROM pg_stat_sys_tables
        WHERE relid IN ('pg_class'::regclass, 'pg_attribute'::regclass, 'pg_index'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass,
                        'pg_depend'::regclass, 'pg_inherits'::regclass, 'pg_type'::regclass, 'pg_attrdef'::regclass, 'pg_statistic'::regclass)});
}
$node->safe_psql('postgres', q{SELECT format('CREATE TABLE other_%s (k int PRIMARY KEY)', n) FROM generate_series(1, 500) AS n \gexec});
for my $method ('storage', 'attach') {
    for my $workers (1, 3) {
        my $before = catalog_rows_read();
        rows_of_job('many', "swap => '$method', workers => $workers");
        my $read = (catalog_rows_read() - $before) / $many;
        cmp_ok($read, '<=', 500, sprintf('%s, %d workers: %.0f rows of catalogs a partition, beside 500 tables', $method, $workers, $read));
    }
}

# The views and the functions, while a job runs: the same before and after there are jobs that have ended.
my $job = start_job($node, "'few', 'SELECT k, v FROM few', delay => '1 hour', keep_old => false");
await($node, "SELECT done = 1 FROM backfill_status WHERE job = $job");
my %statement = (
    "backfill_status of all" => "SELECT count(*) > 0 FROM backfill_status",
    "backfill_status of one" => "SELECT state = 'running' FROM backfill_status WHERE job = $job",
    "backfill_progress of one" => "SELECT count(*) = $few FROM backfill_progress WHERE job = $job",
    "backfill_resume of all" => "SELECT backfill_resume() = 0",
);

# Rows of backfill_control read by a statement.
sub read_by {
    my ($sql) = @_;
    my $before = rows_read();
    is($node->safe_psql('postgres', $sql), 't', $sql);
    return rows_read() - $before;
}
my %before = map { $_ => read_by($statement{$_}) } sort keys %statement;
add_ended_jobs(50, 40);
for my $name (sort keys %statement) {
    my $after = read_by($statement{$name});
    # The job's worker may look at a row of its own meanwhile; of the ended jobs there are 50, with 2,000 rows.
    cmp_ok($after - $before{$name}, '<', 50, "$name: $before{$name} rows read, $after beside 50 jobs that have ended");
}
cmp_ok($before{'backfill_status of all'}, '<=', 3 * $few, 'and no more than the partitions of the job that runs');
cancel_job($node, $job);
$node->stop;
done_testing();
