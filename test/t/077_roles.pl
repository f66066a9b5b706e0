# Which role may do what with another's job: a table of roles and functions. Who could not SET ROLE to the owner of a job
# has no say in what its workers run; who could SET ROLE to the owner of its table may see it and put an end to it.
# 1.0 let nobody but members of the job's owner see or cancel it, not even the owner of the table, and from PostgreSQL
# 16 on let those control it who are members WITH SET FALSE.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('roles');
my $version = $node->safe_psql('postgres', q{SELECT current_setting('server_version_num')::int});
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE boss;
    CREATE ROLE of_the_boss LOGIN IN ROLE boss;
    CREATE ROLE heir_of_nothing LOGIN NOINHERIT IN ROLE boss;
    CREATE ROLE starter LOGIN IN ROLE boss;
    CREATE ROLE of_the_starter LOGIN IN ROLE starter;
    CREATE ROLE stranger LOGIN;
    CREATE ROLE root LOGIN SUPERUSER;
    CREATE SCHEMA s AUTHORIZATION boss;
    CREATE TABLE s.t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE s.t_1 PARTITION OF s.t FOR VALUES FROM (0) TO (100);
    CREATE TABLE s.t_2 PARTITION OF s.t FOR VALUES FROM (100) TO (200);
    INSERT INTO s.t SELECT g, 'old' FROM generate_series(0, 199) AS g;
    ALTER TABLE s.t OWNER TO boss;
    ALTER TABLE s.t_1 OWNER TO boss;
    ALTER TABLE s.t_2 OWNER TO boss;
    CREATE FUNCTION cancel_for_others(job bigint) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT backfill_cancel(job)';
    ALTER FUNCTION cancel_for_others OWNER TO of_the_boss;
SQL
if ($version >= 160000) {
    $node->safe_psql('postgres', <<'SQL');
        CREATE ROLE no_inherit LOGIN; CREATE ROLE no_set LOGIN; CREATE ROLE neither LOGIN;
        GRANT boss TO no_inherit WITH INHERIT FALSE, SET TRUE;
        GRANT boss TO no_set WITH INHERIT TRUE, SET FALSE;
        GRANT boss TO neither WITH INHERIT FALSE, SET FALSE;
        CREATE ROLE starter_no_set LOGIN;
        GRANT starter TO starter_no_set WITH INHERIT TRUE, SET FALSE;
SQL
}

my $job = $node->safe_psql('postgres', q{SET SESSION AUTHORIZATION starter;
    SELECT backfill_start('s.t', $$SELECT k, 'secret of the starter' AS v FROM s.t$$, delay => '1 hour', throttle_query => 'SELECT 1 / 0')});
await($node, "SELECT waiting_on LIKE 'throttle_query failed: division by zero%' FROM backfill_progress WHERE job = $job AND ordinal = 1");

# To what a role comes: see it, end it, run it.
my @roles = (
    [ starter => 'run' ], [ of_the_starter => 'run' ], [ root => 'run' ],
    [ boss => 'end' ], [ of_the_boss => 'end' ], [ heir_of_nothing => 'end' ],
    [ stranger => 'none' ],
    $version < 160000 ? () : ([ no_inherit => 'end' ], [ no_set => 'none' ], [ neither => 'none' ], [ starter_no_set => 'none' ]),
);
my %functions = (
    "backfill_alter($job, delay => '2 hours')" => 'run',
    "backfill_alter($job, throttle_query => 'SELECT false')" => 'run',
    "backfill_alter($job, allow_shrink => true)" => 'run',
    "backfill_retry($job)" => 'run',
    "backfill_pause($job)" => 'end',
    "backfill_cancel($job)" => 'end',
    "backfill_wait($job, '1 ms')" => 'end',
);
my %level = (none => 0, end => 1, run => 2);

# Each in a transaction that is rolled back; by SET SESSION AUTHORIZATION, and by SET ROLE from a superuser's session.
for my $role (@roles) {
    my ($name, $may) = @$role;
    for my $set ("SET SESSION AUTHORIZATION $name", "SET ROLE $name") {
        next if $name eq 'boss' && $set =~ /SESSION/ && $version < 160000 && 0;
        for my $function (sort keys %functions) {
            my ($code, $message) = error_of($node, "$set; BEGIN; SELECT $function; ROLLBACK");
            my $ok = $level{$may} >= $level{ $functions{$function} };
            is($code, $ok ? 'none' : '42501', "$set: $function is " . ($ok ? 'done' : 'refused'));
            like($message, qr/permission denied for backfill job $job\nDETAIL:  It belongs to role "starter"/, "$set: $function: it says why") if !$ok;
        }
        my $seen = $level{$may} >= 1 ? 1 : 0;
        my $own = $level{$may} >= 2;
        is($node->safe_psql('postgres', "$set; SELECT count(*), count(source), count(error) FROM backfill_status WHERE job = $job"),
            $seen . '|' . ($own ? 1 : 0) . '|0', "$set: what backfill_status shows");
        is($node->safe_psql('postgres', "$set; SELECT count(*), count(phase) FROM backfill_progress WHERE job = $job"),
            $seen ? '2|1' : '0|0', "$set: what backfill_progress shows");
        is($node->safe_psql('postgres', "$set; SELECT waiting_on FROM backfill_status WHERE job = $job"),
            $own ? 'throttle_query failed: division by zero' : $seen ? 'throttle_query' : '', "$set: what it waits for");
        is($node->safe_psql('postgres', "$set; SELECT count(*) FROM backfill_live()"), $seen, "$set: backfill_live");
    }
}
is(states($node, $job), 'running pending', 'nothing of that has changed the job');

# Paused, it is nobody's to resume but its owner's; without a number others' are passed over.
$node->safe_psql('postgres', "SET ROLE boss; SELECT backfill_pause($job)");
is(wait_job($node, $job), 'paused', 'the owner of the table pauses it');
for my $role (@roles) {
    my ($name, $may) = @$role;
    my ($code) = error_of($node, "SET ROLE $name; BEGIN; SELECT backfill_resume($job); ROLLBACK");
    is($code, $may eq 'run' ? 'none' : '42501', "$name: backfill_resume is " . ($may eq 'run' ? 'done' : 'refused'));
    is($node->safe_psql('postgres', "SET ROLE $name; BEGIN; SELECT backfill_resume(); ROLLBACK"), $may eq 'run' ? 1 : 0, "$name: backfill_resume()");
}
is($node->safe_psql('postgres', "SELECT state FROM backfill_status WHERE job = $job"), 'paused', 'it rests');

# In a function that is SECURITY DEFINER the owner of the function counts; in one that restricts its caller nothing starts.
is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION stranger; SELECT cancel_for_others($job)"), 't', 'a SECURITY DEFINER function cancels as its owner');
is(wait_job($node, $job), 'canceled', 'it is canceled');
check_clean($node, 'canceled by a member of the owner of the table');

# A role of the same name is another role.
$node->safe_psql('postgres', q{DROP OWNED BY starter; DROP ROLE starter; CREATE ROLE starter LOGIN; GRANT boss TO starter});
is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION starter; SELECT owner LIKE 'role %', source IS NULL FROM backfill_status WHERE job = $job"), 't|t',
    'a new role of that name has no more of it than any member of the owner of the table');
$node->safe_psql('postgres', 'REVOKE boss FROM starter');
is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION starter; SELECT count(*) FROM backfill_status"), '0', 'and nothing when it is none');

done_testing();
