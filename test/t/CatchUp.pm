# What the scripts about on_write => 'catch_up' have in common: points at which a worker stops, and figures of a partition.
package CatchUp;

use strict;
use warnings;

use Exporter 'import';

use Backfill;
use Test::More;

our @EXPORT = qw(set_point clear_point await_point figures same_rows keys_behind);

# set_point($node, 'catching_up/1 stop'): for all workers, those that stand at another point too.
sub set_point {
    my ($node, $fault) = @_;
    $node->safe_psql('postgres', "LOAD 'partbackfill'; ALTER SYSTEM SET partbackfill.injection_point = '$fault'");
    $node->safe_psql('postgres', 'SELECT pg_reload_conf()');
    await($node, "SELECT current_setting('partbackfill.injection_point') = '$fault'");
    return;
}

sub clear_point {
    my ($node) = @_;
    set_point($node, '');
    return;
}

# The process that stands there.
sub await_point {
    my ($node, $job, $point) = @_;
    return Backfill::await_worker($node, $job, "query LIKE '%waiting on injection point $point'");
}

# 'state attempts rebuilds' of each partition, in their order.
sub figures {
    my ($node, $job) = @_;
    return $node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', state, attempts, rebuilds), ', ' ORDER BY ordinal)"
            . " FROM backfill_progress WHERE job = $job");
}

# same_rows($node, 't', 'SELECT ...', $title): fails with the rows that only one of the two has, one of them twice perhaps.
sub same_rows {
    my ($node, $table, $truth, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($node->safe_psql('postgres', <<"SQL"), '', $title);
        (SELECT 'came: ' || left(x::text, 100) FROM (SELECT * FROM $table EXCEPT ALL ($truth)) AS x LIMIT 10)
        UNION ALL
        (SELECT 'lost: ' || left(x::text, 100) FROM (($truth) EXCEPT ALL SELECT * FROM $table) AS x LIMIT 10)
SQL
}

# Entries of a partition's key log that wait to be worked off.
sub keys_behind {
    my ($node, $job, $leaf) = @_;
    my $oid = $node->safe_psql('postgres', "SELECT '$leaf'::regclass::oid");
    return $node->safe_psql('postgres', "SELECT count(*) FROM backfill_${job}_new.partbackfill_keys_$oid");
}

1;
