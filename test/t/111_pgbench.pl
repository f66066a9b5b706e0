# The tables of pgbench --partitions, by range and by hash, rebuilt from themselves while pgbench runs its TPC-B transactions on
# them: by either method, with each on_write that notices writes. What TPC-B keeps must hold afterwards, account by account; no
# client meets an error; every row has been computed anew.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('pgbench');

# What each account, teller and branch has must be what the history says; a line for each of the first that does not.
sub check_balances {
    my ($title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %wrong;
    for my $kind (qw(account teller branch)) {
        my ($table, $key, $balance) = ('pgbench_' . $kind . ($kind eq 'branch' ? 'es' : 's'), substr($kind, 0, 1) . 'id', substr($kind, 0, 1) . 'balance');
        my $lines = $node->safe_psql('postgres', <<"SQL");
            SELECT format('$kind %s has %s instead of %s', $key, t.$balance, COALESCE(h.delta, 0))
            FROM $table AS t
            FULL JOIN (SELECT $key, sum(delta) AS delta FROM pgbench_history GROUP BY $key) AS h USING ($key)
            WHERE t.$balance IS DISTINCT FROM COALESCE(h.delta, 0)
            LIMIT 5
SQL
        $wrong{$kind} = $lines if $lines ne '';
    }
    return is(join("\n", map { $wrong{$_} } sort keys %wrong), '', "$title: every balance is that of the history");
}

# Transactions of pgbench go on to end.
sub await_transactions {
    my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM pgbench_history');
    await($node, "SELECT count(*) > $before + 20 FROM pgbench_history");
    return;
}

# A job that computes the filler of every account, which then says by which job it was.
sub rebuild {
    my ($mark, $arguments) = @_;
    my $job = start_job($node, "'pgbench_accounts', \$\$SELECT aid, bid, abalance, '$mark'::character(84) AS filler FROM pgbench_accounts\$\$,"
            . " $arguments, workers => 2, delay => '0', keep_old => false");
    return ($job, wait_job($node, $job));
}

sub is_computed {
    my ($mark, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT aid), count(*) FILTER (WHERE filler = '$mark') FROM pgbench_accounts"),
        '100000|100000|100000', "$title: each account is there once, and computed");
}

for my $set (
    [ range => 'prepared', '--partition-method=range' ],
    [ hash => 'extended', '--partition-method=hash', '--unlogged-tables' ]) {
    my ($kind, $mode, @options) = @$set;
    $node->command_ok([ 'pgbench', '-i', '-q', '--partitions=4', @options, 'postgres' ], "pgbench -i @options");
    my $clients = start_clients($node, 4, '-M', $mode, '-b', 'tpcb-like');
    for my $way ([ attach => 'catch_up' ], [ storage => 'catch_up' ], [ storage => 'rebuild' ], [ attach => 'block' ], [ storage => 'block' ]) {
        my ($method, $on_write) = @$way;
        next if $kind eq 'hash' && $on_write eq 'block';
        my ($job, $state) = rebuild("$method $on_write", "swap => '$method', on_write => '$on_write'");
        is("$state: " . states($node, $job), 'done: done done done done', "$kind, $method, $on_write: the job is done");
        is_computed("$method $on_write", "$kind, $method, $on_write");
        await_transactions();
    }

    # What is written to all the time cannot be built anew until it is not: a partition gives up, and says why.
    my ($job, $state) = rebuild('attach rebuild', q{swap => 'attach', on_write => 'rebuild'});
    is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT split_part(error, E'\\n', 2), ', ') FROM backfill_progress WHERE job = $job AND state = 'failed'"),
        $state eq 'failed' ? 'Detail: It was written to during each of 4 builds.' : '', "$kind, attach, rebuild: $state, with the reason");
    await_transactions();
    unlike(stop_clients($clients), qr/ERROR|abort/, "$kind: no client has met an error");
    if ($state eq 'failed') {
        $node->safe_psql('postgres', "SELECT backfill_retry($job)");
        is(wait_job($node, $job), 'done', "$kind, attach, rebuild: it is done when it is quiet");
    }
    is_computed('attach rebuild', "$kind, attach, rebuild");
    check_balances($kind);
    check_clean($node, $kind);
}

# With the foreign keys of pgbench the history refers to the accounts: storage carries that, and auto takes it.
$node->command_ok([qw(pgbench -i -q --partitions=3 --foreign-keys postgres)], 'pgbench -i --foreign-keys');
my $clients = start_clients($node, 4);
await_transactions();
my ($code, $message) = error_of($node, q{SELECT backfill_start('pgbench_accounts', 'TABLE pgbench_accounts', on_write => 'catch_up')});
is($code, '55000', 'keys that are referred to: catch_up is refused');
like($message, qr/foreign key/, 'with the reason');
($code, $message) = error_of($node, q{SELECT backfill_start('pgbench_accounts', 'TABLE pgbench_accounts', swap => 'attach')});
is($code, '0A000', 'keys that are referred to: attach is refused');
like($message, qr/foreign key/, 'with the reason');
my ($job, $state) = rebuild('auto', q{swap => 'auto'});
is($state, 'done', 'keys that are referred to: rebuilt by what can');
is($node->safe_psql('postgres', "SELECT DISTINCT swap FROM backfill_progress WHERE job = $job"), 'storage', 'which is storage');
is_computed('auto', 'foreign keys');
unlike(stop_clients($clients), qr/ERROR|abort/, 'foreign keys: no client has met an error');
check_balances('foreign keys');
is($node->safe_psql('postgres', <<'SQL'), 't|0', 'foreign keys: they are still there and hold');
    SELECT bool_and(convalidated), (SELECT count(*) FROM pgbench_history AS h WHERE NOT EXISTS (SELECT FROM pgbench_accounts AS a WHERE a.aid = h.aid))
    FROM pg_constraint WHERE conrelid = 'pgbench_history'::regclass AND contype = 'f'
SQL
check_clean($node, 'foreign keys');

$node->stop;
done_testing();
