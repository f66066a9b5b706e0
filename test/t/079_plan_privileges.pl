# backfill_plan tells bounds, sizes, triggers and policies of a table to who may read it: USAGE on the schema, SELECT or to be its
# owner, of the partitions as of the table. It asks before it takes a lock, again when it has them, and keeps none. 1.0 told
# everybody, waited for a lock on any table that had a number, and kept ACCESS SHARE on the tree to the end of the transaction.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('plan_privileges');
my $holder = session($node);
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE reader LOGIN;
    CREATE ROLE owner LOGIN;
    CREATE ROLE of_the_owner LOGIN NOINHERIT IN ROLE owner;
    CREATE SCHEMA s;
    CREATE SCHEMA s2;
    CREATE TABLE s.t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE s.t_1 PARTITION OF s.t FOR VALUES FROM (0) TO (100);
    CREATE TABLE s2.t_2 PARTITION OF s.t FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (k);
    CREATE TABLE s2.t_2_1 PARTITION OF s2.t_2 FOR VALUES FROM (100) TO (200);
    CREATE TABLE s.plain (k int);
    INSERT INTO s.t SELECT g, 'old' FROM generate_series(0, 199) AS g;
    CREATE TABLE public.source AS SELECT * FROM s.t;
    GRANT SELECT ON public.source TO PUBLIC;
    CREATE FUNCTION plan_in_function(target oid) RETURNS bigint LANGUAGE plpgsql AS $$
    BEGIN
        RETURN (SELECT count(*) FROM backfill_plan(target::regclass, 'public.source'));
    END
    $$;
SQL
my %oid = map { $_ => $node->safe_psql('postgres', "SELECT '$_'::regclass::oid") } ('s.t', 's2.t_2', 's.plain');

my $all = 'GRANT USAGE ON SCHEMA s, s2 TO reader; GRANT SELECT ON s.t, s.t_1, s2.t_2, s2.t_2_1 TO reader';
my @cases = (
    [ 'nothing', '', 'schema s' ],
    [ 'no USAGE', "$all; REVOKE USAGE ON SCHEMA s FROM reader", 'schema s' ],
    [ 'no USAGE on the schema of a partition', "$all; REVOKE USAGE ON SCHEMA s2 FROM reader", 'schema s2' ],
    [ 'no SELECT', "$all; REVOKE SELECT ON s.t FROM reader", 'table t' ],
    [ 'SELECT of a column only', "$all; REVOKE SELECT ON s.t FROM reader; GRANT SELECT (k) ON s.t TO reader", 'table t' ],
    [ 'no SELECT on a partition', "$all; REVOKE SELECT ON s.t_1 FROM reader", 'table t_1' ],
    [ 'no SELECT on a partitioned partition', "$all; REVOKE SELECT ON s2.t_2 FROM reader", 'table t_2' ],
    [ 'no SELECT below it', "$all; REVOKE SELECT ON s2.t_2_1 FROM reader", 'table t_2_1' ],
    [ 'all of it', $all, undef ],
    [ 'SELECT by PUBLIC', 'GRANT USAGE ON SCHEMA s, s2 TO PUBLIC; GRANT SELECT ON s.t, s.t_1, s2.t_2, s2.t_2_1 TO PUBLIC', undef ],
    [ 'pg_read_all_data', 'GRANT pg_read_all_data TO reader', undef ],
);
my $reset = 'REVOKE ALL ON SCHEMA s, s2 FROM reader, PUBLIC, owner; REVOKE ALL ON s.t, s.t_1, s2.t_2, s2.t_2_1 FROM reader, PUBLIC;'
    . 'REVOKE ALL (k) ON s.t FROM reader; REVOKE pg_read_all_data FROM reader';

# Under ACCESS EXCLUSIVE of another: to wait for it would be a lock that was asked for.
$holder->query_safe('BEGIN; LOCK TABLE s.t, s2.t_2 IN ACCESS EXCLUSIVE MODE');
for my $case (grep { defined $_->[2] } @cases) {
    my ($title, $grants, $denied) = @$case;
    $holder->query_safe('COMMIT');
    $node->safe_psql('postgres', "$reset; $grants");
    $holder->query_safe('BEGIN; LOCK TABLE s.t, s2.t_2 IN ACCESS EXCLUSIVE MODE');
    for my $arguments ('', q{, 'public.source'}, q{, NULL, '0', '100'}, q{, NULL, 'no number'}, ", NULL, NULL, NULL, '{$oid{'s2.t_2'}}'") {
        my ($code, $message) = error_of($node, "SET SESSION AUTHORIZATION reader; SET statement_timeout = '20s'; SELECT * FROM backfill_plan($oid{'s.t'}::regclass$arguments)");
        is("$code $message" =~ s/\n.*//sr, "42501 permission denied for $denied", "$title$arguments: refused, and not waited");
    }
}
my ($code, $message) = error_of($node, "SET SESSION AUTHORIZATION reader; SELECT * FROM backfill_plan($oid{'s.plain'}::regclass)");
is($code, '42501', 'a table that is none of his is not told of, either');
($code, $message) = error_of($node, "SET SESSION AUTHORIZATION reader; SET statement_timeout = '20s'; SELECT backfill_start($oid{'s.t'}::regclass, 'public.source')");
like("$code $message", qr/^42501 must be owner of table "t"/, 'backfill_start asks before it locks, too');
$holder->query_safe('COMMIT');

# What may be planned, and what is locked after it.
my $locks = q{SELECT string_agg(relation::regclass || ' ' || mode, ', ') FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384};
for my $case (grep { !defined $_->[2] } @cases, [ 'the owner', 'ALTER TABLE s.t OWNER TO owner; ALTER TABLE s.t_1 OWNER TO owner; ALTER TABLE s2.t_2 OWNER TO owner;'
            . 'ALTER TABLE s2.t_2_1 OWNER TO owner; REVOKE ALL ON s.t, s.t_1, s2.t_2, s2.t_2_1 FROM owner; GRANT USAGE ON SCHEMA s, s2 TO owner, of_the_owner' ]) {
    my ($title, $grants) = @$case;
    my @roles = $title eq 'the owner' ? ('owner', 'of_the_owner') : ('reader');
    $node->safe_psql('postgres', "$reset; $grants");
    for my $role (@roles) {
        for my $begin ('BEGIN', 'BEGIN READ ONLY', 'BEGIN ISOLATION LEVEL SERIALIZABLE', 'BEGIN; SAVEPOINT a') {
            is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION $role; $begin; SELECT count(*) FROM backfill_plan($oid{'s.t'}::regclass); $locks"),
                "2\n", "$role, $title, $begin: no lock stays");
        }
    }
}
$node->safe_psql('postgres', 'ALTER TABLE s.t OWNER TO CURRENT_USER');
for my $ways (
    [ "SELECT count(*) FROM backfill_plan($oid{'s.t'}::regclass, 'public.source')", '2' ],
    [ "SELECT plan_in_function($oid{'s.t'})", '2' ],
    [ "DECLARE c CURSOR FOR SELECT action FROM backfill_plan($oid{'s.t'}::regclass, 'public.source'); FETCH c", 'rebuild' ]) {
    my ($query, $rows) = @$ways;
    is($node->safe_psql('postgres', "BEGIN; $query; $locks"), "$rows\n", "no lock stays, on the source neither: $query");
}
is($node->safe_psql('postgres', "BEGIN; LOCK TABLE s.t_1 IN SHARE MODE; SELECT count(*) FROM backfill_plan($oid{'s.t'}::regclass); $locks"),
    "2\ns.t_1 ShareLock", 'what the caller had stays');
($code, $message) = error_of($node, "BEGIN; SAVEPOINT a; SELECT * FROM backfill_plan('s.t', 'SELECT nothing'); ROLLBACK TO a; SELECT 1 FROM backfill_plan('s.t'); COMMIT");
is($code, '42703', 'an error is what it was');

# Who loses his rights while the lock is waited for is refused when it is there.
$node->safe_psql('postgres', "$reset; $all");
$holder->query_safe('BEGIN; LOCK TABLE s.t_1 IN ACCESS EXCLUSIVE MODE');
my $waiter = session($node);
$waiter->query_safe('SET SESSION AUTHORIZATION reader');
$waiter->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM backfill_plan($oid{'s.t'}::regclass);\n");
await($node, q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 's.t_1'::regclass AND NOT granted});
$holder->query_safe('REVOKE SELECT ON s.t_1 FROM reader; COMMIT');
$waiter->query('SELECT 1');
like($waiter->{stderr}, qr/permission denied for table t_1/, 'rights are looked at again under the locks');

$waiter->quit;
$holder->quit;
done_testing();
