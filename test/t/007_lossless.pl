# Nothing of a table is lost: the corpus of odd tables, each rebuilt from itself (test/lossless).
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('lossless');
my $place = "$FindBin::RealBin/lossless";
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
$node->safe_psql('postgres', slurp_file("$place/corpus.sql"));

local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
my ($out, $err);
my $status = IPC::Run::run([ $^X, "$place/lossless.pl", 'postgres' ], '>', \$out, '2>', \$err);
note($out);
is($err, '', 'the measure itself went well');

my %verdict = reverse $out =~ /^(same|refused|different) (\S.*)$/mg;
my @wrong = grep { $verdict{$_} ne (/refused/ ? 'refused' : 'same') } sort keys %verdict;
cmp_ok(scalar(keys %verdict), '>=', 27, 'the corpus was measured');
is_deeply(\@wrong, [], 'each table is the same afterwards, or refused where it has to be')
    or diag($out);
unlike($out, qr/no partition of/, 'nothing was refused for another reason than its own');

$node->stop;
done_testing();
