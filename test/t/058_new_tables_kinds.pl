# Whatever an event trigger does to the table that is built for a partition, as it is made or in the very swap, the
# partition is afterwards defined as before: the change is mended, or that partition fails with an error that names it.
# A partition for each kind of change; pg_dump is the judge, and the catalogs for what it does not tell.
use strict;
use warnings;

use Backfill;
use PostgreSQL::Test::Utils 'run_command';
use Test::More;

my $node = new_node('new_tables_kinds', settings => ['max_locks_per_transaction = 200']);

# [ kind of change (%s is the table), what the error says; undef where the change is mended ]
my @kinds = (
    [ 'ALTER TABLE %s ADD FOREIGN KEY (r) REFERENCES other', qr/FOREIGN KEY|foreign key/ ],
    [ 'ALTER PUBLICATION pub ADD TABLE %s', qr/publication pub\b/ ],
    [ 'CREATE RULE r AS ON DELETE TO %s DO INSTEAD NOTHING', qr/rule r\b/ ],
    [ 'CREATE VIEW seen_%2$s AS SELECT k FROM %1$s', qr/used by .*seen_/ ],
    [ 'CREATE FUNCTION f_%2$s(%1$s) RETURNS int LANGUAGE sql RETURN 1', qr/used by .*f_/ ],
    [ 'CREATE SEQUENCE s_%2$s OWNED BY %1$s.k', qr/used by .*s_|same schema/ ],
    [ q{COMMENT ON COLUMN %s.v IS 'more'}, qr/column v .*comment 'more'/ ],
    [ q{COMMENT ON TYPE %s IS 'more'}, qr/its row type .*comment 'more'/ ],
    [ 'GRANT USAGE ON TYPE %s TO reader', undef, qr/its row type has privileges/ ],
    [ 'GRANT DELETE ON %s TO reader', undef, qr/privilege/ ],
    [ 'GRANT UPDATE (v) ON %s TO reader', undef, qr/column v .*privileges/ ],
    [ 'REVOKE ALL ON %s FROM reader', undef, qr/privilege/ ],
    [ 'ALTER TABLE %s OWNER TO other_owner', undef, qr/owner/ ],
    [ 'ALTER TABLE %s ALTER r DROP NOT NULL', qr/column "?r"? .*NOT NULL/ ],
    [ 'ALTER TABLE %s ALTER v SET NOT NULL', qr/column v .* NOT NULL/ ],
    [ 'ALTER TABLE %s ALTER v SET STORAGE EXTERNAL', qr/column v .*storage/ ],
    [ 'ALTER TABLE %s ALTER v SET COMPRESSION pglz', qr/column v .*compression/ ],
    [ 'ALTER TABLE %s ALTER v SET STATISTICS 7', qr/column v .*statistics 7/ ],
    [ 'ALTER TABLE %s ALTER v SET (n_distinct = 5)', qr/column v .*n_distinct=5/ ],
    [ 'ALTER TABLE %s ALTER g DROP EXPRESSION', qr/column g has expression|column "g" .* must be/ ],
    [ 'ALTER TABLE %s ALTER k ADD GENERATED ALWAYS AS IDENTITY', qr/identity|used by/ ],
    [ 'ALTER TABLE %s ADD more int', qr/column more|more/ ],
    [ 'ALTER TABLE %s DROP r, ADD r int NOT NULL DEFAULT 1', qr/column r/ ],
    [ 'ALTER TABLE %1$s ADD moved text; ALTER TABLE %1$s DROP v; ALTER TABLE %1$s RENAME moved TO v', qr/column v|column g/ ],
    [ 'ALTER TABLE %s SET TABLESPACE space', qr/tablespace/ ],
    [ 'ALTER TABLE %s SET UNLOGGED', qr/persistence/ ],
    [ 'ALTER TABLE %s SET ACCESS METHOD heap2', qr/access method/ ],
    [ 'ALTER TABLE %s SET (fillfactor = 50)', qr/option fillfactor=50/ ],
    [ 'ALTER TABLE %s SET (toast.autovacuum_enabled = off)', qr/option toast.autovacuum_enabled=off/ ],
    [ 'CREATE STATISTICS st_more ON k, r FROM %s', qr/statistics object st_more/ ],
    [ 'CREATE TRIGGER more BEFORE DELETE ON %s FOR EACH ROW EXECUTE FUNCTION nothing()', qr/trigger .*more/ ],
    [ 'CREATE CONSTRAINT TRIGGER more AFTER DELETE ON %s FOR EACH ROW EXECUTE FUNCTION nothing()', qr/trigger .*more/ ],
    [ 'CREATE POLICY more ON %s USING (false)', qr/policy more/ ],
    [ 'ALTER TABLE %s ENABLE ROW LEVEL SECURITY', qr/row security is enabled/ ],
    [ 'ALTER TABLE %s FORCE ROW LEVEL SECURITY', qr/row security is forced/ ],
    [ 'ALTER TABLE %s ADD UNIQUE (r, k)', qr/UNIQUE/ ],
    [ 'CREATE INDEX ON %s (r)', qr/index/ ],
    [ 'ALTER EXTENSION plpgsql ADD TABLE %s', qr/extension/ ],
    [ 'ALTER TABLE %s INHERIT parent', qr/inherit/i ],
    [ 'ALTER TABLE %s OF row_of_t', qr/typed|composite/ ],
    [ 'ALTER TABLE %s REPLICA IDENTITY NOTHING', qr/replica identity/ ],
    [ 'ALTER TABLE %s DROP CONSTRAINT positive', qr/constraint "?positive/ ],
    [ q{COMMENT ON CONSTRAINT positive ON %s IS 'more'}, qr/constraint positive.*comment 'more'/ ]);

# What there is to change only once the table is finished: done in the swap, as it goes to its schema.
my @late = (
    [ q{COMMENT ON POLICY mine ON %s IS 'more'}, qr/policy mine.*more/ ],
    [ 'ALTER POLICY mine ON %s TO reader', qr/policy mine.*reader/ ],
    [ q{COMMENT ON TRIGGER own ON %s IS 'more'}, qr/trigger .*own .*more/ ],
    [ 'ALTER TABLE %s DISABLE TRIGGER own', qr/trigger .*own/ ],
    [ 'CREATE OR REPLACE TRIGGER own BEFORE UPDATE ON %s FOR EACH ROW WHEN (old.k > 5) EXECUTE FUNCTION nothing()', qr/trigger .*own/ ],
    [ q{CREATE OR REPLACE TRIGGER own BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION nothing('x')}, qr/trigger .*own/ ],
    [ 'ALTER TRIGGER own ON %s DEPENDS ON EXTENSION plpgsql', qr/trigger own.*extension/ ],
    [ 'ALTER INDEX %s_i DEPENDS ON EXTENSION plpgsql', qr/index .*extension/ ],
    [ 'ALTER INDEX %s_i SET TABLESPACE space', qr/index .*tablespace/ ],
    [ 'ALTER INDEX %s_i SET (fillfactor = 50)', qr/index .*fillfactor/ ],
    [ 'ALTER INDEX %s_x ALTER COLUMN 1 SET STATISTICS 9', qr/index .*statistics/ ],
    [ 'ALTER INDEX %s_i RENAME TO %2$s_j', qr/index .*_j/ ],
    [ q{COMMENT ON INDEX %s_i IS 'more'}, qr/index .*more/ ],
    [ 'DROP INDEX %s_i', qr/index/ ],
    [ 'ALTER TABLE %s CLUSTER ON %2$s_i', qr/CLUSTER/ ],
    [ 'ALTER TABLE %s REPLICA IDENTITY USING INDEX %2$s_pkey', qr/replica identity/ ],
    [ 'ALTER STATISTICS new_%s SET STATISTICS 9', qr/statistics object st_.* target 9/ ],
    [ q{COMMENT ON STATISTICS new_%s IS 'more'}, qr/statistics object st_.*more/ ],
    [ 'ALTER STATISTICS new_%s OWNER TO other_owner', qr/statistics object st_.*other_owner|do not own/ ],
    [ 'ALTER TABLE %s RENAME CONSTRAINT positive TO negative', qr/constraint "positive"|constraint negative/ ],
    [ 'ALTER TABLE %s VALIDATE CONSTRAINT later', qr/constraint later/ ]);

my @attach = ((map { [ 'made', @$_ ] } @kinds), (map { [ 'moved', $_->[0], $_->[2] // $_->[1] ] } @kinds), (map { [ 'moved', @$_ ] } @late));
my $n = @attach;

$node->safe_psql('postgres', <<"SQL");
    CREATE ROLE reader;
    CREATE ROLE other_owner;
    GRANT CREATE ON SCHEMA public TO other_owner;
    SET allow_in_place_tablespaces = on;
    CREATE TABLESPACE space LOCATION '';
    CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
    CREATE PUBLICATION pub;
    CREATE TABLE other (r int PRIMARY KEY);
    INSERT INTO other VALUES (1);
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RETURN new; END \$\$;
    CREATE TABLE t (k int NOT NULL, v text, r int NOT NULL DEFAULT 1, g int GENERATED ALWAYS AS (r + 1) STORED,
                    CONSTRAINT positive CHECK (r > 0)) PARTITION BY RANGE (k);
    CREATE TYPE row_of_t AS (k int, v text, r int, g int);
    CREATE TABLE parent (k int NOT NULL);
    CREATE TRIGGER cloned AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing();
    CREATE TABLE change (partition text, event text, statement text);
    CREATE FUNCTION make_partition(i int) RETURNS void LANGUAGE plpgsql AS \$f\$
    BEGIN
        EXECUTE format(\$\$
            CREATE TABLE t_%1\$s PARTITION OF t FOR VALUES FROM (%1\$s) TO (%1\$s + 1);
            ALTER TABLE t_%1\$s ADD PRIMARY KEY (k), ADD CONSTRAINT later CHECK (k < 100000) NOT VALID;
            CREATE INDEX t_%1\$s_i ON t_%1\$s (v);
            CREATE INDEX t_%1\$s_x ON t_%1\$s (upper(v));
            CREATE STATISTICS st_%1\$s ON k, v FROM t_%1\$s;
            CREATE POLICY mine ON t_%1\$s USING (k > 0);
            CREATE TRIGGER own BEFORE UPDATE ON t_%1\$s FOR EACH ROW EXECUTE FUNCTION nothing();
            GRANT SELECT ON t_%1\$s TO reader;
            GRANT SELECT (k) ON t_%1\$s TO other_owner;
            INSERT INTO t (k, v) VALUES (%1\$s, 'x');\$\$, i);
    END
    \$f\$;
    SELECT make_partition(i) FROM generate_series(0, $n - 1) AS i;
    -- Two events: the table is made; it comes to its schema.
    CREATE FUNCTION alter_table() RETURNS event_trigger LANGUAGE plpgsql SET search_path = public AS \$\$
    DECLARE
        made record;
        change text;
        part text;
        number oid;
    BEGIN
        IF current_setting('my.busy', true) = 'yes' THEN
            RETURN;
        END IF;
        PERFORM set_config('my.busy', 'yes', true);
        FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
            number := CASE WHEN made.object_type = 'statistics object' THEN (SELECT stxrelid FROM pg_statistic_ext WHERE oid = made.objid) ELSE made.objid END;
            FOR change, part IN
                SELECT c.statement, c.partition FROM public.change AS c JOIN pg_class AS t ON t.relname = c.partition
                WHERE t.oid = number AND NOT t.relispartition
                  AND CASE c.event WHEN 'made' THEN made.command_tag = 'CREATE TABLE'
                                   WHEN 'built' THEN made.command_tag = 'CREATE STATISTICS'
                                   WHEN 'keyed' THEN made.command_tag = 'ALTER TABLE' AND t.relnamespace <> 'public'::regnamespace
                                       AND EXISTS (SELECT FROM pg_constraint WHERE conrelid = t.oid AND contype = 'f' AND NOT convalidated)
                                   ELSE made.command_tag = 'ALTER TABLE' AND t.relnamespace = 'public'::regnamespace END LOOP
                EXECUTE format(replace(change, 'new_%s', (SELECT coalesce(min(q), '') FROM (SELECT format('%s.st_%s', s.stxnamespace::regnamespace, replace(part, 't_', '')) FROM pg_statistic_ext AS s WHERE s.stxrelid = number) AS o (q))), number::regclass, part);
            END LOOP;
        END LOOP;
        PERFORM set_config('my.busy', '', true);
    END
    \$\$;
SQL

sub dump_of {
    my ($out) = run_command([ 'pg_dump', '--schema-only', '--dbname', $node->connstr('postgres') ]);
    $out =~ s/^\\(un)?restrict .*\n//mg;
    # and what pg_dump says for whole extensions, or not at all
    return $out . $node->safe_psql('postgres', <<'SQL');
        SELECT format('%s of %s depends on %s', pg_describe_object(classid, objid, 0), deptype, pg_describe_object(refclassid, refobjid, 0))
        FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype IN ('e', 'x')
        UNION ALL
        SELECT format('%s in %s', c.relname, c.reltablespace) FROM pg_class AS c WHERE c.relname LIKE 't\_%'
        UNION ALL
        SELECT format('%s %s %s', c.relname, a.attname, a.attnum) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relname LIKE 't\_%' AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'
        UNION ALL
        SELECT format('%s has %s', c.relname, count(*)) FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.refobjid
        WHERE c.relname LIKE 't\_%' AND d.refclassid = 'pg_class'::regclass AND d.deptype NOT IN ('a', 'i') GROUP BY c.relname
        ORDER BY 1
SQL
}

# Rebuilds every partition by the method, with the changes of these cases: [ event, statement, reason or undef ].
sub check_cases {
    my ($method, $source, @cases) = @_;
    $node->safe_psql('postgres', join ';', 'TRUNCATE change', map { "INSERT INTO change VALUES ('t_$_', '$cases[$_][0]', \$x\$$cases[$_][1]\$x\$)" } 0 .. $#cases);
    my $before = dump_of();
    $node->safe_psql('postgres', 'CREATE EVENT TRIGGER every_table ON ddl_command_end EXECUTE FUNCTION alter_table()');
    my $job = start_job($node, "'t', '$source', swap => '$method', keep_old => false, max_attempts => 1, delay => '0', "
            . "partitions => (SELECT array_agg('t_' || i) FROM generate_series(0, $#cases) AS i)::regclass[]");
    is(wait_job($node, $job), 'failed', "$method: some partitions cannot be swapped");
    my %errors = split /[\t\n]/, $node->safe_psql('postgres', <<"EOQ");
        SELECT replace(partition::text, 'public.', '') || E'\\t' || state || ': ' || regexp_replace(coalesce(error, ''), '\\s+', ' ', 'g')
        FROM backfill_progress WHERE job = $job ORDER BY ordinal
EOQ
    for my $i (0 .. $#cases) {
        my ($event, $statement, $reason) = @{ $cases[$i] };
        like($errors{"t_$i"}, defined $reason ? qr/^failed: .*$reason/ : qr/^done: $/, "$method, $event, $statement");
    }
    # What hangs on a table that was built keeps it from being dropped.
    $node->safe_psql('postgres', <<"EOQ");
        DROP EVENT TRIGGER every_table;
        DROP VIEW IF EXISTS seen_t_3;
        DROP FUNCTION IF EXISTS f_t_4;
        DO \$\$
        DECLARE
            member regclass;
        BEGIN
            FOR member IN SELECT objid::regclass FROM pg_depend WHERE classid = 'pg_class'::regclass
                          AND refclassid = 'pg_extension'::regclass AND objid::regclass::text LIKE 'backfill%.t\\_%' LOOP
                EXECUTE format('ALTER EXTENSION plpgsql DROP TABLE %s', member);
            END LOOP;
        END
        \$\$;
        SELECT backfill_cancel($job);
EOQ
    wait_job($node, $job);
    same_text(dump_of(), $before, "$method: every partition is defined as before");
    check_clean($node, $method);
    return;
}

check_cases('attach', 't', @attach);

# By storage the partition keeps its definition: only what its new rows were held to, and what goes with its file, matters.
my @storage = (
    [ 'ALTER TABLE %s ALTER r DROP NOT NULL', qr/column r is NOT NULL/ ],
    [ 'ALTER TABLE %s DROP CONSTRAINT positive', qr/constraint positive/ ],
    [ 'ALTER TABLE %s ALTER g DROP EXPRESSION', qr/column g is generated/ ],
    [ 'ALTER TABLE %s DROP CONSTRAINT partbackfill_bounds', qr/no CHECK of the partition's bounds/ ],
    [ 'ALTER TABLE %s SET TABLESPACE space', qr/tablespace/ ],
    [ 'ALTER TABLE %s SET UNLOGGED', qr/persistence/ ],
    [ 'ALTER TABLE %s SET ACCESS METHOD heap2', qr/access method/ ],
    [ 'ALTER INDEX %s_i SET TABLESPACE space', qr/index .*tablespace/ ],
    [ 'DROP INDEX %s_i', qr/index/ ],
    [ 'ALTER TABLE %s ADD more int', qr/other columns/ ],
    [ 'ALTER TABLE %s SET (toast.autovacuum_enabled = off)', qr/TOAST options/ ],
    [ 'ALTER TABLE %s ALTER v TYPE varchar', qr/other columns|used by|cannot alter/ ],
    (map { [ $_, undef ] } (
            'ALTER TABLE %s ENABLE ROW LEVEL SECURITY', 'CREATE POLICY more ON %s USING (false)',
            'GRANT DELETE ON %s TO reader', 'ALTER TABLE %s OWNER TO other_owner', q{COMMENT ON COLUMN %s.v IS 'more'},
            'ALTER TABLE %s REPLICA IDENTITY FULL', 'ALTER TABLE %s SET (fillfactor = 50)',
            'ALTER TABLE %s ALTER v SET STORAGE EXTERNAL', 'ALTER TABLE %s ALTER v SET COMPRESSION pglz', 'ALTER TABLE %s ALTER v SET STATISTICS 7',
            'ALTER TABLE %s ALTER v SET DEFAULT 7', 'ALTER TABLE %s ADD CONSTRAINT more CHECK (k < 5000)',
            'CREATE TRIGGER more BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION nothing()',
            'CREATE RULE r AS ON DELETE TO %s DO INSTEAD NOTHING', 'CREATE INDEX ON %s (r)', 'ALTER TABLE %s ADD UNIQUE (r)',
            'ALTER PUBLICATION pub ADD TABLE %s', 'CREATE STATISTICS st_more ON k, r FROM %s')));
# The first rows are such that only what the change took away would have kept them out.
check_cases('storage', 'SELECT k, v, CASE k WHEN 0 THEN NULL WHEN 1 THEN -1 ELSE r END AS r FROM t', map { [ 'built', @$_ ] } @storage);
is($node->safe_psql('postgres', 'SELECT count(*) FROM t WHERE r > 0 AND g = r + 1'), scalar @attach, 'storage: every row is as it must be');

$node->stop;
done_testing();
