# contrib/grafana and the alerts of contrib/prometheus, by a real Prometheus that reads the exporter while a job runs: each query of
# the dashboard gives something, and an alert fires.
use strict;
use warnings;

use Backfill;
use FindBin;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $top = "$FindBin::RealBin/../..";
for my $program (qw(prometheus promtool prometheus-postgres-exporter)) {
    plan skip_all => "$program is not installed" unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}
plan skip_all => 'the dashboard is not beside the tests' unless -r "$top/contrib/grafana/partbackfill.json";

# The alerts by themselves
my $alerts = "$top/contrib/prometheus/alerts.yaml";
command_ok([ 'promtool', 'check', 'rules', $alerts ], 'the alerts are right in form');
command_ok([ 'promtool', 'test', 'rules', "$top/test/prometheus/alerts_test.yaml" ], 'each fires for what it is for');
my %listed = map { $_ => 1 } slurp_file("$top/docs/prometheus.md") =~ /^\| `(Backfill\w+)` \|/gm;
is(join(' ', sort keys %listed), join(' ', sort map { /- alert: (\w+)/ ? $1 : () } split /\n/, slurp_file($alerts)), 'docs/prometheus.md lists them');

# The form of the dashboard
my $dashboard = decode_json(slurp_file("$top/contrib/grafana/partbackfill.json"));
my @panels = @{ $dashboard->{panels} };
my (%ids, %taken);
$ids{ $_->{id} }++ for @panels;
is(scalar(grep { $_ > 1 } values %ids), 0, 'panels have numbers of their own');
for my $panel (@panels) {
    my ($x, $y, $w, $h) = @{ $panel->{gridPos} }{qw(x y w h)};
    for my $column ($x .. $x + $w - 1) { $taken{"$column $_"}++ for $y .. $y + $h - 1; }
}
is(scalar(grep { $_ > 1 } values %taken), 0, 'and places of their own');
is(scalar(grep { (split)[0] > 23 } keys %taken), 0, 'within the grid');
is(join(' ', map { $_->{name} } @{ $dashboard->{templating}{list} }), 'datasource job', 'its variables');

# The job
my $node = new_node('dashboard');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k integer, v text) PARTITION BY RANGE (k);
    SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', n, n * 500, n * 500 + 500) FROM generate_series(0, 3) AS n
    \gexec
    CREATE TABLE truth AS SELECT k, repeat(md5(k::text), 20) AS v FROM generate_series(0, 1999) AS k;
    INSERT INTO t TABLE truth;
SQL
my ($exporter_port, $port) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
my %output = (exporter => '', prometheus => '');
my @running;
END {
    local $? = $?;
    for my $run (@running) { eval { $run->kill_kill(grace => 5) }; }
}
{
    local $ENV{DATA_SOURCE_NAME} = sprintf "host=%s port=%s dbname=postgres sslmode=disable", $node->host, $node->port;
    push @running,
        IPC::Run::start(
        [ 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$exporter_port",
            "--extend.query-path=$top/contrib/prometheus/partbackfill.yaml", '--disable-default-metrics', '--disable-settings-metrics' ],
        '<', \undef, '>&', \$output{exporter});
}
my $home = $PostgreSQL::Test::Utils::tmp_check;
append_to_file("$home/prometheus.yml", <<"YAML");
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files:
  - $alerts
scrape_configs:
  - job_name: postgres
    static_configs:
      - targets: ['127.0.0.1:$exporter_port']
YAML
command_ok([ 'promtool', 'check', 'config', "$home/prometheus.yml" ], 'Prometheus takes it all');
push @running,
    IPC::Run::start(
    [ 'prometheus', "--config.file=$home/prometheus.yml", "--storage.tsdb.path=$home/prometheus", "--web.listen-address=127.0.0.1:$port", '--log.level=warn' ],
    '<', \undef, '>&', \$output{prometheus});

# What Prometheus answers to a request; undef when it is not there yet.
sub ask {
    my ($path, %parameters) = @_;
    my $http = HTTP::Tiny->new(timeout => 10);
    my $answer = $http->get("http://127.0.0.1:$port/api/v1/$path?" . $http->www_form_urlencode(\%parameters));
    $_->pump_nb for grep { $_->pumpable } @running;
    return if $answer->{status} == 599 || $answer->{status} == 503;
    my $content = decode_json($answer->{content});
    die "$path: $content->{error}" if $content->{status} ne 'success';
    return $content->{data};
}

# Asks until the condition holds for the answer.
sub await_answer {
    my ($condition, @question) = @_;
    for (1 .. 600) {
        my $answer = ask(@question);
        return $answer if defined $answer && $condition->($answer);
        usleep(200_000);
    }
    die "waited in vain for @question: $output{prometheus} $output{exporter}";
}

my $begun = time;
await_answer(sub { $_[0]{result}[0]{value}[1] eq '1' if @{ $_[0]{result} } }, 'query', query => 'up{job="postgres"}');
my $job = start_job($node, q{'t', 'truth', delay => '0', keep_old => false, max_wal_rate => '100kB', label => 'shown'});
wait_job($node, $job);
my $failing = start_job($node, q{'t', 'truth', delay => '0', keep_old => false, audits => ARRAY['SELECT * FROM {shadow} WHERE k = 700']});
wait_job($node, $failing);
await_answer(sub { grep { $_->{labels}{alertname} eq 'BackfillPartitionFailed' && $_->{labels}{backfill_job} eq $failing && $_->{state} eq 'firing' } @{ $_[0]{alerts} } }, 'alerts');
pass('an alert fires for a partition that has failed');
my @rules = map { @{ $_->{rules} } } @{ ask('rules')->{groups} };
is(join(' ', map { "$_->{name}: $_->{health}" } grep { $_->{health} ne 'ok' } @rules), '', 'all alerts are evaluated');

my ($variable) = grep { $_->{name} eq 'job' } @{ $dashboard->{templating}{list} };
my ($metric, $label) = $variable->{definition} =~ /\Alabel_values\((\w+), (\w+)\)\z/;
is(join(' ', sort @{ ask("label/$label/values", 'match[]' => $metric) }), "$job $failing", 'the variable has both jobs');
for my $panel (@panels) {
    for my $target (@{ $panel->{targets} }) {
        my $query = $target->{expr} =~ s/\$job/.*/gr;
        unlike($query, qr/\$/, "$panel->{title}: no other variable");
        my $answer = ask('query_range', query => $query, start => int $begun, end => int(time), step => 1);
        cmp_ok(scalar @{ $answer->{result} }, '>', 0, "$panel->{title}: has data");
        my ($series) = @{ $answer->{result} };
        for my $name ($target->{legendFormat} =~ /\{\{(\w+)\}\}/g) {
            next if $name eq 'label' && defined $series && !grep { $_->{metric}{label} } @{ $answer->{result} };
            ok((grep { defined $_->{metric}{$name} } @{ $answer->{result} }), "$panel->{title}: its legend has $name");
        }
    }
}
unlike($output{exporter}, qr/level=error/, 'the exporter had nothing to complain about');
unlike($output{prometheus}, qr/level=error/, 'nor had Prometheus');

$_->signal('TERM') for @running;
$_->finish for @running;
@running = ();
done_testing();
