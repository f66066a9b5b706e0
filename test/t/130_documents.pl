# Every SQL block of the README and of docs/ runs, and what docs/walkthrough.md shows is what comes out.
#
# A block runs in a database of its own, in which the tables are that the documents speak of. What a document leaves to its
# reader is added: partitions of a table that a block creates, the number of the job that it names, and the end of a job before
# the next statement.
use strict;
use warnings;

use Backfill;
use FindBin;
use File::Basename qw(basename);
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

# Documents whose blocks a script of their own runs.
my %elsewhere = ('schedulers.md' => 'schedulers', 'distributed.md' => 'postgres_fdw', 'installation.md' => 'packaging');

my $node = new_node('documents');

my $months = <<'SQL';
    SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', to_char(m, 'YYYY_MM'), m, m + interval '1 month')
    FROM generate_series('2023-01-01'::timestamptz, '2025-12-01', '1 month') AS m
    \gexec
    INSERT INTO events SELECT id, at, 1 FROM raw_events;
    ANALYZE events;
SQL
$node->safe_psql('postgres', 'CREATE DATABASE world');
$node->safe_psql('world', <<"SQL");
    SET client_min_messages = warning;
    CREATE ROLE app_owner;
    CREATE ROLE prometheus;
    CREATE TABLE raw_events (id bigint PRIMARY KEY, at timestamptz NOT NULL, amount_in_cents integer NOT NULL);
    INSERT INTO raw_events SELECT i, '2023-01-01'::timestamptz + i * interval '1 day', i FROM generate_series(0, 1095) AS i;
    CREATE TABLE raw_items AS SELECT id, at, amount_in_cents AS net FROM raw_events;
    CREATE TABLE events (id bigint, at timestamptz, amount numeric, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    $months
    CREATE VIEW recompute_source AS SELECT id, at, amount_in_cents / 100.0 AS amount FROM raw_events;
    CREATE VIEW corrected AS TABLE recompute_source;
    CREATE EXTENSION partbackfill;
SQL

# The statements of a text, each with what stands behind it in its line.
sub statements_of {
    my ($text) = @_;
    my @statements;
    my $statement = '';
    while ($text =~ /\G(--[^\n]*|'(?:[^']|'')*'|"[^"]*"|\$\$.*?\$\$|\\watch[^\n]*|;[ ]*(?:--[^\n]*)?|.)/gs) {
        my $token = $1;
        if ($token =~ /\A(?:;|\\watch)\s*(?:-- *(.*))?/s) {
            push @statements, { sql => $statement, comment => $1 // '' };
            $statement = '';
        }
        elsif ($token !~ /\A--/) { $statement .= $token; }
    }
    push @statements, { sql => $statement, comment => '' } if $statement =~ /\S/;
    return grep { $_->{sql} =~ /\S/ } @statements;
}

# What a reader has done before, and does in between.
sub script_of {
    my ($text) = @_;
    my $script = "\\set ON_ERROR_STOP on\nSET client_min_messages = warning;\n\\pset tuples_only on\n\\pset format unaligned\n";
    $script .= "DROP EXTENSION partbackfill;\n" if $text =~ /CREATE EXTENSION partbackfill/;
    $script .= "DROP TABLE events CASCADE;\nDROP VIEW recompute_source CASCADE;\n" if $text =~ /CREATE TABLE events/;
    my ($job) = $text =~ /\bbackfill_\w+\((\d+)/;
    $job //= 1;
    my $numbered = "SELECT setval('backfill_job_job_seq', $job, false);\n";
    my $ended = "SELECT backfill_alter(job, delay => '0') FROM backfill_status WHERE state = 'running';\n"
        . "SELECT backfill_wait(job, '120 s') FROM backfill_status WHERE state = 'running';\n";
    $script .= $numbered . "SELECT backfill_start('events', 'recompute_source');\n$ended" if $text !~ /backfill_start/;
    my $is_open = 0;
    for my $statement (statements_of($text)) {
        my $sql = $statement->{sql};
        $script .= $numbered if $sql =~ /backfill_start/;
        $is_open = 1 if $sql =~ /\A\s*BEGIN/;
        $is_open = 0 if $sql =~ /\A\s*(?:COMMIT|ROLLBACK)/;
        my ($expected) = $statement->{comment} =~ /\A(?:job )?(\d+|ready)\z/;
        $script .= $expected ? "$sql \\gset came_\n\\echo came $expected :came_" . ($sql =~ /(\w+)\(/)[0] . "\n" : "$sql;\n";
        $script .= $months if $sql =~ /CREATE TABLE events/;
        $script .= $ended if !$is_open && $sql !~ /CREATE (?:TABLE|VIEW)/;
    }
    return $script;
}

sub text_of { return slurp_file($_[0]); }

my $count = 0;
my $compared = 0;
for my $document ("$top/README.md", sort glob "$top/docs/*.md") {
    my $name = basename($document);
    next if $name eq 'walkthrough.md';
    my @blocks = text_of($document) =~ /^```sql\n(.*?)^```/gms;
    if (my $script = $elsewhere{$name}) {
        my @scripts = grep { index(text_of($_), $name) >= 0 } glob "$FindBin::RealBin/*_$script.pl";
        ok(@scripts > 0, "$name: a script of its own runs its blocks") if @blocks;
        next;
    }
    for my $i (0 .. $#blocks) {
        my $database = 'block_' . ++$count;
        $node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE world");
        my $file = "$PostgreSQL::Test::Utils::tmp_check/$database.sql";
        append_to_file($file, script_of($blocks[$i]));
        my ($out, $error) = run_command([ 'psql', '-X', '-f', $file, $node->connstr($database) ]);
        is($error, '', "$name, block $i runs");
        my @other = grep { /\Acame (\w+) (.*)\z/ && $1 ne $2 } split /\n/, $out;
        $compared += grep { /\Acame / } split /\n/, $out;
        is("@other", '', "$name, block $i gives what stands beside it");
        $node->safe_psql('postgres', "DROP DATABASE $database WITH (FORCE)");
    }
}
ok($count > 5, "$count blocks were found");
ok($compared > 1, "$compared values were compared");

# The transcript, on the table that it speaks of.
$node->safe_psql('postgres', <<'SQL');
    SET client_min_messages = warning;
    CREATE TABLE currency (code text PRIMARY KEY);
    INSERT INTO currency VALUES ('EUR'), ('GBP'), ('JPY');
    CREATE TABLE raw_events AS
        SELECT id, '2024-01-01'::timestamptz + id * interval '150 s' AS at, 100 + id % 9000 AS minor, (ARRAY['EUR', 'GBP', 'JPY'])[1 + id % 3] AS currency
        FROM generate_series(0::bigint, 576 * 182 - 1) AS id;
    ALTER TABLE raw_events ADD PRIMARY KEY (id);
    CREATE TABLE events (id bigint, at timestamptz, amount numeric(12, 2), currency text REFERENCES currency, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', to_char(m, 'YYYY_MM'), m, m + interval '1 month')
    FROM generate_series('2024-01-01'::timestamptz, '2024-06-01', '1 month') AS m
    \gexec
    INSERT INTO events SELECT id, at, CASE currency WHEN 'GBP' THEN minor ELSE minor / 100.0 END, currency FROM raw_events;
    ANALYZE;
SQL

# Without what differs from run to run: trailing spaces, the number of rows, times, widths of columns.
sub comparable {
    my ($text) = @_;
    my @lines = grep { !/\A\(\d+ rows?\)\z/ && !/\A\s*\z/ } split /\n/, $text;
    return join "\n", map { s/\d\d:\d\d:\d\d\.\d+/(time)/gr =~ s/-{3,}/---/gr =~ s/\s+/ /gr =~ s/\A | \z//gr } @lines;
}

my $walkthrough = text_of("$top/docs/walkthrough.md");
my $shown = 0;
for my $block ($walkthrough =~ /^```(?:sql)?\n(.*?)^```/gms) {
    if ($block !~ /^=> /m) {
        $node->safe_psql('postgres', $block) if $block =~ /\ACREATE/;
        next;
    }
    for my $part (split /^=> /m, $block) {
        my ($statement, $behind) = $part =~ /\A((?:'[^']*'|[^';])*;)[^\n]*\n(.*)\z/s or next;
        my ($out, $error) = run_command([ 'psql', '-X', '-c', $statement, $node->connstr('postgres') ]);
        is($error =~ s/^(?:NOTICE|DETAIL|HINT):.*\n?//gmr, '', "walkthrough.md: no error in: " . substr $statement, 0, 60);
        is(comparable($out), comparable($behind), 'walkthrough.md: what comes out of it') if $behind =~ /\S/;
        $shown++;
    }
}
ok($shown > 10, "$shown statements were shown");
$node->stop;
done_testing();
