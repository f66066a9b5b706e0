# A failover while a job is ready, and while old rows are kept: the promoted standby publishes, with what was written before and
# after, and reverts, with what was written since.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Cluster;
use Test::More;

for my $swap (qw(attach storage)) {
    my $primary = new_node("primary_$swap", allows_streaming => 1);
    $primary->safe_psql('postgres', <<'SQL');
        CREATE TABLE t (k int PRIMARY KEY, v text, n int NOT NULL DEFAULT 0) PARTITION BY RANGE (k);
        SELECT format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', i, i * 100, (i + 1) * 100) FROM generate_series(0, 2) AS i
        \gexec
        INSERT INTO t SELECT k, 'old' FROM generate_series(0, 299) AS k;
        CREATE TABLE truth AS SELECT * FROM t;
SQL
    my $job = start_job($primary, "'t', 'SELECT k, ''new'' AS v, n FROM t', publish => 'manual', on_write => 'catch_up', swap => '$swap', delay => '0'");
    is(wait_job($primary, $job), 'ready', "$swap: ready");
    $primary->backup('base');
    my $standby = PostgreSQL::Test::Cluster->new("standby_$swap");
    $standby->init_from_backup($primary, 'base', has_streaming => 1);
    $standby->start;
    my $write = sub {
        my ($node, $n) = @_;
        $node->safe_psql('postgres', "BEGIN; UPDATE $_ SET n = $n WHERE k % 100 = $n; DELETE FROM $_ WHERE k % 100 = 50 + $n; COMMIT") for qw(t truth);
    };
    $write->($primary, 1);
    $primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
    $primary->stop('immediate');
    $standby->promote;
    await($standby, 'SELECT NOT pg_is_in_recovery()');
    $write->($standby, 2);
    is($standby->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"), 'ready', "$swap: ready after the failover");
    is($standby->safe_psql('postgres', "SELECT backfill_publish($job)"), 3, "$swap: published");
    same_rows($standby, 't', q{SELECT k, 'new', n FROM truth}, "$swap: the new rows, and all that was written");
    $write->($standby, 3);
    is($standby->safe_psql('postgres', "SELECT backfill_revert($job)"), 3, "$swap: reverted");
    same_rows($standby, '(SELECT k, n FROM t) AS t', 'SELECT k, n FROM truth', "$swap: what was written is there");
    # What was written before the publication is in the kept rows; what was written since came along as it was.
    is($standby->safe_psql('postgres', q{SELECT string_agg(DISTINCT v, ' ' ORDER BY v) FROM t WHERE n <> 3}), 'old', "$swap: the old rows are back");

    # And with a failover of its own: a crash of the promoted one while old rows are kept.
    $standby->stop('immediate');
    $standby->start;
    $write->($standby, 4);
    is($standby->safe_psql('postgres', "SELECT backfill_revert($job)"), 3, "$swap: reverted again after a crash");
    same_rows($standby, '(SELECT k, n FROM t) AS t', 'SELECT k, n FROM truth', "$swap: no write is lost");
    $standby->safe_psql('postgres', "SELECT backfill_purge($job)");
    is($standby->safe_psql('postgres', "SELECT backfill_wait($job)"), 'done', "$swap: done");
    check_clean($standby, $swap);
    $standby->stop;
}

done_testing();
