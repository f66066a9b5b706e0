# A swap brings along everything that a partition is besides its rows: pg_dump writes the same text before and after,
# and so do the catalogs.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Definition;
use Test::More;

my $node = new_node('definition', settings => ['allow_in_place_tablespaces = on']);

#
# Tables that together have what a partition can have
#
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE keeper;
    CREATE ROLE app LOGIN IN ROLE keeper;
    CREATE ROLE granter;
    CREATE ROLE reader;
    CREATE ROLE writer;
    CREATE ROLE statistician;
    GRANT statistician TO app;
    CREATE TABLESPACE space LOCATION '';
    GRANT CREATE ON TABLESPACE space TO keeper;
    CREATE SCHEMA main AUTHORIZATION keeper;
    CREATE SCHEMA "Other schema" AUTHORIZATION keeper;
    GRANT USAGE ON SCHEMA main TO granter, writer;
    CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;

    SET ROLE keeper;
    SET search_path = main, public;

    -- privileges, by several grantors
    CREATE TABLE granted (id int, secret text, open text) PARTITION BY RANGE (id);
    CREATE TABLE granted_1 PARTITION OF granted FOR VALUES FROM (0) TO (100);
    CREATE TABLE granted_2 PARTITION OF granted FOR VALUES FROM (100) TO (200);
    CREATE TABLE granted_3 PARTITION OF granted FOR VALUES FROM (200) TO (300);
    INSERT INTO granted SELECT g, 's', 'o' FROM generate_series(0, 299) AS g;
    GRANT SELECT ON granted_1 TO reader;
    GRANT ALL ON granted_1 TO granter WITH GRANT OPTION;
    GRANT SELECT (secret), UPDATE (open) ON granted_1 TO granter WITH GRANT OPTION;
    GRANT INSERT (id) ON granted_1 TO PUBLIC;
    SET ROLE granter;
    GRANT SELECT, INSERT ON granted_1 TO writer WITH GRANT OPTION;
    GRANT SELECT (secret) ON granted_1 TO reader, writer WITH GRANT OPTION;
    SET ROLE writer;
    GRANT SELECT ON granted_1 TO PUBLIC;
    GRANT SELECT (secret) ON granted_1 TO PUBLIC;
    SET ROLE keeper;
    REVOKE DELETE, TRUNCATE ON granted_2 FROM keeper;
    GRANT REFERENCES (id) ON granted_2 TO reader;

    -- where and how it is stored
    CREATE TABLE stored (id int NOT NULL, wide text, wider text, numbers numeric[]) PARTITION BY RANGE (id);
    CREATE TABLE stored_1 PARTITION OF stored FOR VALUES FROM (0) TO (100)
        WITH (fillfactor = 70, autovacuum_enabled = off, toast.autovacuum_enabled = off, toast_tuple_target = 256,
              autovacuum_vacuum_scale_factor = 0.25, parallel_workers = 3, toast.vacuum_truncate = false)
        TABLESPACE space;
    CREATE UNLOGGED TABLE stored_2 PARTITION OF stored FOR VALUES FROM (100) TO (200);
    CREATE TABLE stored_3 PARTITION OF stored FOR VALUES FROM (200) TO (300) USING other;
    ALTER TABLE stored_1 ALTER wide SET STORAGE EXTERNAL, ALTER wider SET STORAGE MAIN, ALTER numbers SET COMPRESSION pglz,
        ALTER id SET STATISTICS 7, ALTER wide SET STATISTICS 0, ALTER wider SET (n_distinct = 5, n_distinct_inherited = -0.5);
    CREATE INDEX ON stored (id) WITH (fillfactor = 60);
    CREATE INDEX stored_1_space ON stored_1 (lower(wide), (id + 1), id) TABLESPACE space;
    ALTER INDEX stored_1_space ALTER COLUMN 1 SET STATISTICS 11, ALTER COLUMN 2 SET STATISTICS 0;
    CREATE INDEX stored_2_gin ON stored_2 USING gin (numbers) WITH (fastupdate = off);
    INSERT INTO stored SELECT g, repeat('w', g * 20), repeat(md5(g::text), g), ARRAY[g, g + 0.5] FROM generate_series(0, 299) AS g;
    CLUSTER stored_1 USING stored_1_space;

    -- indexes of the parent that look the same, paired by hand the other way round
    CREATE INDEX stored_twin_1 ON ONLY stored (wide text_pattern_ops);
    CREATE INDEX stored_twin_2 ON ONLY stored (wide text_pattern_ops);
    CREATE INDEX stored_1_early ON stored_1 (wide text_pattern_ops);
    CREATE INDEX stored_1_late ON stored_1 (wide text_pattern_ops) WITH (fillfactor = 80);
    ALTER INDEX stored_twin_2 ATTACH PARTITION stored_1_early;
    ALTER INDEX stored_twin_1 ATTACH PARTITION stored_1_late;
    CREATE INDEX stored_2_early ON stored_2 (wide text_pattern_ops);
    CREATE INDEX stored_2_late ON stored_2 (wide text_pattern_ops);
    ALTER INDEX stored_twin_2 ATTACH PARTITION stored_2_early;
    ALTER INDEX stored_twin_1 ATTACH PARTITION stored_2_late;
    CREATE INDEX stored_3_early ON stored_3 (wide text_pattern_ops);
    CREATE INDEX stored_3_late ON stored_3 (wide text_pattern_ops);
    ALTER INDEX stored_twin_2 ATTACH PARTITION stored_3_early;
    ALTER INDEX stored_twin_1 ATTACH PARTITION stored_3_late;

    -- replica identities
    CREATE TABLE identified (id int NOT NULL, at int NOT NULL, UNIQUE (id)) PARTITION BY RANGE (id);
    CREATE TABLE identified_full PARTITION OF identified FOR VALUES FROM (0) TO (100);
    CREATE TABLE identified_index PARTITION OF identified FOR VALUES FROM (100) TO (200);
    CREATE TABLE identified_own PARTITION OF identified FOR VALUES FROM (200) TO (300);
    CREATE TABLE identified_nothing PARTITION OF identified FOR VALUES FROM (300) TO (400);
    CREATE UNIQUE INDEX identified_own_at ON identified_own (at, id);
    ALTER TABLE identified_full REPLICA IDENTITY FULL;
    ALTER TABLE identified_index REPLICA IDENTITY USING INDEX identified_index_id_key;
    ALTER TABLE identified_own REPLICA IDENTITY USING INDEX identified_own_at;
    ALTER TABLE identified_nothing REPLICA IDENTITY NOTHING;
    INSERT INTO identified SELECT g, g FROM generate_series(0, 399) AS g;

    -- constraints, indexes, comments
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
    CREATE SEQUENCE counter;
    CREATE TABLE kept (
        id int NOT NULL DEFAULT nextval('counter'),
        at date NOT NULL DEFAULT '2024-01-15' CONSTRAINT "not too old" CHECK (at > '2000-01-01'),
        name varchar(20) COLLATE "C" DEFAULT 'none',
        during int4range,
        feeling mood DEFAULT 'happy',
        amount positive,
        doubled int GENERATED ALWAYS AS (twice(id)) STORED,
        extra jsonb,
        CONSTRAINT kept_key PRIMARY KEY (id, at)
    ) PARTITION BY RANGE (at);
    CREATE TABLE kept_1 PARTITION OF kept FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
    CREATE TABLE kept_2 (amount positive, gone int, id int NOT NULL, name varchar(20) COLLATE "C" DEFAULT 'other',
        at date CONSTRAINT "not too old" CHECK (at > '2000-01-01'), also_gone text, extra jsonb, during int4range,
        feeling mood, doubled int GENERATED ALWAYS AS (twice(id)) STORED, CONSTRAINT own_key_name PRIMARY KEY (id, at));
    ALTER TABLE kept_2 DROP gone, DROP also_gone;
    ALTER TABLE kept ATTACH PARTITION kept_2 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
    CREATE TABLE kept_default PARTITION OF kept DEFAULT;
    CREATE INDEX kept_name ON kept (name DESC NULLS FIRST) INCLUDE (amount);
    CREATE INDEX kept_extra ON kept USING gin (extra jsonb_path_ops);
    CREATE INDEX kept_brin ON kept USING brin (at) WITH (pages_per_range = 4);
    CREATE UNIQUE INDEX kept_twin ON kept (id, at, name) NULLS NOT DISTINCT;
    CREATE UNIQUE INDEX kept_1_twin_of_its_own ON kept_1 (id, at, name) NULLS NOT DISTINCT;
    CREATE INDEX kept_1_name_of_its_own ON kept_1 (name DESC NULLS FIRST) INCLUDE (amount);
    CREATE INDEX kept_1_partial ON kept_1 (amount) WHERE feeling = 'happy';
    CREATE INDEX kept_1_expression ON kept_1 (lower(name) text_pattern_ops, twice(id));
    CREATE INDEX kept_1_hash ON kept_1 USING hash (name);
    CREATE UNIQUE INDEX kept_1_unique ON kept_1 (doubled) INCLUDE (name);
    ALTER TABLE kept_1
        ADD CONSTRAINT kept_1_later UNIQUE (id) DEFERRABLE INITIALLY DEFERRED,
        ADD CONSTRAINT kept_1_maybe UNIQUE (id, name) DEFERRABLE,
        ADD CONSTRAINT kept_1_with UNIQUE (at, id) INCLUDE (name),
        ADD CONSTRAINT "no overlap" EXCLUDE USING gist (during WITH &&) WHERE (feeling = 'happy'),
        ADD CONSTRAINT kept_1_check CHECK (twice(id) >= 0),
        ADD CONSTRAINT kept_1_alone CHECK (amount < 1000000) NO INHERIT,
        ALTER name SET NOT NULL,
        ALTER feeling SET DEFAULT 'sad',
        ALTER during DROP DEFAULT;
    COMMENT ON TABLE kept_1 IS 'a table''s "comment" with \ and $1';
    COMMENT ON COLUMN kept_1.name IS 'its name';
    COMMENT ON COLUMN kept_2.amount IS 'another''s';
    COMMENT ON CONSTRAINT kept_1_later ON kept_1 IS 'unique at last';
    COMMENT ON CONSTRAINT "no overlap" ON kept_1 IS 'exclusive';
    COMMENT ON CONSTRAINT kept_1_check ON kept_1 IS 'checked';
    COMMENT ON CONSTRAINT "not too old" ON kept_1 IS 'checked by the parent too';
    COMMENT ON CONSTRAINT own_key_name ON kept_2 IS 'a key';
    COMMENT ON INDEX kept_1_partial IS 'a part';
    COMMENT ON INDEX kept_1_later IS 'the index of a constraint';
    COMMENT ON INDEX kept_1_name_amount_idx IS 'a child';
    CLUSTER kept_1 USING kept_1_pkey;
    INSERT INTO kept (at, name, during, amount, extra)
        SELECT '2024-01-01'::date + g % 80, 'n' || g, int4range(g * 10, g * 10 + 5), g + 1, jsonb_build_object('g', g)
        FROM generate_series(0, 499) AS g;
    CREATE VIEW kept_view AS SELECT name, at FROM kept;
    CREATE STATISTICS kept_statistics ON id, at FROM kept;
    ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
    CREATE POLICY kept_policy ON kept FOR SELECT TO reader USING (amount > 5);

    -- triggers of the parent
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TABLE fired (id int, v text) PARTITION BY RANGE (id);
    CREATE TABLE fired_1 PARTITION OF fired FOR VALUES FROM (0) TO (100);
    CREATE TABLE fired_2 PARTITION OF fired FOR VALUES FROM (100) TO (200);
    CREATE TRIGGER "first" BEFORE INSERT OR UPDATE OF v ON fired FOR EACH ROW WHEN (NEW.v <> '') EXECUTE FUNCTION fire('a', 'b');
    CREATE TRIGGER second AFTER DELETE ON fired FOR EACH ROW EXECUTE FUNCTION fire();
    CREATE CONSTRAINT TRIGGER third AFTER INSERT ON fired DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fire();
    CREATE TRIGGER whole BEFORE TRUNCATE ON fired EXECUTE FUNCTION fire();
    ALTER TABLE fired DISABLE TRIGGER second;
    ALTER TABLE fired ENABLE ALWAYS TRIGGER third;
    COMMENT ON CONSTRAINT third ON fired_2 IS 'the constraint of a trigger of the parent';
    INSERT INTO fired SELECT g, 'v' FROM generate_series(0, 199) AS g;

    -- a tree, odd names, another schema, an identity column of the parent
    CREATE TABLE "Odd ""Tree" ("the key" int GENERATED ALWAYS AS IDENTITY, "Sub key" text, "a.b" int DEFAULT 3, gone int)
        PARTITION BY RANGE ("the key");
    CREATE TABLE "Other schema"."Branch;1" PARTITION OF "Odd ""Tree" FOR VALUES FROM (MINVALUE) TO (100) PARTITION BY LIST ("Sub key");
    CREATE TABLE main."Leaf '1'" PARTITION OF "Other schema"."Branch;1" FOR VALUES IN ('a', 'b''c', NULL);
    CREATE TABLE "Other schema"."Leaf '2'" PARTITION OF "Other schema"."Branch;1" DEFAULT;
    CREATE TABLE "Other schema"."SELECT" PARTITION OF "Odd ""Tree" FOR VALUES FROM (100) TO (MAXVALUE);
    ALTER TABLE "Odd ""Tree" DROP gone, ADD added text DEFAULT 'more';
    CREATE INDEX "Index of ""it" ON "Odd ""Tree" ("a.b", "Sub key");
    CREATE INDEX "Own %s index" ON main."Leaf '1'" ("a.b");
    COMMENT ON COLUMN "Other schema"."SELECT"."a.b" IS 'dotted';
    INSERT INTO "Odd ""Tree" ("Sub key") SELECT (ARRAY['a', 'b''c', 'z', NULL])[1 + g % 4] FROM generate_series(1, 200) AS g;

    -- what belongs to a leaf alone
    CREATE TABLE own (gone int, id int, at date, v text, n int) PARTITION BY RANGE (id);
    CREATE TABLE own_1 PARTITION OF own FOR VALUES FROM (0) TO (100);
    CREATE TABLE own_2 (n int, v text, id int, dropped int, at date, gone int);
    ALTER TABLE own_2 DROP dropped;
    ALTER TABLE own ATTACH PARTITION own_2 FOR VALUES FROM (100) TO (200);
    ALTER TABLE own DROP gone;
    INSERT INTO own SELECT g, '2024-01-01'::date + g, 'v' || g, -g FROM generate_series(0, 199) AS g;
    CREATE TABLE joined (id int);
    CREATE TRIGGER twofold AFTER INSERT OR UPDATE ON own FOR EACH ROW EXECUTE FUNCTION fire();
    ALTER TABLE own_2 DISABLE TRIGGER twofold;
    COMMENT ON TRIGGER twofold ON own_1 IS 'on this one';
    CREATE TRIGGER "Its own" BEFORE UPDATE OF v, id ON own_2 FOR EACH ROW
        WHEN (OLD.id <> NEW.id OR OLD.v IS DISTINCT FROM NEW.v OR (OLD.at, NEW.n) IS NULL) EXECUTE FUNCTION fire('', 'it''s', '\');
    CREATE TRIGGER statement AFTER UPDATE ON own_2 REFERENCING OLD TABLE AS "Old" NEW TABLE AS "New" EXECUTE FUNCTION fire();
    CREATE TRIGGER emptied AFTER TRUNCATE ON own_2 EXECUTE FUNCTION fire();
    CREATE CONSTRAINT TRIGGER later AFTER DELETE ON own_2 FROM joined DEFERRABLE FOR EACH ROW WHEN (OLD.n < 5) EXECUTE FUNCTION fire();
    ALTER TABLE own_2 DISABLE TRIGGER emptied, ENABLE REPLICA TRIGGER "Its own", ENABLE ALWAYS TRIGGER statement;
    COMMENT ON TRIGGER "Its own" ON own_2 IS 'its own';
    COMMENT ON CONSTRAINT later ON own_2 IS 'the constraint of a trigger';
    ALTER TABLE own_2 ADD CONSTRAINT not_checked CHECK (n > -120 AND length(v) < 100) NOT VALID,
        ADD CONSTRAINT checked CHECK (n <= 0);
    COMMENT ON CONSTRAINT not_checked ON own_2 IS 'true of new rows';
    ALTER TABLE own_2 ENABLE ROW LEVEL SECURITY;
    CREATE POLICY "Policy 1" ON own_2 AS RESTRICTIVE FOR UPDATE TO reader, writer USING (n < 0) WITH CHECK (id > 0 AND v <> '');
    CREATE POLICY all_of_it ON own_2 USING (EXISTS (SELECT FROM joined AS j WHERE j.id = own_2.id));
    CREATE POLICY new_ones ON own_2 FOR INSERT TO CURRENT_USER WITH CHECK (v LIKE current_user || '%');
    COMMENT ON POLICY all_of_it ON own_2 IS 'all of it';
    CREATE STATISTICS own_2_all ON id, n, (id + n), lower(v) FROM own_2;
    CREATE STATISTICS "Other schema"."Statistics 2" (mcv, dependencies) ON v, at FROM own_2;
    CREATE STATISTICS own_2_one ON (lower(v)) FROM own_2;
    ALTER STATISTICS own_2_one SET STATISTICS 33;
    COMMENT ON STATISTICS "Other schema"."Statistics 2" IS 'correlated';

    -- other ways to divide
    CREATE TABLE hashed (id int, name text PRIMARY KEY) PARTITION BY HASH (name);
    CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE hashed_2 PARTITION OF hashed FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE hashed_3 PARTITION OF hashed FOR VALUES WITH (MODULUS 3, REMAINDER 2);
    INSERT INTO hashed SELECT g, g FROM generate_series(1, 100) AS g;
    CREATE TABLE several (a int, b text COLLATE "C", c date) PARTITION BY RANGE (a, b, (twice(a)));
    CREATE TABLE several_1 PARTITION OF several FOR VALUES FROM (1, MINVALUE, MINVALUE) TO (1, 'm', 2);
    CREATE TABLE several_2 PARTITION OF several FOR VALUES FROM (1, 'm', 2) TO (MAXVALUE, MAXVALUE, MAXVALUE);
    CREATE TABLE several_3 PARTITION OF several DEFAULT;
    INSERT INTO several SELECT g % 3, chr(97 + g % 26), '2024-01-01' FROM generate_series(1, 300) AS g;

    RESET ROLE;
    GRANT CREATE ON SCHEMA main TO app;
    ALTER TABLE main.granted_3 OWNER TO app;
    ALTER STATISTICS main.own_2_all OWNER TO statistician;
    CREATE PUBLICATION of_parents FOR TABLE main.granted, main.kept;
    CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA "Other schema";
    CREATE PUBLICATION of_leaf FOR TABLE main.own_1, main.own_2 (id, v, n) WHERE (n > 5 AND v <> 'x'), main.several_1;
    CREATE PUBLICATION of_leaf_too FOR TABLE main.own_2 WITH (publish = 'insert');
    GRANT CREATE ON DATABASE postgres TO keeper;
    ALTER PUBLICATION of_leaf OWNER TO keeper;
    ALTER PUBLICATION of_leaf_too OWNER TO keeper;
    -- which its owner cannot read past
    CREATE TABLE main.forced (id int) PARTITION BY RANGE (id);
    CREATE TABLE main.forced_1 PARTITION OF main.forced FOR VALUES FROM (0) TO (100);
    INSERT INTO main.forced VALUES (1), (2);
    ALTER TABLE main.forced_1 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY few ON main.forced_1 USING (id = 1);

    -- what a new table would be given
    ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT ON TABLES TO PUBLIC, reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE keeper, app GRANT ALL ON TABLES TO writer WITH GRANT OPTION;
    ALTER DEFAULT PRIVILEGES FOR ROLE keeper, app IN SCHEMA main GRANT SELECT ON TABLES TO reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE keeper REVOKE TRUNCATE ON TABLES FROM keeper;
SQL

if ($node->pg_version->major >= 18) {
    $node->safe_psql('postgres', <<'SQL');
        CREATE EXTENSION btree_gist;
        SET ROLE keeper;
        SET search_path = main, public;
        CREATE TABLE newer (id int, during int4range, v text CONSTRAINT "there is one" NOT NULL, w text,
            n int GENERATED ALWAYS AS (id * 2), -- VIRTUAL
            CONSTRAINT newer_key PRIMARY KEY (id, during WITHOUT OVERLAPS)) PARTITION BY RANGE (id);
        CREATE TABLE newer_1 PARTITION OF newer FOR VALUES FROM (0) TO (100);
        CREATE TABLE newer_2 PARTITION OF newer FOR VALUES FROM (100) TO (200);
        ALTER TABLE newer_1 ADD CONSTRAINT "w too" NOT NULL w, ADD CONSTRAINT a_hope CHECK (id > 1000) NOT ENFORCED;
        COMMENT ON CONSTRAINT "there is one" ON newer_1 IS 'really';
        COMMENT ON CONSTRAINT "w too" ON newer_1 IS 'its own';
        INSERT INTO newer SELECT g, int4range(g, g + 10), 'v' || g, 'w' FROM generate_series(0, 199) AS g;
SQL
}

my @targets = ('granted', 'stored', 'identified', 'kept', 'fired', '"Odd ""Tree"', 'own', 'hashed', 'several', 'forced');
push @targets, 'newer' if $node->pg_version->major >= 18;
$node->safe_psql('postgres',
    join '', map { "CREATE TABLE public.\"rows $_\" AS SELECT tableoid::regclass::text AS leaf, * FROM main.$_;\n" =~ s/"rows "Odd ""Tree""/"rows tree"/r } @targets);

my $leaves = q{SELECT relid FROM pg_class AS c, pg_partition_tree(c.oid) WHERE c.relkind = 'p' AND NOT c.relispartition}
    . q{ AND c.relnamespace = 'main'::regnamespace AND isleaf};

# The same by a role that owns nothing and one that owns all, under settings that would change what is made.
my $settings = "SET search_path = main, public; SET default_tablespace = 'space';"
    . " SET default_toast_compression = 'pglz'; SET quote_all_identifiers = on; SET DateStyle = 'SQL, DMY';"
    . ' SET default_statistics_target = 17; SET check_function_bodies = off';
my %callers = ('the superuser' => $settings, 'a member of the owner' => "SET SESSION AUTHORIZATION app; $settings");
for my $caller (reverse sort keys %callers) {
    my $dump = dump_schema($node);
    my $lines = catalog_lines($node);
    my $oids = $node->safe_psql('postgres', "SELECT array_agg(relid::oid) FROM ($leaves) AS leaf WHERE relid <> 'main.forced_1'::regclass");
    for my $target (@targets) {
        next if $target eq 'forced' && $caller ne 'the superuser';
        my $job = start_job($node, "'$target', '$target', keep_old => false, delay => '0', max_attempts => 1", $callers{$caller});
        is(wait_job($node, $job), 'done', "$caller: table $target is rebuilt")
            or diag($node->safe_psql('postgres', "SELECT error FROM backfill_status WHERE job = $job"));
        my $rows = $target =~ /Tree/ ? 'rows tree' : "rows $target";
        is($node->safe_psql('postgres', <<"SQL"), '0', "$caller: table $target has the same rows in the same places");
            CREATE TEMP VIEW now AS SELECT tableoid::regclass::text AS leaf, * FROM main.$target;
            SELECT (SELECT count(*) FROM (TABLE now EXCEPT ALL TABLE public."$rows") AS a)
                 + (SELECT count(*) FROM (TABLE public."$rows" EXCEPT ALL TABLE now) AS b);
SQL
    }
    is($node->safe_psql('postgres', "SELECT count(*) FROM ($leaves) AS leaf WHERE relid::oid = ANY ('$oids')"), '0',
        "$caller: every leaf is another table than before");
    same_text(dump_schema($node), $dump, "$caller: pg_dump writes the same");
    same_text(catalog_lines($node), $lines, "$caller: the catalogs say the same");
    is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indisready AND indislive)'), '0',
        "$caller: all indexes are valid");
    check_clean($node, $caller);
}

# An old partition that is kept is nobody's any more: what was said of the table is said of the new one only.
my $published = q{SELECT pubname, prrelid::regclass::text FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = prpubid ORDER BY 1, 2};
{
    my $lines = $node->safe_psql('postgres', $published);
    my $job = start_job($node, q{'main.own', 'main.own', delay => '0'});
    is(wait_job($node, $job), 'done', 'kept old partitions');
    is($node->safe_psql('postgres', $published), $lines, 'kept old partitions are not published');
    is($node->safe_psql('postgres', "SELECT backfill_purge($job)"), '2', 'kept old partitions are purged');
    check_clean($node, 'kept old partitions');
}
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');
is($node->safe_psql('postgres', <<"SQL"), '', 'the indexes have every row once');
    SELECT bt_index_check(i.indexrelid, true) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_am AS a ON a.oid = c.relam WHERE a.amname = 'btree' AND i.indrelid IN ($leaves) OFFSET 10000
SQL

# What belongs to another role than the caller is refused.
{
    $node->safe_psql('postgres', 'CREATE PUBLICATION of_another FOR TABLE main.granted_1');
    my ($sqlstate, $message) = error_of($node, q{SET SESSION AUTHORIZATION app; SELECT backfill_start('main.granted', 'main.granted', swap => 'attach')});
    is($sqlstate, '0A000', 'refused: membership in a publication of another');
    like($message, qr/publication of_another\b/, 'refused: membership in a publication of another: the reason');
}
{
    $node->safe_psql('postgres', <<'SQL');
        CREATE SCHEMA closed;
        CREATE STATISTICS closed.of_own_1 ON id, n FROM main.own_1;
        ALTER STATISTICS closed.of_own_1 OWNER TO keeper;
        DROP PUBLICATION of_another;
SQL
    my ($sqlstate, $message) = error_of($node, q{SET SESSION AUTHORIZATION app; SELECT backfill_start('main.own', 'main.own', swap => 'attach')});
    is($sqlstate, '42501', 'refused: a statistics object in a schema where nothing may be made');
    like($message, qr/permission denied for schema closed/, 'refused: a statistics object in a schema where nothing may be made: the reason');
    $node->safe_psql('postgres', 'DROP SCHEMA closed CASCADE');
}
{
    $node->safe_psql('postgres', 'REVOKE statistician FROM app;');
    my ($sqlstate, $message) = error_of($node, q{SET SESSION AUTHORIZATION app; SELECT backfill_start('main.own', 'main.own', swap => 'attach')});
    is($sqlstate, '0A000', 'refused: a statistics object of another');
    like($message, qr/statistics object own_2_all, which you do not own/, 'refused: a statistics object of another: the reason');
}

$node->stop;
done_testing();
