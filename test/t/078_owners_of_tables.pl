# The owner of a table and a job that a member of his started there: he sees it, pauses and cancels it, whatever has become
# of the member, and can start his own. On 1.0 he saw nothing, and his own job was refused for one that only a superuser
# could cancel.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('owners_of_tables');
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE boss LOGIN;
    CREATE ROLE group_without_login;
    CREATE SCHEMA s AUTHORIZATION boss;
    CREATE TABLE new AS SELECT g AS k, 'new'::text AS v FROM generate_series(100, 399) AS g;
    GRANT SELECT ON new TO PUBLIC;
    CREATE PROCEDURE make_table(owner text) LANGUAGE plpgsql AS $$
    BEGIN
        DROP TABLE IF EXISTS s.t;
        CREATE TABLE s.t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
        FOR n IN 1 .. 3 LOOP
            EXECUTE format('CREATE TABLE s.t_%1$s PARTITION OF s.t FOR VALUES FROM (%2$s) TO (%3$s)', n, n * 100, (n + 1) * 100);
            EXECUTE format('ALTER TABLE s.t_%1$s OWNER TO %2$I', n, owner);
        END LOOP;
        INSERT INTO s.t SELECT g, 'old' FROM generate_series(100, 399) AS g;
        EXECUTE format('ALTER TABLE s.t OWNER TO %I', owner);
        EXECUTE format('GRANT ALL ON SCHEMA s TO %I', owner);
    END
    $$;
SQL

# What becomes of the member while his job is paused; each leaves rows that are built, and kept old ones.
my %fates = (
    'he stays' => '',
    'membership ends' => 'REVOKE %s FROM member',
    'DROP OWNED' => 'SET SESSION AUTHORIZATION member; DROP OWNED BY member; RESET SESSION AUTHORIZATION',
    'REASSIGN OWNED' => 'REASSIGN OWNED BY member TO boss',
    'NOLOGIN' => 'ALTER ROLE member NOLOGIN',
    'another name' => 'ALTER ROLE member RENAME TO member_once',
    'DROP ROLE' => 'DROP OWNED BY member; DROP ROLE member',
    'DROP ROLE, and a new one' => 'DROP OWNED BY member; DROP ROLE member; CREATE ROLE member LOGIN',
);

for my $owner ('boss', 'group_without_login') {
    for my $swap ('attach', 'storage') {
        for my $fate (sort keys %fates) {
            my $title = "$owner, $swap: $fate";
            $node->safe_psql('postgres', "CREATE ROLE member LOGIN IN ROLE $owner; CALL make_table('$owner')");
            my $job = $node->safe_psql('postgres', 'SET SESSION AUTHORIZATION member;'
                    . "SELECT backfill_start('s.t', 'SELECT k, v FROM public.new', swap => '$swap', delay => '1 hour')");
            await_partition($node, $job, 1, "state = 'done'");

            # The second waits for its swap, built.
            $holder->query_safe('BEGIN; SELECT count(*) FROM s.t');
            $node->safe_psql('postgres', "SELECT backfill_alter($job, delay => '0')");
            await_partition($node, $job, 2, "state = 'ready'");
            is($node->safe_psql('postgres', "SET ROLE $owner; SELECT state, (SELECT string_agg(state, ' ' ORDER BY ordinal) FROM backfill_progress AS p WHERE p.job = j.job)"
                        . " FROM backfill_status AS j WHERE job = $job AND source IS NULL") =~ /^running\|done ready /, 1, "$title: he sees it run");
            is($node->safe_psql('postgres', "SET ROLE $owner; SELECT backfill_pause($job)"), 't', "$title: he pauses it");
            $holder->query_safe('COMMIT');
            is(wait_job($node, $job), 'paused', "$title: it is paused");

            $node->safe_psql('postgres', sprintf($fates{$fate}, $owner)) if $fates{$fate} ne '';
            is($node->safe_psql('postgres', "SET ROLE $owner; SELECT state FROM backfill_status WHERE job = $job"), 'paused', "$title: he sees it rest");
            my ($code, $message) = error_of($node, "SET ROLE $owner; BEGIN; SELECT backfill_start('s.t', 's.t', partitions => '{s.t_3}'); ROLLBACK");
            is($code, '55006', "$title: another job has to wait") if $owner eq 'boss';
            is($node->safe_psql('postgres', "SET ROLE $owner; SELECT backfill_cancel($job)"), 't', "$title: he cancels it");
            is($node->safe_psql('postgres', "SET ROLE $owner; SELECT backfill_wait($job, '180 s')"), 'canceled', "$title: it is canceled");
            is($node->safe_psql('postgres', "SET ROLE $owner; SELECT backfill_purge($job)"), '1', "$title: he drops the old rows");
            check_clean($node, $title);

            # One without LOGIN starts nothing before PostgreSQL 17.
            if ($owner eq 'boss') {
                my $own = $node->safe_psql('postgres', "SET SESSION AUTHORIZATION boss; SELECT backfill_start('s.t', 'SELECT k, v FROM public.new', swap => '$swap', delay => '0', keep_old => false)");
                is(wait_job($node, $own), 'done', "$title: he starts his own");
                is($node->safe_psql('postgres', "SELECT count(*), min(v) FROM s.t"), '300|new', "$title: all rows are new");
                check_clean($node, "$title: his own");
            }
            $node->safe_psql('postgres', "DROP OWNED BY $_; DROP ROLE $_")
                for split /\n/, $node->safe_psql('postgres', q{SELECT rolname FROM pg_roles WHERE rolname LIKE 'member%'});
        }
    }
}

$holder->quit;
done_testing();
