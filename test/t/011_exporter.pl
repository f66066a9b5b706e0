# contrib/prometheus/partbackfill.yaml in the exporter that it is for: every metric is there, and tells what the views tell.
use strict;
use warnings;

use HTTP::Tiny;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

use FindBin;
use lib $FindBin::RealBin;
use Backfill;

my ($exporter) = grep { -x } map { "$_/prometheus-postgres-exporter" } split /:/, $ENV{PATH};
plan skip_all => 'prometheus-postgres-exporter is not installed' unless defined $exporter;
my $queries = "$FindBin::RealBin/../../contrib/prometheus/partbackfill.yaml";
plan skip_all => 'its queries are not beside the tests' unless -r $queries;

my $node = new_node('metrics', allows_streaming => 1);
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE worker LOGIN;
    CREATE ROLE prometheus LOGIN IN ROLE worker;
    GRANT CREATE ON SCHEMA public TO worker;
    SET ROLE worker;
    CREATE TABLE t (k integer, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (2000);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (2000) TO (4000);
    CREATE TABLE truth AS SELECT k, repeat(md5(k::text), 20) AS v FROM generate_series(0, 3999) AS k;
    INSERT INTO t TABLE truth;
SQL

my $port = PostgreSQL::Test::Cluster::get_free_port();
local $ENV{DATA_SOURCE_NAME} = sprintf "host=%s port=%s user=prometheus dbname=postgres sslmode=disable", $node->host, $node->port;
my $output = '';
my $running = IPC::Run::start(
    [ $exporter, "--web.listen-address=127.0.0.1:$port", "--extend.query-path=$queries", '--disable-default-metrics',
        '--disable-settings-metrics' ],
    '<', \undef, '>&', \$output);

# The metrics of the extension, by name with labels.
sub scrape {
    my $answer;
    for (1 .. 100) {
        $answer = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port/metrics");
        last if $answer->{success};
        usleep(100_000);
    }
    die "the exporter does not answer: $answer->{content} $output" unless $answer->{success};
    return map { /^(partbackfill_\S+\{.*\}) (\S+)$/ ? ($1 => $2) : () } split /\n/, $answer->{content};
}

sub value {
    my ($metrics, $name, %labels) = @_;
    my @found = grep { my $key = $_; $key =~ /^\Q$name\E\{/ && !grep { $key !~ /\b$_="\Q$labels{$_}\E"/ } keys %labels } keys %$metrics;
    return @found == 1 ? $metrics->{ $found[0] } : scalar(@found) . " series of $name";
}

my %none = scrape();
is(join(' ', sort keys %none), '', 'without a job there is nothing to tell');

my $job = start_job($node, q{'t', 'truth', delay => '0', keep_old => false, max_wal_rate => '200kB', label => 'fix 1'}, 'SET SESSION AUTHORIZATION worker');
await_partition($node, $job, 1, "phase = 'loading' AND rows > 0 AND waiting_on IS NOT NULL");
my %now = scrape();
my %label = (backfill_job => $job, target => 'public.t');
cmp_ok(value(\%now, 'partbackfill_job_done_ratio', %label, state => 'running', owner => 'worker', label => 'fix 1'), '<', 0.6, 'it is not half done');
cmp_ok(value(\%now, 'partbackfill_job_rows', %label), '>', 0, 'some rows are written');
is(value(\%now, 'partbackfill_job_workers', %label), 1, 'by one worker');
is(value(\%now, 'partbackfill_partitions_count', %label, state => 'running'), 1, 'one partition is in hand');
is(value(\%now, 'partbackfill_partitions_count', %label, state => 'done'), 0, 'none is done');
is(value(\%now, 'partbackfill_waiting_partitions', %label, reason => 'wal_rate'), 1, 'one waits for its WAL');
is(value(\%now, 'partbackfill_waiting_partitions', %label, reason => 'replica_lag'), 0, 'and for nothing else');

wait_job($node, $job);
%now = scrape();
is(value(\%now, 'partbackfill_job_done_ratio', %label, state => 'done'), 1, 'then it is done');
is(value(\%now, 'partbackfill_job_rows', %label), 4000, 'with all rows');
is(value(\%now, 'partbackfill_partitions_count', %label, state => 'done'), 2, 'of both partitions');
for my $metric (qw(wal_bytes build_seconds throttled_seconds locked_seconds attempts duration_seconds)) {
    cmp_ok(value(\%now, "partbackfill_job_$metric", %label), '>', 0, $metric);
}

# Every metric of the file has a value.
my ($query, %expected);
for my $line (split /\n/, slurp_file($queries)) {
    $query = $1 if $line =~ /^(\w+):/;
    my ($column) = $line =~ /^    - (\w+):/ or next;
    $expected{"${query}_$column"} = 1 unless grep { $_ eq $column } qw(backfill_job target owner state label reason);
}
my %seen = map { /^(\w+)/ ? ($1 => 1) : () } keys %now;
my $missing = join ' ', grep { !$seen{$_} && !/^partbackfill_waiting/ } sort keys %expected;
is($missing, '', 'no metric is missing');
cmp_ok(scalar(keys %expected), '>', 10, 'and there are many');
$running->pump_nb;
unlike($output, qr/level=error/, 'the exporter had nothing to complain about');

$running->signal('TERM');
$running->finish;
done_testing();
