# A job whose owner loses his rights on the table while it rests, and is then resumed: each step asks before it locks or
# drops. A former member of the owner's role has no hold on the owner's tables; what 1.0 did is told at each case.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('former_members');
my $holder = session($node);
my $version = $node->safe_psql('postgres', q{SELECT current_setting('server_version_num')::int});
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE boss;
    CREATE ROLE other_boss;
    CREATE ROLE member LOGIN;
    CREATE SCHEMA s AUTHORIZATION boss;
    GRANT ALL ON SCHEMA s TO member, other_boss;
    CREATE TABLE new AS SELECT g AS k, 'new'::text AS v FROM generate_series(100, 399) AS g;
    GRANT SELECT ON new TO PUBLIC;
    CREATE PROCEDURE make_table(name text) LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('DROP TABLE IF EXISTS s.%I', name);
        EXECUTE format('CREATE TABLE s.%I (k int PRIMARY KEY, v text) PARTITION BY RANGE (k)', name);
        FOR n IN 1 .. 3 LOOP
            EXECUTE format('CREATE TABLE s.%I PARTITION OF s.%I FOR VALUES FROM (%s) TO (%s)', name || '_' || n, name,
                           n * 100, (n + 1) * 100);
            EXECUTE format('ALTER TABLE s.%I OWNER TO boss', name || '_' || n);
        END LOOP;
        EXECUTE format('INSERT INTO s.%I SELECT g, %L FROM generate_series(100, 399) AS g', name, 'old');
        EXECUTE format('ALTER TABLE s.%I OWNER TO boss', name);
    END
    $$;

    -- What workers have locked, or want to lock, of the tables but to read them.
    CREATE VIEW strong_locks AS
    SELECT c.relname || ' ' || l.mode AS lock
    FROM pg_locks AS l
    JOIN pg_class AS c ON c.oid = l.relation
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE a.backend_type = 'partbackfill worker' AND c.relnamespace = 's'::regnamespace
      AND l.mode NOT IN ('AccessShareLock', 'RowShareLock');
SQL

sub as_member {
    my ($statements) = @_;
    return "SET SESSION AUTHORIZATION member; $statements";
}

# How the member loses his rights.
my %lost = (
    'membership' => 'REVOKE boss FROM member',
    'owner of the table' => 'ALTER TABLE s.t OWNER TO other_boss; ALTER TABLE s.t_1 OWNER TO other_boss;'
        . 'ALTER TABLE s.t_2 OWNER TO other_boss; ALTER TABLE s.t_3 OWNER TO other_boss',
    'owner of a partition' => 'ALTER TABLE s.t_2 OWNER TO other_boss',
    'inheritance' => $version >= 160000
    ? 'REVOKE boss FROM member; GRANT boss TO member WITH INHERIT FALSE, SET FALSE' : 'REVOKE boss FROM member; GRANT boss TO member; ALTER ROLE member NOINHERIT',
    $version < 160000 ? () : (
        'SET' => 'REVOKE boss FROM member; GRANT boss TO member WITH INHERIT TRUE, SET FALSE',
        'INHERIT' => 'REVOKE boss FROM member; GRANT boss TO member WITH INHERIT FALSE, SET TRUE'),
);

sub prepare {
    $node->safe_psql('postgres', "ALTER ROLE member INHERIT; REVOKE boss FROM member; GRANT boss TO member; CALL make_table('t')");
    return;
}

sub start {
    my ($options) = @_;
    my $job = $node->safe_psql('postgres', as_member("SELECT backfill_start('s.t', 'SELECT k, v FROM public.new', $options)"));
    return $job;
}

for my $swap ('attach', 'storage') {
    for my $on_write ('rebuild', 'block', 'ignore') {
        for my $loss (sort keys %lost) {
            my $title = "$loss lost, $swap, $on_write";
            prepare();
            my $job = start("swap => '$swap', on_write => '$on_write', delay => '1 hour', max_attempts => 1, lock_timeout => '30 s'");
            await_partition($node, $job, 1, "state = 'done'");
            $node->safe_psql('postgres', "SELECT backfill_pause($job)");
            is(wait_job($node, $job), 'paused', "$title: paused");
            $node->safe_psql('postgres', $lost{$loss});

            # The owner writes: a worker that wants more than to read would stand in the queue for up to 30 s, and be seen.
            my $before = fingerprint($node, 's.t_2');
            $holder->query_safe('BEGIN; LOCK TABLE s.t_2 IN ROW EXCLUSIVE MODE');
            $node->safe_psql('postgres', as_member("SELECT backfill_alter($job, delay => '0'); SELECT backfill_resume($job)"));
            # 1.0 stood in the queue for SHARE ROW EXCLUSIVE (rebuild, attach) or EXCLUSIVE (block), with writers behind.
            await($node, "SELECT EXISTS (SELECT FROM strong_locks WHERE lock LIKE 't_2 %')
                              OR (SELECT state = 'failed' FROM backfill_progress WHERE job = $job AND ordinal = 2)");
            is($node->safe_psql('postgres', "SELECT string_agg(lock, ', ') FROM strong_locks WHERE lock LIKE 't_2 %'"), '',
                "$title: no lock is asked for");
            $holder->query_safe('COMMIT');
            my $state = wait_job($node, $job);
            is($state, 'failed', "$title: the job fails");
            like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND ordinal = 2"),
                qr/^must be owner of (table "t"|partition "t_2")/, "$title: it says why");
            is(fingerprint($node, 's.t_2'), $before, "$title: the partition is as it was");
            is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'partbackfill%' AND tgrelid = 's.t_2'::regclass}), '0', "$title: nobody watches it");

            # 1.0 dropped the owner's kept rows.
            my ($code, $message) = error_of($node, as_member("SELECT backfill_purge($job)"));
            my $could_by_hand = $loss eq 'owner of a partition' || $loss eq 'INHERIT' || ($loss eq 'inheritance' && $version < 160000);
            if ($could_by_hand) {
                is($code, 'none', "$title: old rows that could be dropped by hand may be purged");
            } else {
                # With attach the old partition is the boss's still, whoever owns the table.
                my $may = $loss eq 'owner of the table';
                is($code, $may ? 'none' : '42501', "$title: old rows of the boss's " . ($may ? 'may' : 'may not') . ' be purged');
                is($node->safe_psql('postgres', "SELECT to_regclass('backfill_${job}_old.t_1') IS NOT NULL"), 't', "$title: they are there") if !$may;
            }
            $node->safe_psql('postgres', "SELECT backfill_cancel($job)");
            is(wait_job($node, $job), 'canceled', "$title: canceled");
            $node->safe_psql('postgres', "SELECT backfill_purge($job)");
            check_clean($node, $title);
        }
    }
}

$holder->quit;
done_testing();
