-- on_write => 'catch_up': by which key a partition can be caught up with, and what is refused at the door.
\set SHOW_CONTEXT never
CREATE SCHEMA catch_up;
SET search_path = catch_up, public;
\set VERBOSITY default

-- What backfill_plan says of catching up.
CREATE FUNCTION of_plan(target regclass, source text DEFAULT NULL) RETURNS TABLE (partition regclass, hazard text)
LANGUAGE sql AS $$
    SELECT p.partition, h.text
    FROM backfill_plan(target, source) WITH ORDINALITY AS p
    CROSS JOIN LATERAL unnest(p.hazards) WITH ORDINALITY AS h (text, place)
    WHERE h.text LIKE 'catch_up:%'
    ORDER BY p.ordinality, h.place
$$;

-- A class of operators with an equality of its own.
CREATE FUNCTION text_ci_eq(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT lower($1) = lower($2)';
CREATE FUNCTION text_ci_lt(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT lower($1) < lower($2)';
CREATE FUNCTION text_ci_le(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT lower($1) <= lower($2)';
CREATE FUNCTION text_ci_ge(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT lower($1) >= lower($2)';
CREATE FUNCTION text_ci_gt(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT lower($1) > lower($2)';
CREATE FUNCTION text_ci_cmp(text, text) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT bttextcmp(lower($1), lower($2))';
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = text_ci_eq);
CREATE OPERATOR <<< (LEFTARG = text, RIGHTARG = text, FUNCTION = text_ci_lt);
CREATE OPERATOR <<= (LEFTARG = text, RIGHTARG = text, FUNCTION = text_ci_le);
CREATE OPERATOR >>= (LEFTARG = text, RIGHTARG = text, FUNCTION = text_ci_ge);
CREATE OPERATOR >>> (LEFTARG = text, RIGHTARG = text, FUNCTION = text_ci_gt);
CREATE OPERATOR CLASS text_ci_ops FOR TYPE text USING btree AS
    OPERATOR 1 <<<, OPERATOR 2 <<=, OPERATOR 3 ===, OPERATOR 4 >>=, OPERATOR 5 >>>, FUNCTION 1 text_ci_cmp(text, text);

CREATE TABLE t (k int, a int NOT NULL, b int, c text NOT NULL, g int GENERATED ALWAYS AS (a + 1) STORED) PARTITION BY LIST (k);
CREATE TABLE t_none PARTITION OF t FOR VALUES IN (1);
CREATE TABLE t_partial PARTITION OF t FOR VALUES IN (2);
CREATE UNIQUE INDEX t_partial_a ON t_partial (a) WHERE b > 0;
CREATE TABLE t_deferrable PARTITION OF t FOR VALUES IN (3);
ALTER TABLE t_deferrable ADD PRIMARY KEY (a) DEFERRABLE;
CREATE TABLE t_nullable PARTITION OF t FOR VALUES IN (4);
CREATE UNIQUE INDEX t_nullable_ab ON t_nullable (a, b);
CREATE TABLE t_expression PARTITION OF t FOR VALUES IN (5);
CREATE UNIQUE INDEX t_expression_a ON t_expression (abs(a));
CREATE TABLE t_class PARTITION OF t FOR VALUES IN (6);
CREATE UNIQUE INDEX t_class_c ON t_class (a, c text_ci_ops);
CREATE TABLE t_generated PARTITION OF t FOR VALUES IN (7);
ALTER TABLE t_generated ALTER g SET NOT NULL;
CREATE UNIQUE INDEX t_generated_g ON t_generated (g);
CREATE TABLE t_primary PARTITION OF t FOR VALUES IN (8);
CREATE UNIQUE INDEX t_primary_c ON t_primary (c);
ALTER TABLE t_primary REPLICA IDENTITY USING INDEX t_primary_c;
ALTER TABLE t_primary ADD PRIMARY KEY (c, a) INCLUDE (b, g);
CREATE TABLE t_identity PARTITION OF t FOR VALUES IN (9);
CREATE UNIQUE INDEX t_identity_a ON t_identity (a);
CREATE UNIQUE INDEX t_identity_ca ON t_identity (c, a);
ALTER TABLE t_identity REPLICA IDENTITY USING INDEX t_identity_ca;
CREATE TABLE t_fewest PARTITION OF t FOR VALUES IN (10);
CREATE UNIQUE INDEX t_fewest_1 ON t_fewest (a, c);
CREATE UNIQUE INDEX t_fewest_3 ON t_fewest (a);
CREATE UNIQUE INDEX t_fewest_2 ON t_fewest (c COLLATE "C" text_pattern_ops DESC);
CREATE TABLE t_usable PARTITION OF t FOR VALUES IN (11);
ALTER TABLE t_usable ADD PRIMARY KEY (a) DEFERRABLE;
CREATE UNIQUE INDEX "t ""odd""" ON t_usable (c, a);
CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE t_stored PARTITION OF t (PRIMARY KEY (a)) FOR VALUES IN (12) USING other_heap;
SELECT * FROM of_plan('t');

SELECT backfill_start('t', 't', partitions => '{t_none}', on_write => 'catch_up');
SELECT backfill_start('t', 't', partitions => '{t_nullable,t_primary}', on_write => 'catch_up');
SELECT backfill_start('t', 't', partitions => '{t_partial,t_generated,t_class,t_identity}', on_write => 'catch_up');
SELECT backfill_start('t', 't', partitions => '{t_stored}', on_write => 'catch_up', swap => 'storage');
SELECT count(*) FROM backfill_status WHERE target = 'catch_up.t';

-- keys of many kinds of types, and of as many columns as there can be
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE DOMAIN smalls AS small[];
CREATE COLLATION ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE kinds ("k K" int, d small, ds smalls, e mood, es mood[], p pair, r int4range, v varchar(5), b bpchar(3), n name, i text COLLATE ignoring_case,
    PRIMARY KEY ("k K", d, ds, e, es, p, r, v, b, n, i)) PARTITION BY LIST ("k K");
CREATE TABLE kinds_1 PARTITION OF kinds FOR VALUES IN (1);
SELECT * FROM of_plan('kinds', 'kinds');
DO $$
BEGIN
    EXECUTE (SELECT format('CREATE TABLE wide (%s, PRIMARY KEY (%s)) PARTITION BY LIST (c1)', string_agg('c' || n || ' int', ', '), string_agg('c' || n, ', ' ORDER BY n DESC))
             FROM generate_series(1, 32) AS n);
END
$$;
CREATE TABLE wide_1 PARTITION OF wide FOR VALUES IN (1);
SELECT * FROM of_plan('wide');

-- rows to which foreign keys refer, those of a table above too
CREATE TABLE referred (k int PRIMARY KEY) PARTITION BY RANGE (k);
CREATE TABLE referred_1 PARTITION OF referred FOR VALUES FROM (0) TO (10);
CREATE TABLE referred_2 PARTITION OF referred FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (k);
CREATE TABLE referred_2_1 PARTITION OF referred_2 FOR VALUES FROM (10) TO (20);
SELECT * FROM of_plan('referred');
CREATE TABLE of_leaf (k int REFERENCES referred_1 ON DELETE CASCADE);
SELECT * FROM of_plan('referred');
CREATE TABLE of_all (k int REFERENCES referred);
SELECT * FROM of_plan('referred');
SELECT backfill_start('referred', 'referred', partitions => '{referred_2}', on_write => 'catch_up', swap => 'storage');

-- a source that gives the key otherwise
CREATE TABLE s (k int, id varchar(5) COLLATE "C", v int) PARTITION BY RANGE (k);
CREATE TABLE s_1 PARTITION OF s (PRIMARY KEY (id, k)) FOR VALUES FROM (0) TO (10);
CREATE TABLE s_2 PARTITION OF s (PRIMARY KEY (k)) FOR VALUES FROM (10) TO (20);
CREATE TABLE raw (k int, id text, v numeric);
SELECT * FROM of_plan('s', 's');
SELECT * FROM of_plan('s', 'raw');
SELECT * FROM of_plan('s', 'SELECT k, id::varchar(5), v FROM raw');
SELECT * FROM of_plan('s', 'SELECT k, id::varchar(5) COLLATE "C" AS id, v FROM raw');
SELECT backfill_start('s', 'SELECT k, id, v FROM raw', on_write => 'catch_up');
SELECT backfill_start('s', 'SELECT k, id::varchar(5), v FROM raw', on_write => 'catch_up');
-- of other columns the assignment takes care
BEGIN;
SELECT backfill_start('s', $$SELECT k, id::varchar(5) COLLATE "C" AS id, v FROM raw$$, on_write => 'catch_up', swap => 'storage') AS job \gset
SELECT partition, state, phase, swap, keys_behind FROM backfill_progress WHERE job = :job;
ROLLBACK;

-- a source that combines rows of the table
CREATE TABLE raw_s (k int, id varchar(5) COLLATE "C", v int);
CREATE VIEW last_of AS SELECT k, id, max(v) AS v FROM s GROUP BY k, id;
CREATE VIEW plain AS SELECT k, id, v + 1 AS v FROM s WHERE v > 0;
SELECT query, EXISTS (SELECT FROM of_plan('s', query) WHERE hazard LIKE '%combines%') AS combines
FROM (VALUES
    (1, 's'), (2, 'plain'), (3, 'raw_s'), (4, 'last_of'),
    (5, 'SELECT k, id, v FROM s_1'),
    (6, 'SELECT k, id, v + 1 AS v FROM s WHERE v > 0 ORDER BY v'),
    (7, 'SELECT k, id, v FROM s UNION ALL SELECT k, id, v FROM plain'),
    (8, 'WITH s AS (SELECT * FROM s) SELECT k, id, v FROM s'),
    (9, 'SELECT k, id, x.v FROM s CROSS JOIN LATERAL abs(s.v) AS x (v)'),
    (10, 'SELECT k, id, count(*)::int AS v FROM raw_s GROUP BY k, id'),
    (11, 'SELECT k, id, (SELECT 1) AS v FROM s'),
    (12, 'SELECT k, id, (sum(v) OVER (PARTITION BY k))::int AS v FROM s'),
    (13, 'SELECT DISTINCT k, id, v FROM s'),
    (14, 'SELECT k, id, v FROM s_1 LIMIT 100'),
    (15, 'SELECT k, id, v FROM s UNION SELECT k, id, v FROM s'),
    (16, 'SELECT s.k, s.id, raw_s.v FROM s JOIN raw_s USING (k, id)'),
    (17, 'SELECT k, id, (SELECT max(x.v) FROM s AS x WHERE x.k = s.k) AS v FROM s'),
    (18, 'SELECT k, id, v FROM raw_s WHERE EXISTS (SELECT FROM s WHERE s.k = raw_s.k)'),
    (19, 'WITH a AS (SELECT k, v FROM s) SELECT k, id, n AS v FROM raw_s CROSS JOIN (SELECT count(*)::int AS n FROM a) AS b'),
    (20, 'WITH RECURSIVE a AS (SELECT k, id, v FROM s UNION ALL SELECT a.k, a.id, a.v FROM a JOIN s USING (k) WHERE false) SELECT * FROM a'),
    (21, 'SELECT k, id, v FROM (SELECT * FROM last_of) AS l')
) AS source (ordinal, query)
ORDER BY ordinal;
SELECT * FROM of_plan('s', 'last_of');

-- a source that gives rows of the table other keys
SELECT query, EXISTS (SELECT FROM of_plan('s', query) WHERE hazard LIKE '%computes%') AS computes
FROM (VALUES
    (1, 'SELECT k, id, v + 1 AS v FROM s'), (2, 'SELECT s.k, s.id, v FROM s WHERE v > 0'),
    (3, 'WITH w AS (SELECT id, k, v FROM s) SELECT k, id, v FROM w'),
    (4, 'SELECT k, id, v FROM s UNION ALL SELECT k, id, v FROM plain'),
    (5, 'SELECT k + 1 AS k, id, v FROM s'), (6, 'SELECT k, upper(id)::varchar(5) COLLATE "C" AS id, v FROM s'),
    (7, 'SELECT v AS k, id, k AS v FROM s'), (8, 'SELECT k, id, v FROM (SELECT k + 1 AS k, id, v FROM s) AS x'),
    (9, 'SELECT k, id, v FROM s UNION ALL SELECT k + 1, id, v FROM s'), (10, 'SELECT k + 1 AS k, id, v FROM raw_s')
) AS source (ordinal, query)
ORDER BY ordinal;
SELECT * FROM of_plan('s', 'SELECT k + 1 AS k, id, v FROM s');
BEGIN;
SELECT backfill_start('s', 'SELECT k + 1 AS k, id, v FROM s', on_write => 'catch_up') > 0 AS started;
ROLLBACK;
BEGIN;
SELECT backfill_start('s', 'last_of', on_write => 'catch_up') > 0 AS started;
ROLLBACK;
BEGIN;
SELECT backfill_start('s', 'plain', on_write => 'catch_up') > 0 AS started;
ROLLBACK;

SET client_min_messages = warning;
DROP SCHEMA catch_up CASCADE;
DROP ACCESS METHOD other_heap;
