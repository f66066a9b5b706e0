# Nothing of a table is lost: the corpus of odd tables, each rebuilt from itself (test/lossless).
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('lossless');
my $place = "$FindBin::RealBin/../lossless";
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$place/corpus.sql" ], 'the corpus is made');

local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PATIENCE} = '180 s';
# storage first: attach leaves an invalid index behind, which storage has to refuse.
for my $way ('storage', 'storage reverted', 'auto', 'attach', 'attach reverted') {
    my ($method, $reverted) = split / /, $way;
    local $ENV{REVERT} = $reverted // '';
    my ($out, $err);
    IPC::Run::run([ $^X, "$place/lossless.pl", $method, 'postgres' ], '>', \$out, '2>', \$err);
    note($out);
    is($err, '', "$way: the measure itself went well");

    # The names in the corpus say what is to come.
    my %verdict = reverse $out =~ /^(same|refused|different) (\S.*)$/mg;
    my @wrong = grep { $verdict{$_} ne (/\.(?:${method}_refuses|both_refuse)_/ ? 'refused' : 'same') } sort keys %verdict;
    cmp_ok(scalar(keys %verdict), '>=', 36, "$way: the corpus was measured");
    is_deeply(\@wrong, [], "$way: each table is the same afterwards, or refused where it has to be")
        or diag($out);
    unlike($out, qr/no partition of/, "$way: nothing was refused for another reason than its own");
}

$node->stop;
done_testing();
