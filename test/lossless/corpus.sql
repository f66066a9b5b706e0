-- A table for every feature of a partition that a swap has to carry over, or to refuse. lossless.pl goes over them all.
SET client_min_messages = warning;
CREATE ROLE corpus_owner;
CREATE ROLE corpus_reader;
CREATE ROLE corpus_granter;
CREATE SCHEMA corpus;
CREATE SCHEMA "Other Schema";
GRANT ALL ON SCHEMA corpus, "Other Schema" TO corpus_owner, corpus_granter;
SET search_path = corpus, public;

-- Makes a table with two partitions of ten rows each, to be made special.
CREATE PROCEDURE make(name text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (k int NOT NULL, v text, n int) PARTITION BY RANGE (k)', name);
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (0) TO (10)', name || '_1', name);
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (10) TO (20)', name || '_2', name);
    EXECUTE format('INSERT INTO %I SELECT g, ''row '' || g, g FROM generate_series(0, 19) AS g', name);
END
$$;
CREATE FUNCTION notice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;

-- who may do what
CALL make('privileges');
GRANT SELECT, INSERT ON privileges_1 TO corpus_reader;
GRANT SELECT ON privileges_1 TO corpus_granter WITH GRANT OPTION;
SET ROLE corpus_granter;
GRANT SELECT ON privileges_1 TO PUBLIC;
RESET ROLE;
GRANT UPDATE (v), REFERENCES (k, n) ON privileges_1 TO corpus_reader WITH GRANT OPTION;
REVOKE DELETE ON privileges_1 FROM CURRENT_USER;
ALTER TABLE privileges_2 OWNER TO corpus_owner;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO corpus_reader;
CALL make('defaults_granted');
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM corpus_reader;
CALL make('security');
ALTER TABLE security_1 ENABLE ROW LEVEL SECURITY;
CREATE POLICY whole ON security_2 USING (security_2.* IS NOT NULL);
ALTER TABLE security_2 ENABLE ROW LEVEL SECURITY;
ALTER TABLE security_2 FORCE ROW LEVEL SECURITY;
CREATE POLICY "Odd Policy" ON security_1 AS RESTRICTIVE FOR UPDATE TO corpus_reader, corpus_owner
    USING (k > 1) WITH CHECK (n IN (SELECT oid::int FROM pg_class WHERE oid = security_1.n));
CREATE POLICY everybody ON security_1 USING (true);
CREATE POLICY adding ON security_1 FOR INSERT WITH CHECK (v <> '');
COMMENT ON POLICY everybody ON security_1 IS 'all of it';

-- how it is stored
CALL make('storage');
ALTER TABLE storage_1 SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_enabled = off);
ALTER TABLE storage_1 ALTER COLUMN v SET STORAGE EXTERNAL, ALTER COLUMN v SET COMPRESSION pglz;
ALTER TABLE storage_1 ALTER COLUMN n SET STATISTICS 500, ALTER COLUMN k SET (n_distinct = -0.5);
ALTER TABLE storage_2 SET UNLOGGED;
CREATE INDEX storage_1_v ON storage_1 (v) WITH (fillfactor = 50, deduplicate_items = off);
CLUSTER storage_1 USING storage_1_v;
CREATE INDEX storage_1_expression ON storage_1 (lower(v), (n + 1));
ALTER INDEX storage_1_expression ALTER COLUMN 2 SET STATISTICS 300;

CALL make('dropped');
ALTER TABLE dropped ADD a text DEFAULT 'before', ADD b numeric(8, 3), ADD c "char", ADD d timestamptz;
UPDATE dropped SET b = k, c = 'x', d = now();
ALTER TABLE dropped DROP v, DROP c;
ALTER TABLE dropped ADD fast text DEFAULT 'no row has it', ADD e int[];
CREATE INDEX ON dropped (fast, d);
UPDATE dropped SET fast = 'this one has' WHERE k IN (3, 13);
CALL make('long_values');
ALTER TABLE long_values_2 ALTER COLUMN v SET STORAGE EXTERNAL;
UPDATE long_values SET v = (SELECT string_agg(md5(k::text || g), '') FROM generate_series(1, 100 * k) AS g);
CREATE INDEX ON long_values (md5(v));
CALL make('attach_refuses_toast');
UPDATE attach_refuses_toast SET v = (SELECT string_agg(md5(k::text || g), '') FROM generate_series(1, 1000) AS g);
ALTER TABLE attach_refuses_toast_1 SET (toast.autovacuum_enabled = off);
ALTER TABLE attach_refuses_toast DROP v;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE corpus_space LOCATION '';
CALL make('placed');
ALTER TABLE placed_1 SET TABLESPACE corpus_space;
CREATE INDEX placed_2_v ON placed_2 (v) TABLESPACE corpus_space;

-- what replication sees
CALL make('identity_full');
ALTER TABLE identity_full_1 REPLICA IDENTITY FULL;
ALTER TABLE identity_full_2 REPLICA IDENTITY NOTHING;
CALL make('identity_index');
CREATE UNIQUE INDEX identity_index_1_k ON identity_index_1 (k);
ALTER TABLE identity_index_1 REPLICA IDENTITY USING INDEX identity_index_1_k;
CALL make('published');
CREATE PUBLICATION corpus_columns FOR TABLE published_1 (k, v) WHERE (k > 2), TABLE published_2;
CREATE PUBLICATION corpus_whole FOR TABLE published_1, TABLE published_2;
CREATE PUBLICATION corpus_schema FOR TABLES IN SCHEMA corpus WITH (publish = 'insert'); -- so that tables can be written

-- comments
CALL make('comments');
ALTER TABLE comments ADD PRIMARY KEY (k);
ALTER TABLE comments_1 ADD CONSTRAINT positive CHECK (k >= 0);
COMMENT ON TABLE comments_1 IS 'it''s the first';
COMMENT ON COLUMN comments_1.v IS 'a value';
COMMENT ON CONSTRAINT positive ON comments_1 IS 'not below zero';
COMMENT ON CONSTRAINT comments_1_pkey ON comments_1 IS 'the key';
COMMENT ON INDEX comments_1_pkey IS 'the index of the key';

-- constraints
CALL make('constraints');
ALTER TABLE constraints ADD CONSTRAINT of_parent CHECK (n < 1000);
ALTER TABLE constraints_1 ADD CONSTRAINT "Of Leaf" CHECK (n < 100), ALTER COLUMN v SET NOT NULL;
ALTER TABLE constraints_1 ADD CONSTRAINT not_checked CHECK (n < 5) NOT VALID;
COMMENT ON CONSTRAINT not_checked ON constraints_1 IS 'for new rows';
ALTER TABLE constraints_1 ADD CONSTRAINT late UNIQUE (n) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE constraints_1 ADD CONSTRAINT apart EXCLUDE USING btree (v WITH =) WHERE (k > 3);
ALTER TABLE constraints_1 ADD CONSTRAINT disjoint EXCLUDE USING gist (int4range(k, k + 1) WITH &&);
ALTER TABLE constraints_2 ADD CONSTRAINT covering UNIQUE (n) INCLUDE (v) WITH (fillfactor = 70);
ALTER TABLE constraints_2 ALTER COLUMN n SET DEFAULT 42;

-- indexes
CALL make('indexes');
ALTER TABLE indexes ADD CONSTRAINT "The Key" PRIMARY KEY (k);
CREATE INDEX indexes_1_twin ON indexes_1 (v);
CREATE INDEX ON indexes (v);
CREATE INDEX indexes_1_first ON indexes_1 (n DESC NULLS LAST, v COLLATE "C" text_pattern_ops) INCLUDE (k) WHERE n > 3;
CREATE UNIQUE INDEX indexes_2_unique ON indexes_2 (n) NULLS NOT DISTINCT;
CREATE INDEX ON indexes USING hash (n);
CREATE INDEX ON indexes_2 USING brin (k) WITH (pages_per_range = 4);
CREATE INDEX ON indexes_2 USING gin (to_tsvector('simple', v));
CREATE INDEX ON indexes_1 USING gist (to_tsvector('simple', v) tsvector_ops (siglen = 100));
ALTER INDEX indexes_2_pkey RENAME TO "odd "" name";

-- statistics
CALL make('statistics');
CREATE STATISTICS several (mcv, dependencies) ON k, n FROM statistics_1;
CREATE STATISTICS one_expression ON (k + n) FROM statistics_1;
CREATE STATISTICS "Other Schema"."Mixed" ON k, (n * 2), v FROM statistics_1;
ALTER STATISTICS several SET STATISTICS 77;
COMMENT ON STATISTICS several IS 'two columns';
ALTER STATISTICS several OWNER TO corpus_owner;

-- triggers
CALL make('triggers');
CREATE TRIGGER "odd ON corpus.triggers_1 " BEFORE INSERT OR UPDATE OF v, n ON triggers_1
    FOR EACH ROW WHEN (NEW.k > 3) EXECUTE FUNCTION notice('a', 'b''c', '');
CREATE CONSTRAINT TRIGGER deferred AFTER DELETE ON triggers_1 DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION notice();
CREATE TRIGGER transition AFTER UPDATE ON triggers_1 REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION notice();
CREATE TRIGGER cut AFTER TRUNCATE ON triggers_1 EXECUTE FUNCTION notice();
CREATE TRIGGER of_parent BEFORE UPDATE ON triggers FOR EACH ROW EXECUTE FUNCTION notice();
CREATE TRIGGER changed BEFORE UPDATE ON triggers_1 FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.* AND NEW IS NOT NULL)
    EXECUTE FUNCTION notice();
CREATE TRIGGER changed_at_all AFTER UPDATE ON triggers FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION notice();
ALTER TABLE triggers_1 DISABLE TRIGGER deferred;
ALTER TABLE triggers_1 ENABLE ALWAYS TRIGGER cut;
ALTER TABLE triggers_1 DISABLE TRIGGER of_parent;
ALTER TABLE triggers_2 ENABLE REPLICA TRIGGER of_parent;
COMMENT ON TRIGGER cut ON triggers_1 IS 'truncates';
COMMENT ON TRIGGER of_parent ON triggers_1 IS 'from above';

-- columns
CREATE TABLE columns (k int NOT NULL, twice int GENERATED ALWAYS AS (k * 2) STORED, d numeric DEFAULT 1.5, s serial,
    e text COLLATE "C", a int[], j jsonb) PARTITION BY RANGE (k);
CREATE TABLE columns_1 PARTITION OF columns FOR VALUES FROM (0) TO (10);
CREATE TABLE columns_2 (gone int, j jsonb, e text COLLATE "C", s int NOT NULL, a int[], gone_too text, d numeric,
    twice int GENERATED ALWAYS AS (k * 2) STORED, k int NOT NULL);
ALTER TABLE columns_2 DROP COLUMN gone, DROP COLUMN gone_too;
ALTER TABLE columns ATTACH PARTITION columns_2 FOR VALUES FROM (10) TO (20);
INSERT INTO columns (k, e, a, j) SELECT g, 'e' || g, ARRAY [g, g], jsonb_build_object('k', g) FROM generate_series(0, 19) AS g;
ALTER TABLE columns ADD COLUMN fast int DEFAULT 7; -- a default that old rows do not hold
CREATE INDEX ON columns (k, d) WHERE e IS NOT NULL;
CREATE TRIGGER changed AFTER UPDATE ON columns_2 FOR EACH ROW
    WHEN (OLD.* IS DISTINCT FROM NEW.* AND OLD.k < NEW.k AND COALESCE(NEW.j, OLD.j) IS NOT NULL) EXECUTE FUNCTION notice();
CREATE TABLE identities (k int NOT NULL, i bigint GENERATED BY DEFAULT AS IDENTITY) PARTITION BY RANGE (k);
CREATE TABLE identities_1 PARTITION OF identities FOR VALUES FROM (0) TO (10);
INSERT INTO identities VALUES (1), (2);

-- trees, names and places
CREATE TABLE "Odd ""Table" ("Key Column" date NOT NULL, region text) PARTITION BY RANGE ("Key Column");
CREATE TABLE "Other Schema"."Odd ""Leaf" PARTITION OF "Odd ""Table" FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE "sub tree" PARTITION OF "Odd ""Table" FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (region);
CREATE TABLE "sub tree eu" PARTITION OF "sub tree" FOR VALUES IN ('eu', NULL);
CREATE TABLE "sub tree rest" PARTITION OF "sub tree" DEFAULT;
CREATE TABLE "rest" PARTITION OF "Odd ""Table" DEFAULT;
ALTER TABLE "Odd ""Table" ADD UNIQUE ("Key Column", region);
INSERT INTO "Odd ""Table" SELECT '2024-01-01'::date + g, (ARRAY ['eu', 'us', NULL]) [g % 3 + 1] FROM generate_series(0, 1200, 7) AS g;
-- each has the name that the array of another's rows would have
CALL make('arrays');
CREATE TABLE _arrays_1 (k int);
ALTER TABLE arrays_2 RENAME TO _corpus;
CREATE TABLE corpus_2 PARTITION OF arrays FOR VALUES FROM (20) TO (30);
ALTER TABLE corpus_2 RENAME TO __corpus;
CREATE TABLE corpus PARTITION OF arrays FOR VALUES FROM (30) TO (40);
INSERT INTO arrays SELECT g, g, g FROM generate_series(20, 39) AS g;
CREATE TABLE hashed (k text COLLATE "C", v int) PARTITION BY HASH (k COLLATE "C", v);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT md5(g::text), g FROM generate_series(1, 100) AS g;
CREATE TABLE expressed (at timestamptz, v int) PARTITION BY RANGE (date_trunc('month', at AT TIME ZONE 'UTC'));
CREATE TABLE expressed_1 PARTITION OF expressed FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
INSERT INTO expressed SELECT '2024-01-01'::timestamptz + g * interval '1 hour', g FROM generate_series(0, 700) AS g;

-- row types
CALL make('type_comment');
COMMENT ON TYPE type_comment_1 IS 'a row';
COMMENT ON TYPE _type_comment_2 IS 'rows';
CALL make('type_privileges');
REVOKE USAGE ON TYPE type_privileges_1 FROM PUBLIC;
GRANT USAGE ON TYPE type_privileges_1 TO corpus_reader WITH GRANT OPTION;

-- foreign keys out: of leaves, of parents, to partitioned tables
CALL make('key_out');
CREATE TABLE referenced (id int PRIMARY KEY, a int, b text, UNIQUE (a, b));
INSERT INTO referenced SELECT g, g, g FROM generate_series(0, 39) AS g;
CREATE TABLE hoped_for (id int PRIMARY KEY);
ALTER TABLE key_out_1 ADD FOREIGN KEY (n) REFERENCES referenced;
ALTER TABLE key_out_2 ADD FOREIGN KEY (n) REFERENCES referenced ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT hope FOREIGN KEY (k) REFERENCES hoped_for NOT VALID;
COMMENT ON CONSTRAINT hope ON key_out_2 IS 'some day';
CREATE TABLE key_set (k int, a int, b text) PARTITION BY RANGE (k);
CREATE TABLE key_set_1 PARTITION OF key_set FOR VALUES FROM (0) TO (10);
INSERT INTO key_set SELECT g, g, g FROM generate_series(0, 9) AS g;
ALTER TABLE key_set ADD FOREIGN KEY (a, b) REFERENCES referenced (a, b) ON DELETE SET NULL (b) ON UPDATE SET DEFAULT;
CREATE TABLE key_of_parent (gone int, k int, a int, b text, "Odd ""n" int) PARTITION BY RANGE (k);
ALTER TABLE key_of_parent DROP gone;
CREATE TABLE key_of_parent_1 PARTITION OF key_of_parent FOR VALUES FROM (0) TO (10);
CREATE TABLE key_of_parent_2 (b text, lost int, "Odd ""n" int, a int, k int NOT NULL);
ALTER TABLE key_of_parent_2 DROP lost;
ALTER TABLE key_of_parent_2 ADD CONSTRAINT its_own_name FOREIGN KEY (a, b) REFERENCES referenced (a, b) MATCH FULL ON DELETE SET NULL
    DEFERRABLE;
ALTER TABLE key_of_parent ADD CONSTRAINT "Key ""of parent" FOREIGN KEY (a, b) REFERENCES referenced (a, b) MATCH FULL ON DELETE SET NULL
    DEFERRABLE, ADD CONSTRAINT odd FOREIGN KEY ("Odd ""n") REFERENCES referenced ON UPDATE CASCADE ON DELETE SET DEFAULT;
ALTER TABLE key_of_parent ATTACH PARTITION key_of_parent_2 FOR VALUES FROM (10) TO (20);
CREATE TABLE key_of_parent_3 PARTITION OF key_of_parent FOR VALUES FROM (20) TO (30) PARTITION BY LIST (a);
CREATE TABLE key_of_parent_3_even PARTITION OF key_of_parent_3 FOR VALUES IN (20, 22, 24);
CREATE TABLE key_of_parent_3_rest PARTITION OF key_of_parent_3 DEFAULT;
ALTER TABLE key_of_parent_3 ADD CONSTRAINT of_branch FOREIGN KEY (k) REFERENCES referenced;
COMMENT ON CONSTRAINT odd ON key_of_parent IS 'of all';
COMMENT ON CONSTRAINT odd ON key_of_parent_1 IS 'of one';
COMMENT ON CONSTRAINT of_branch ON key_of_parent_3_even IS 'of a leaf';
INSERT INTO key_of_parent (k, a, b, "Odd ""n") SELECT g, g, g, g FROM generate_series(0, 29) AS g;
CREATE TABLE attach_refuses_referenced (a int, b text, PRIMARY KEY (a, b)) PARTITION BY LIST (a);
CREATE TABLE attach_refuses_referenced_1 PARTITION OF attach_refuses_referenced FOR VALUES IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
CREATE TABLE attach_refuses_referenced_2 PARTITION OF attach_refuses_referenced DEFAULT;
CALL make('keys_out');
INSERT INTO attach_refuses_referenced SELECT k, v FROM keys_out;
ALTER TABLE keys_out ADD FOREIGN KEY (n, v) REFERENCES attach_refuses_referenced ON UPDATE SET NULL;
ALTER TABLE keys_out_1 ADD CONSTRAINT own FOREIGN KEY (k, v) REFERENCES attach_refuses_referenced;

-- to be refused
CALL make('attach_refuses_keys_alike');
ALTER TABLE attach_refuses_keys_alike ADD CONSTRAINT one FOREIGN KEY (k) REFERENCES referenced;
ALTER TABLE attach_refuses_keys_alike_1 ADD CONSTRAINT other FOREIGN KEY (k) REFERENCES referenced ON DELETE CASCADE;
CREATE TABLE attach_refuses_key_of_other_numbers (gone int, k int, a int, b text) PARTITION BY RANGE (k);
ALTER TABLE attach_refuses_key_of_other_numbers DROP gone;
CREATE TABLE attach_refuses_key_of_other_numbers_1 PARTITION OF attach_refuses_key_of_other_numbers FOR VALUES FROM (0) TO (10);
INSERT INTO attach_refuses_key_of_other_numbers SELECT g, g, g FROM generate_series(0, 9) AS g;
ALTER TABLE attach_refuses_key_of_other_numbers ADD FOREIGN KEY (a, b) REFERENCES referenced (a, b) ON DELETE SET NULL (a);
CALL make('attach_refuses_key_by_second_index');
CREATE TABLE twice_referenced (id int NOT NULL);
INSERT INTO twice_referenced SELECT generate_series(0, 19);
CREATE UNIQUE INDEX twice_referenced_a ON twice_referenced (id);
UPDATE pg_index SET indimmediate = false WHERE indexrelid = 'twice_referenced_a'::regclass;
CREATE UNIQUE INDEX twice_referenced_b ON twice_referenced (id);
ALTER TABLE attach_refuses_key_by_second_index ADD FOREIGN KEY (k) REFERENCES twice_referenced (id);
UPDATE pg_index SET indimmediate = true WHERE indexrelid = 'twice_referenced_a'::regclass;
CALL make('attach_refuses_key_triggers');
ALTER TABLE attach_refuses_key_triggers ADD FOREIGN KEY (k) REFERENCES referenced;
ALTER TABLE attach_refuses_key_triggers_1 DISABLE TRIGGER ALL;
CALL make('attach_refuses_key_in');
ALTER TABLE attach_refuses_key_in ADD PRIMARY KEY (k);
CREATE TABLE referrer (id int REFERENCES attach_refuses_key_in);
INSERT INTO referrer VALUES (3), (13);
CREATE TABLE referrers (id int, n int REFERENCES attach_refuses_key_in ON DELETE CASCADE) PARTITION BY HASH (id);
CREATE TABLE referrers_1 PARTITION OF referrers FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE referrers_2 PARTITION OF referrers FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO referrers SELECT g, g FROM generate_series(0, 19) AS g;
CALL make('attach_refuses_view');
CREATE VIEW of_attach_refuses AS SELECT k FROM attach_refuses_view_1;
CALL make('attach_refuses_rule');
CREATE RULE nothing AS ON INSERT TO attach_refuses_rule_1 DO ALSO NOTHING;
CALL make('attach_refuses_function');
CREATE FUNCTION takes_row(attach_refuses_function_1) RETURNS int LANGUAGE sql AS 'SELECT 1';
CALL make('attach_refuses_type');
CREATE TABLE has_row (r attach_refuses_type_1);
CALL make('attach_refuses_policy_of_another');
CREATE TABLE guarded (k int);
CREATE POLICY looks ON guarded USING (k IN (SELECT p.k FROM attach_refuses_policy_of_another_1 AS p));
CALL make('attach_refuses_policy_of_its_own');
CREATE POLICY looks ON attach_refuses_policy_of_its_own_1
    USING (EXISTS (SELECT FROM attach_refuses_policy_of_its_own_1 AS o WHERE o.k > attach_refuses_policy_of_its_own_1.k));
CALL make('attach_refuses_policy_of_its_type');
CREATE POLICY typed ON attach_refuses_policy_of_its_type_1
    USING (attach_refuses_policy_of_its_type_1.* <> ROW (1, 'a', 2)::attach_refuses_policy_of_its_type_1);
CALL make('attach_refuses_trigger_of_its_type');
CREATE TRIGGER typed BEFORE UPDATE ON attach_refuses_trigger_of_its_type_1 FOR EACH ROW
    WHEN (NEW = ROW (1, 'a', 2)::attach_refuses_trigger_of_its_type_1) EXECUTE FUNCTION notice();
CALL make('attach_refuses_trigger_of_cases');
CREATE TRIGGER typed BEFORE UPDATE ON attach_refuses_trigger_of_cases_1 FOR EACH ROW
    WHEN (CASE WHEN NEW.k > 3 THEN NEW ELSE OLD END IS NOT NULL) EXECUTE FUNCTION notice();
CALL make('attach_refuses_trigger_of_extension');
CREATE TRIGGER dependent BEFORE UPDATE ON attach_refuses_trigger_of_extension_1 FOR EACH ROW EXECUTE FUNCTION notice();
ALTER TRIGGER dependent ON attach_refuses_trigger_of_extension_1 DEPENDS ON EXTENSION amcheck;
CALL make('attach_refuses_cloned_trigger_of_extension');
CREATE TRIGGER dependent BEFORE UPDATE ON attach_refuses_cloned_trigger_of_extension FOR EACH ROW EXECUTE FUNCTION notice();
ALTER TRIGGER dependent ON attach_refuses_cloned_trigger_of_extension_1 DEPENDS ON EXTENSION amcheck;
CALL make('attach_refuses_check_of_row');
ALTER TABLE attach_refuses_check_of_row_1 ADD CHECK (attach_refuses_check_of_row_1.* IS NOT NULL);
CALL make('attach_refuses_check_of_its_type');
ALTER TABLE attach_refuses_check_of_its_type_1 ADD CHECK (NULL::attach_refuses_check_of_its_type_1 IS NULL);
CALL make('attach_refuses_default_of_its_type');
ALTER TABLE attach_refuses_default_of_its_type_1 ALTER n SET DEFAULT (NULL::attach_refuses_default_of_its_type_1 IS NULL)::int;
CALL make('attach_refuses_index_of_its_type');
CREATE INDEX ON attach_refuses_index_of_its_type_1 (k) WHERE NULL::attach_refuses_index_of_its_type_1 IS NULL;
CALL make('attach_refuses_statistics_of_its_type');
CREATE STATISTICS of_its_type ON (k + 1), (NULL::attach_refuses_statistics_of_its_type_1 IS NULL) FROM attach_refuses_statistics_of_its_type_1;
CALL make('attach_refuses_identity_index_gone');
CREATE UNIQUE INDEX identity_index_gone ON attach_refuses_identity_index_gone_1 (k);
ALTER TABLE attach_refuses_identity_index_gone_1 REPLICA IDENTITY USING INDEX identity_index_gone;
DROP INDEX identity_index_gone;
CALL make('attach_refuses_label');
SET allow_system_table_mods = on;
INSERT INTO pg_seclabel VALUES ('attach_refuses_label_1'::regclass, 'pg_class'::regclass, 2, 'nobody', 'secret');
RESET allow_system_table_mods;
CALL make('attach_refuses_sequence');
CREATE SEQUENCE owned_sequence OWNED BY attach_refuses_sequence_1.n;
CALL make('attach_refuses_index');
CREATE INDEX attach_refuses_index_v ON ONLY attach_refuses_index (v);
CALL make('both_refuse_invalid');
CREATE INDEX both_refuse_invalid_v ON both_refuse_invalid_1 (v);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'both_refuse_invalid_v'::regclass;
CALL make('both_refuse_self');
ALTER TABLE both_refuse_self ADD PRIMARY KEY (k), ADD FOREIGN KEY (n) REFERENCES both_refuse_self;
CALL make('both_refuse_index_of_row');
CREATE INDEX ON both_refuse_index_of_row_1 (k) WHERE both_refuse_index_of_row_1 IS NOT NULL;
CREATE FOREIGN DATA WRAPPER corpus_wrapper;
CREATE SERVER corpus_server FOREIGN DATA WRAPPER corpus_wrapper;
CREATE TABLE both_refuse_foreign (k int) PARTITION BY RANGE (k);
CREATE FOREIGN TABLE both_refuse_foreign_1 PARTITION OF both_refuse_foreign FOR VALUES FROM (0) TO (10) SERVER corpus_server;

-- as a table is in production
SELECT format('ANALYZE %s', c.oid::regclass) FROM pg_class AS c
WHERE c.relkind = 'r' AND c.relnamespace IN ('corpus'::regnamespace, '"Other Schema"'::regnamespace)
\gexec
