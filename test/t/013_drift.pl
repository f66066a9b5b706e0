# Schema drift: somebody changes a partition or its parent after the partition was built. The swap notices, the partition
# is built again as it is by then, and pg_dump writes the same before and after. One that is not the job's any more is
# skipped, and the reason says so.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('drift', settings => ['allow_in_place_tablespaces = on']);
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE another;
    CREATE SCHEMA elsewhere;
    CREATE TABLESPACE space LOCATION '';
    CREATE PUBLICATION p;
    CREATE TABLE referred (k int PRIMARY KEY);
    INSERT INTO referred SELECT generate_series(0, 19);
    CREATE VIEW job_rows AS -- of every table that a job was for, whatever it is called by now
        SELECT j.job, query_to_xml(format('SELECT count(*), sum(hashtext(t::text)) FROM %s AS t', c.oid::regclass), true, false, '')::text AS text
        FROM backfill_job AS j JOIN pg_class AS c ON c.oid = j.target_oid;
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
SQL

# $t is the parent, ${t}_1 the partition. What the swap need not notice is marked with a rebuild less.
my @changes = (
    # columns
    'ALTER TABLE $t ADD more int DEFAULT 7',
    'ALTER TABLE $t DROP n',
    'ALTER TABLE $t ALTER v TYPE varchar(50)',
    'ALTER TABLE $t RENAME n TO m',
    'ALTER TABLE $t ALTER v SET NOT NULL',
    'ALTER TABLE ${t}_1 ALTER v SET NOT NULL',
    q{ALTER TABLE ${t}_1 ALTER v SET DEFAULT 'none'},
    'ALTER TABLE ${t}_1 ALTER v SET STORAGE EXTERNAL',
    'ALTER TABLE ${t}_1 ALTER v SET COMPRESSION pglz',
    'ALTER TABLE ${t}_1 ALTER v SET STATISTICS 77',
    'ALTER TABLE ${t}_1 ALTER v SET (n_distinct = 5)',
    q{COMMENT ON COLUMN ${t}_1.v IS 'changed'},
    # indexes
    'CREATE INDEX ${t}_new ON ${t}_1 (n)',
    'CREATE INDEX CONCURRENTLY ${t}_new ON ${t}_1 (n)',
    'CREATE INDEX ${t}_new ON $t (n)',
    'DROP INDEX ${t}_1_own',
    'DROP INDEX ${t}_v',
    'ALTER INDEX ${t}_1_own RENAME TO ${t}_renamed',
    'ALTER INDEX ${t}_1_own SET (fillfactor = 55)',
    'ALTER INDEX ${t}_1_own ALTER COLUMN 1 SET STATISTICS 55',
    'ALTER INDEX ${t}_1_own SET TABLESPACE space',
    q{COMMENT ON INDEX ${t}_1_own IS 'changed'},
    'REINDEX TABLE ${t}_1', 0,
    'CLUSTER ${t}_1 USING ${t}_1_own',
    'ALTER TABLE ${t}_1 CLUSTER ON ${t}_1_own',
    # privileges
    'GRANT SELECT ON ${t}_1 TO another',
    'GRANT UPDATE (v) ON ${t}_1 TO another',
    'REVOKE SELECT ON ${t}_1 FROM PUBLIC',
    'GRANT SELECT ON $t TO another', 0,
    'ALTER TABLE ${t}_1 OWNER TO another',
    'ALTER TABLE $t OWNER TO another', 0,
    # policies
    'CREATE POLICY changed ON ${t}_1 USING (k > 0)',
    'ALTER POLICY own ON ${t}_1 USING (k > 5)',
    'DROP POLICY own ON ${t}_1',
    q{COMMENT ON POLICY own ON ${t}_1 IS 'changed'},
    'ALTER TABLE ${t}_1 ENABLE ROW LEVEL SECURITY',
    'ALTER TABLE ${t}_1 FORCE ROW LEVEL SECURITY',
    # constraints
    'ALTER TABLE ${t}_1 ADD CONSTRAINT changed CHECK (n < 100)',
    'ALTER TABLE $t ADD CONSTRAINT changed CHECK (n < 100)',
    'ALTER TABLE ${t}_1 ADD CONSTRAINT changed CHECK (n < 5) NOT VALID',
    'ALTER TABLE ${t}_1 VALIDATE CONSTRAINT hope',
    'ALTER TABLE ${t}_1 DROP CONSTRAINT own',
    'ALTER TABLE ${t}_1 RENAME CONSTRAINT own TO changed',
    q{COMMENT ON CONSTRAINT own ON ${t}_1 IS 'changed'},
    'ALTER TABLE ${t}_1 ADD CONSTRAINT ${t}_unique UNIQUE (n)',
    'ALTER TABLE $t ADD PRIMARY KEY (k)',
    'ALTER TABLE ${t}_1 ADD FOREIGN KEY (k) REFERENCES referred',
    'ALTER TABLE $t ADD FOREIGN KEY (k) REFERENCES referred',
    'CREATE TABLE ${t}_child (k int REFERENCES ${t}_1 (k))',
    # triggers
    'CREATE TRIGGER changed BEFORE INSERT ON ${t}_1 FOR EACH ROW EXECUTE FUNCTION fire()',
    'CREATE TRIGGER changed BEFORE INSERT ON $t FOR EACH ROW EXECUTE FUNCTION fire()',
    'ALTER TABLE ${t}_1 DISABLE TRIGGER own',
    'ALTER TABLE ${t}_1 ENABLE ALWAYS TRIGGER of_parent',
    'ALTER TABLE $t DISABLE TRIGGER of_parent',
    'DROP TRIGGER own ON ${t}_1',
    'DROP TRIGGER of_parent ON $t',
    q{COMMENT ON TRIGGER own ON ${t}_1 IS 'changed'},
    # statistics
    'CREATE STATISTICS ${t}_new ON k, n FROM ${t}_1',
    'ALTER STATISTICS ${t}_1_own SET STATISTICS 33',
    'ALTER STATISTICS ${t}_1_own RENAME TO ${t}_renamed',
    'ALTER STATISTICS ${t}_1_own OWNER TO another',
    'DROP STATISTICS ${t}_1_own',
    q{COMMENT ON STATISTICS ${t}_1_own IS 'changed'},
    # users
    'CREATE RULE changed AS ON INSERT TO ${t}_1 DO ALSO NOTHING',
    'CREATE VIEW ${t}_view AS SELECT k FROM ${t}_1',
    q{CREATE FUNCTION ${t}_f(${t}_1) RETURNS int LANGUAGE sql AS 'SELECT 1'},
    q{CREATE FUNCTION ${t}_f(${t}_1[]) RETURNS int LANGUAGE sql AS 'SELECT 1'},
    'ALTER TRIGGER own ON ${t}_1 DEPENDS ON EXTENSION plpgsql',
    # the rest
    q{COMMENT ON TYPE ${t}_1 IS 'changed'},
    'REVOKE ALL ON TYPE ${t}_1 FROM PUBLIC',
    q{SET allow_system_table_mods = on; INSERT INTO pg_seclabel VALUES ('${t}_1'::regclass, 'pg_class'::regclass, 0, 'nobody', 'changed')},
    q{SET allow_system_table_mods = on; INSERT INTO pg_seclabel VALUES ((SELECT reltype FROM pg_class WHERE relname = '${t}_1' AND relispartition), 'pg_type'::regclass, 0, 'nobody', 'changed')},
    q{COMMENT ON TABLE ${t}_1 IS 'changed'},
    'ALTER TABLE ${t}_1 SET (fillfactor = 66)',
    'ALTER TABLE ${t}_1 SET (toast.autovacuum_enabled = off)',
    'ALTER TABLE ${t}_1 SET TABLESPACE space',
    'ALTER TABLE ${t}_1 SET UNLOGGED',
    'ALTER TABLE ${t}_1 REPLICA IDENTITY FULL',
    'ALTER TABLE ${t}_1 REPLICA IDENTITY USING INDEX ${t}_1_k_key',
    'ALTER PUBLICATION p ADD TABLE ${t}_1',
    'ALTER PUBLICATION p ADD TABLE $t', 0,
    'ALTER TABLE ${t}_1 RENAME TO ${t}_renamed',
    'ALTER TABLE $t RENAME TO ${t}_renamed', 0,
    'ALTER TABLE ${t}_1 SET SCHEMA elsewhere',
    'CREATE TABLE ${t}_3 PARTITION OF $t FOR VALUES FROM (20) TO (30)', 0,
    'CREATE TABLE ${t}_3 PARTITION OF $t DEFAULT', 0,
    'ANALYZE $t', 0,
    'VACUUM ${t}_1', 0,
    'TRUNCATE ${t}_1',
    'VACUUM FULL ${t}_1', 0,
    'UPDATE ${t}_1 SET n = 0; VACUUM FULL ${t}_1',
    'ALTER TABLE $t ALTER v TYPE text USING upper(v)',
);

push @changes, (
    'GRANT MAINTAIN ON ${t}_1 TO another',
    'ALTER TABLE $t ALTER k ADD GENERATED ALWAYS AS IDENTITY',
    'ALTER TABLE $t SET ACCESS METHOD heap', 0,
) if $node->pg_version->major >= 17;
push @changes, (
    'ALTER TABLE $t ADD more int GENERATED ALWAYS AS (n * 2)', # VIRTUAL
    'ALTER TABLE ${t}_1 ADD CONSTRAINT changed NOT NULL n',
    'ALTER TABLE ${t}_1 ADD CONSTRAINT changed NOT NULL n NO INHERIT',
    'ALTER TABLE ${t}_1 ADD CONSTRAINT changed NOT NULL n NOT VALID',
    'ALTER TABLE $t ADD CONSTRAINT changed NOT NULL n NOT VALID',
    'ALTER TABLE ${t}_1 ADD CONSTRAINT changed CHECK (n < 5) NOT ENFORCED',
    'ALTER TABLE $t ADD CONSTRAINT changed CHECK (n < 5) NOT ENFORCED',
    'ALTER TABLE $t ADD FOREIGN KEY (n) REFERENCES referred NOT ENFORCED',
) if $node->pg_version->major >= 18;

# What changed so that the swap method cannot carry it is refused, as at the door.
my %refused = (attach => qr/REFERENCES (?!referred)|RULE|VIEW|FUNCTION \$|pg_seclabel|EXTENSION/, storage => qr/^$/);
# The partition has a UNIQUE constraint that becomes its part of the key, and that ATTACH would not take for it.
$refused{attach} = qr/$refused{attach}|ADD PRIMARY KEY/ if $node->pg_version->major >= 17;
# The partition is not the one that the job began with.
my @gone = (
    'ALTER TABLE $t DETACH PARTITION ${t}_1',
    'DROP TABLE ${t}_1',
    'DROP TABLE $t',
    'ALTER TABLE $t DETACH PARTITION ${t}_1; ALTER TABLE $t ATTACH PARTITION ${t}_1 FOR VALUES FROM (-1) TO (10)',
    'ALTER TABLE $t DETACH PARTITION ${t}_1; CREATE TABLE ${t}_new PARTITION OF $t FOR VALUES FROM (0) TO (10)',
);

sub dump_schema {
    my ($dump, $errors) = run_command([ 'pg_dump', '--schema-only', '--exclude-schema', 'backfill_*', '--dbname', $node->connstr('postgres') ]);
    die $errors if $errors;
    # The job's guard, which pg_dump does not write, is all that is its own here.
    return join "\n", grep { !/^\\(un)?restrict / } split /\n/, $dump;
}

sub set_fault {
    my ($fault) = @_;
    $node->safe_psql('postgres', "LOAD 'partbackfill'; ALTER SYSTEM SET partbackfill.injection_point = '$fault'");
    $node->reload;
    return;
}

# Runs each change on a table of its own, while its partition is built and not yet swapped.
my $tables = 0;
sub drift {
    my ($method, @cases) = @_;
    my $made = '';
    for my $case (@cases) {
        my $t = 't' . ++$tables;
        $case->{change} =~ s/\$(?:t\b|\{t\})/$t/g;
        $made .= <<"SQL";
            CREATE TABLE $t (k int NOT NULL, v text, n int) PARTITION BY RANGE (k);
            CREATE TABLE ${t}_1 PARTITION OF $t FOR VALUES FROM (0) TO (10);
            CREATE TABLE ${t}_2 PARTITION OF $t FOR VALUES FROM (10) TO (20);
            CREATE INDEX ${t}_v ON $t (v);
            CREATE INDEX ${t}_1_own ON ${t}_1 (lower(v));
            CREATE POLICY own ON ${t}_1 USING (k > 1);
            CREATE TRIGGER of_parent BEFORE UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION fire();
            CREATE TRIGGER own BEFORE UPDATE ON ${t}_1 FOR EACH ROW EXECUTE FUNCTION fire();
            CREATE STATISTICS ${t}_1_own ON v, n FROM ${t}_1;
            ALTER TABLE ${t}_1 ADD CONSTRAINT own CHECK (n >= 0), ADD CONSTRAINT hope CHECK (n < 1000) NOT VALID;
            ALTER TABLE ${t}_1 ADD UNIQUE (k);
            INSERT INTO $t SELECT g, 'row ' || g, g FROM generate_series(0, 19) AS g;
            ANALYZE $t;
            SELECT backfill_start('$t', '$t', partitions => '{${t}_1}', swap => '$method', keep_old => false, max_attempts => 1);
SQL
    }
    my @jobs = split /\n/, $node->safe_psql('postgres', $made);
    $_->{job} = shift @jobs for @cases;
    my $jobs = join ', ', map { $_->{job} } @cases;
    await($node, "SELECT count(*) FILTER (WHERE state = 'ready') = count(*) FROM backfill_progress WHERE job IN ($jobs)");
    $node->safe_psql('postgres', join ";\n", 'SET client_min_messages = error', map { $_->{change} } @cases);
    my $dump = dump_schema();
    my $rows = $node->safe_psql('postgres', 'SELECT * FROM job_rows ORDER BY job');
    set_fault('');
    $node->safe_psql('postgres', "SELECT backfill_wait(job, '180 s') FROM unnest(ARRAY[$jobs]) AS job");
    set_fault('ready stop');
    same_text(dump_schema(), $dump, "$method: pg_dump writes the same");
    is($node->safe_psql('postgres', 'SELECT * FROM job_rows ORDER BY job'), $rows, "$method: the rows are the same");
    for my $case (@cases) {
        my ($state, $rebuilds, $error) = split /\|/,
            $node->safe_psql('postgres', "SELECT state, rebuilds, error FROM backfill_progress WHERE job = $case->{job}"), 3;
        is("$state $rebuilds", $case->{expected}, "$method: $case->{change}") or diag($error);
        like($error, $case->{reason}, "$method: $case->{change}: the reason") if $case->{reason};
    }
    $node->safe_psql('postgres', "SELECT backfill_cancel(job) FROM backfill_status WHERE state = 'failed';"
            . " SELECT backfill_wait(job, '180 s') FROM backfill_status");
    check_clean($node, $method);
    return;
}

set_fault('ready stop');
for my $method ('attach', 'storage') {
    my @cases;
    for my $change (@changes) {
        if ($change eq '0') {
            $cases[-1]{expected} = 'done 0';
        } elsif ($change =~ $refused{$method}) {
            push @cases, { change => $change, expected => 'failed 1', reason => qr/cannot rebuild partition/ };
        } else {
            push @cases, { change => $change, expected => 'done 1' };
        }
    }
    drift($method, splice(@cases, 0, 25)) while @cases;
    drift($method, map { { change => $_, expected => 'skipped 0', reason => qr/^the partition was dropped, detached or given other bounds$/ } } @gone);
}

#
# The source drifts: what was looked at when the job began is looked at again when it is read
#
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE keeper LOGIN;
    CREATE TABLE raw (k int, v text);
    INSERT INTO raw SELECT k, 'new' FROM generate_series(0, 19) AS k;
    CREATE VIEW shown AS SELECT k, v FROM raw;
    GRANT SELECT ON raw, shown TO keeper;
    CREATE TABLE kept (k int, v text) PARTITION BY RANGE (k);
    CREATE TABLE kept_1 PARTITION OF kept FOR VALUES FROM (0) TO (10);
    CREATE TABLE kept_2 PARTITION OF kept FOR VALUES FROM (10) TO (20);
    INSERT INTO kept SELECT k, 'old' FROM generate_series(0, 19) AS k;
    ALTER TABLE kept OWNER TO keeper;
    ALTER TABLE kept_1 OWNER TO keeper;
    ALTER TABLE kept_2 OWNER TO keeper;
    GRANT CREATE ON SCHEMA public TO keeper;
SQL
for my $case (
    [ 'a policy that hides rows', 'raw', 'ALTER TABLE raw ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON raw USING (k % 2 = 0)',
        qr/^42501 query would be affected by row-level security policy for table "raw"/, 'ALTER TABLE raw DISABLE ROW LEVEL SECURITY' ],
    [ 'a key of another type', 'SELECT * FROM shown', 'DROP VIEW shown; CREATE VIEW shown AS SELECT k + 0.6 AS k, v FROM raw; GRANT SELECT ON shown TO keeper',
        qr/^42804 .*column "k"/ ],
    [ 'a column less', 'SELECT * FROM shown', 'DROP VIEW shown; CREATE VIEW shown AS SELECT k FROM raw; GRANT SELECT ON shown TO keeper',
        qr/^42703 .*\bv\b/ ])
{
    my ($title, $source, $change, $reason, $undo) = @$case;
    set_fault('claimed stop');
    my $job = start_job($node, "'kept', '$source', max_attempts => 1, delay => '0'", 'SET SESSION AUTHORIZATION keeper');
    await_worker($node, $job, q{query LIKE '%injection point claimed%'});
    $node->safe_psql('postgres', $change);
    set_fault('');
    is(wait_job($node, $job), 'failed', "the source: $title");
    like($node->safe_psql('postgres', "SELECT sqlstate || ' ' || error FROM backfill_progress WHERE job = $job AND ordinal = 1"), $reason,
        "the source: $title: the reason");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM kept WHERE v = 'old'}), '20', "the source: $title: nothing is lost");
    $node->safe_psql('postgres', ($undo // 'DROP VIEW shown; CREATE VIEW shown AS SELECT k, v FROM raw; GRANT SELECT ON shown TO keeper')
            . "; SELECT backfill_cancel($job)");
    wait_job($node, $job);
    check_clean($node, "the source: $title");
}

$node->stop;
done_testing();
