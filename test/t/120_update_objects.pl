# ALTER EXTENSION UPDATE makes the same objects as CREATE EXTENSION, but for the order of the control tables' columns; and
# until it has run, the library leaves the objects of the earlier version alone.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('updated');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "max_worker_processes = 16\nautovacuum = off\nshared_preload_libraries = 'partbackfill'\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
    CREATE DATABASE installed;
    CREATE DATABASE updated;
    CREATE ROLE reader;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO reader;
SQL

sub run {
    my ($database, $sql) = @_;
    return $node->safe_psql($database, $sql);
}

# All that is known of the extension's members and of what belongs to them, a line each.
my $listing = <<'SQL';
    WITH member AS (
        SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'partbackfill'
    ), relation AS (
        SELECT c.* FROM pg_class AS c JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    ), line (text) AS (
        SELECT format('extension version %s config %s comment %s', extversion, extconfig, obj_description(oid, 'pg_extension'))
        FROM pg_extension WHERE extname = 'partbackfill'
        UNION ALL
        SELECT format('member %s', pg_describe_object(m.classid, m.objid, 0)) FROM member AS m
        UNION ALL
        SELECT format('function %s: %s owner %s acl %s comment %s', p.oid::regprocedure,
                      regexp_replace(pg_get_functiondef(p.oid), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', 'UUID'),
                      p.proowner::regrole, p.proacl, obj_description(p.oid, 'pg_proc'))
        FROM pg_proc AS p JOIN member AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        UNION ALL
        SELECT format('relation %s kind %s persistence %s options %s acl %s owner %s security %s/%s identity %s undecoded %s comment %s', c.oid::regclass,
                      c.relkind, c.relpersistence, c.reloptions, c.relacl, c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity,
                      c.relreplident, c.relrewrite = c.oid, obj_description(c.oid, 'pg_class'))
        FROM relation AS c
        UNION ALL
        SELECT format('column %s.%s number %s type %s collation %s not null %s default %s identity %s acl %s options %s comment %s', c.oid::regclass, a.attname,
                      CASE WHEN c.relkind = 'v' THEN a.attnum END, format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation, a.attnotnull,
                      pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attacl, (SELECT array_agg(o) FROM unnest(a.attoptions) AS o WHERE o !~ '^pg_attver='),
                      col_description(c.oid, a.attnum))
        FROM relation AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        UNION ALL
        SELECT format('view %s, line %s: %s', c.oid::regclass, line.number, line.text)
        FROM relation AS c CROSS JOIN regexp_split_to_table(pg_get_viewdef(c.oid), '\n') WITH ORDINALITY AS line (text, number) WHERE c.relkind = 'v'
        UNION ALL
        SELECT format('constraint %s on %s: %s validated %s', k.conname, k.conrelid::regclass, pg_get_constraintdef(k.oid), k.convalidated)
        FROM pg_constraint AS k JOIN relation AS c ON c.oid = k.conrelid
        UNION ALL
        SELECT format('index %s valid %s primary %s', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisprimary)
        FROM pg_index AS i JOIN relation AS c ON c.oid = i.indrelid
        UNION ALL
        SELECT format('trigger %s enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
        FROM pg_trigger AS t JOIN relation AS c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
        UNION ALL
        SELECT format('event trigger %s on %s tags %s function %s enabled %s comment %s', t.evtname, t.evtevent, t.evttags, t.evtfoid::regprocedure,
                      t.evtenabled, obj_description(t.oid, 'pg_event_trigger'))
        FROM pg_event_trigger AS t JOIN member AS m ON m.classid = 'pg_event_trigger'::regclass AND m.objid = t.oid
        UNION ALL
        SELECT format('initial privileges of %s: %s', pg_describe_object(i.classoid, i.objoid, i.objsubid), i.initprivs)
        FROM pg_init_privs AS i JOIN member AS m ON m.classid = i.classoid AND m.objid = i.objoid
    )
    SELECT regexp_replace(text, '[ \n]+', ' ', 'g') FROM line ORDER BY 1
SQL

#
# The same objects
#
for my $title ('public', '"has to be quoted"') {
    for my $database ('installed', 'updated') {
        run($database, "CREATE SCHEMA IF NOT EXISTS $title") if $title ne 'public';
    }
    run('installed', "CREATE EXTENSION partbackfill SCHEMA $title");
    run('updated', "CREATE EXTENSION partbackfill SCHEMA $title VERSION '1.0'; ALTER EXTENSION partbackfill UPDATE");
    my $installed = run('installed', $listing);
    cmp_ok(scalar(() = $installed =~ /^column/mg), '>', 100, "$title: the listing has the columns");
    cmp_ok(scalar(() = $installed =~ /^function/mg), '>', 20, "$title: the listing has the functions");
    same_text(run('updated', $listing), $installed, "$title: an updated installation has the same objects as a new one");
    run($_, 'DROP EXTENSION partbackfill') for 'installed', 'updated';
}

#
# What was decided in the database
#
run('updated', <<'SQL');
    CREATE ROLE starter;
    CREATE EXTENSION partbackfill VERSION '1.0';
    REVOKE ALL ON FUNCTION backfill_start FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION backfill_start TO starter WITH GRANT OPTION;
    GRANT EXECUTE ON FUNCTION backfill_plan TO starter;
    CREATE VIEW mine AS SELECT job, bar FROM backfill_status;
    ALTER EXTENSION partbackfill UPDATE;
SQL
is(run('updated', <<'SQL'), "backfill_alter|t|t|f\nbackfill_start|f|t|t", 'privileges: who may call a function may call the new one');
    SELECT proname, has_function_privilege('reader', oid, 'EXECUTE'), has_function_privilege('starter', oid, 'EXECUTE'),
           has_function_privilege('starter', oid, 'EXECUTE WITH GRANT OPTION')
    FROM pg_proc WHERE proname IN ('backfill_start', 'backfill_alter') ORDER BY 1
SQL
is(run('updated', 'SELECT count(*) FROM mine'), '0', 'views: those on the views stay');
my ($dump) = run_command([ 'pg_dump', '-s', '-h', $node->host, '-p', $node->port, 'updated' ]);
like($dump, qr/REVOKE ALL ON FUNCTION public\.backfill_start\(.*FROM PUBLIC;/, 'privileges: a dump has them');
run('updated', 'DROP VIEW mine; DROP EXTENSION partbackfill');
is(run('updated', 'DROP ROLE starter; SELECT 1'), '1', 'privileges: nothing of them is left');

#
# Before the update
#
run('updated', "CREATE EXTENSION partbackfill VERSION '1.0'");
run('updated', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
SQL
my $why = qr/extension "partbackfill" of database "updated" has version 1\.0, but its library 1\.1/;
my $hint = qr/HINT:  Run ALTER EXTENSION partbackfill UPDATE\./;
for my $call (
    q{SELECT backfill_start('t', 't')},
    q{SELECT backfill_alter(1, workers => 2)},
    q{SELECT backfill_pause(1)},
    q{SELECT backfill_resume()},
    q{SELECT backfill_retry(1)},
    q{SELECT backfill_cancel(1)},
    q{SELECT backfill_wait(1)},
    q{SELECT backfill_purge(1)},
    q{SELECT * FROM backfill_plan('t')},
    q{DROP EXTENSION partbackfill},
    q{INSERT INTO backfill_job SELECT * FROM json_populate_record(NULL::backfill_job, '{"job": 1, "target_oid": 1, "target": "t", "source": "t",
        "reads_target": true, "key_columns": [], "owner": 1, "newest_first": false, "workers": 1, "delay": "0", "nice_ratio": 0, "on_write": "rebuild",
        "max_attempts": 1, "on_error": "stop", "swap": "attach", "keep_old": true, "lock_timeout": "0", "swap_patience": "0", "setting_names": [],
        "setting_values": [], "state": "running", "tidied": false, "started_at": "now", "idle_time": "0"}')})
{
    my ($code, undef, $stderr) = $node->psql('updated', $call, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
    my ($name) = $call =~ /(\w+ \w+)/;
    $name = $1 if $call =~ /(backfill_\w+)/;
    like($stderr, qr/55000: $why.*$hint/s, "before the update: $name says what to do");
}
is(run('updated', 'CREATE SCHEMA other; DROP SCHEMA other; DROP OWNED BY reader; SELECT 1'), '1', 'before the update: other things are dropped as ever');

# The launcher looks at each database once, and at none of the jobs there.
$node->restart;
my $log;
for (1 .. 100 * $PostgreSQL::Test::Utils::timeout_default) {
    $log = slurp_file($node->logfile);
    last if $log =~ /WARNING:  $why/;
    select undef, undef, undef, 0.01;
}
like($log, qr/WARNING:  $why.*$hint/s, 'before the update: the log says what to do');
await($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'partbackfill launcher for%'");
is(() = slurp_file($node->logfile) =~ /WARNING:  $why/g, 1, 'before the update: once');
unlike(slurp_file($node->logfile), qr/of database "postgres"/, 'before the update: not of databases without the extension');

# The update waits for no worker of the earlier version.
run('updated', 'ALTER EXTENSION partbackfill UPDATE');
is(run('updated', q{SELECT count(*) FROM backfill_plan('t')}), '1', 'after the update: the functions work');
is(run('updated', 'SELECT extversion FROM pg_extension WHERE extname = $$partbackfill$$'), '1.1', 'after the update: the version is that of the library');

# A session that has seen the earlier objects sees the new ones.
run('updated', 'DROP EXTENSION partbackfill');
my ($code, $stdout, $stderr) = $node->psql('updated', <<'SQL', on_error_stop => 0);
    CREATE EXTENSION partbackfill VERSION '1.0';
    SELECT 'before', backfill_resume();
    ALTER EXTENSION partbackfill UPDATE;
    SELECT 'updated', backfill_resume();
    BEGIN;
    DROP EXTENSION partbackfill;
    CREATE EXTENSION partbackfill VERSION '1.0';
    SAVEPOINT earlier;
    SELECT 'again', backfill_resume();
    ROLLBACK;
    SELECT 'rolled back', backfill_resume();
SQL
is($stdout, "updated|0\nrolled back|0", 'one session: the functions work when the versions are the same');
is(() = $stderr =~ /$why/g, 2, 'one session: and only then');

$node->stop;
done_testing();
