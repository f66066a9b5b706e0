# min_free_disk looks at the volume of WAL too, and the plan tells of logical slots.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('log', allows_streaming => 'logical');
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    INSERT INTO t SELECT generate_series(0, 99);
    SELECT pg_create_logical_replication_slot('decoding', 'test_decoding');
SQL
like($node->safe_psql('postgres', "SELECT unnest(hazards) FROM backfill_plan('t', 't')"),
    qr/^logical replication slot decoding queues the new rows/m, 'the plan tells of a logical slot');
$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('decoding')");

SKIP: {
    my $disk = $ENV{PARTBACKFILL_SMALL_DISK};
    skip 'no small disk: that needs root, who can mount one', 2 unless defined $disk;
    $node->stop;
    my $wal = $node->data_dir . '/pg_wal';
    system_or_bail('mv', $wal, "$disk/pg_wal");
    symlink "$disk/pg_wal", $wal or die "could not link $wal: $!";
    $node->start;
    my $job = start_job($node, q{'t', 't', delay => '0', keep_old => false, min_free_disk => '60MB'});
    await_partition($node, $job, 1, "waiting_on ~ '^free disk [0-9.]+ MB < 60 MB'");
    pass('a volume of WAL without room holds the job');
    $node->safe_psql('postgres', "SELECT backfill_alter($job, min_free_disk => '')");
    is(wait_job($node, $job), 'done', 'and it goes on');
}
$node->stop;
done_testing();
