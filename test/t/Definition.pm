# What a table is besides its rows, as texts that are compared before and after.
package Definition;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(dump_schema catalog_lines);

# What pg_dump writes of the database, without rows.
sub dump_schema {
    my ($node) = @_;
    my ($dump, $errors) = run_command([ 'pg_dump', '--schema-only', '--dbname', $node->connstr('postgres') ]);
    die $errors if $errors;
    return join "\n", grep { !/^\\(un)?restrict / } split /\n/, $dump;
}

# What the catalogs know of the leaves, without numbers: more than pg_dump looks at. A line each.
sub catalog_lines {
    my ($node) = @_;
    return $node->safe_psql('postgres', <<'SQL');
        SET search_path = pg_catalog;
        CREATE TEMP VIEW leaf AS
            SELECT c.* FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relispartition AND c.relkind = 'r' AND n.nspname IN ('main', 'Other schema');
        CREATE TEMP VIEW object AS
            SELECT 'pg_class'::regclass AS class, oid FROM leaf
            UNION ALL
            SELECT 'pg_type'::regclass, reltype FROM leaf
            UNION ALL
            SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM leaf)
            UNION ALL
            SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid IN (SELECT oid FROM leaf)
            UNION ALL
            SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM leaf)
            UNION ALL
            SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM leaf)
            UNION ALL
            SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid IN (SELECT oid FROM leaf)
            UNION ALL
            SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxrelid IN (SELECT oid FROM leaf)
            UNION ALL
            SELECT 'pg_publication_rel'::regclass, oid FROM pg_publication_rel WHERE prrelid IN (SELECT oid FROM leaf);
        CREATE TEMP VIEW line AS
        SELECT concat_ws(' ', 'table', leaf.oid::regclass, relpersistence, amname, spcname, relowner::regrole, relacl,
                         leaf.reloptions, '(' || (SELECT reloptions FROM pg_class AS t WHERE t.oid = leaf.reltoastrelid)::text || ')',
                         relreplident, relhasindex, relhastriggers, relrowsecurity, relforcerowsecurity,
                         inhparent::regclass, pg_get_expr(relpartbound, leaf.oid)) AS text
        FROM leaf JOIN pg_am ON pg_am.oid = relam JOIN pg_inherits ON inhrelid = leaf.oid
        LEFT JOIN pg_tablespace AS s ON s.oid = reltablespace
        UNION ALL
        SELECT concat_ws(' ', 'column', attrelid::regclass, attname,
                         row_number() OVER (PARTITION BY attrelid ORDER BY attnum), format_type(atttypid, atttypmod),
                         attnotnull, atthasdef, pg_get_expr(adbin, adrelid), attidentity, attgenerated, attislocal,
                         attinhcount, attstorage, attcompression, COALESCE(attstattarget, -1),
                         (SELECT array_agg(o) FROM unnest(attoptions) AS o WHERE o !~ '^pg_attver='), -- the server's own
                         attacl,
                         attcollation::regcollation)
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid IN (SELECT oid FROM leaf) AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT concat_ws(' ', 'index', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), indisunique, indisprimary,
                         indisexclusion, indimmediate, indisclustered, indisvalid, indisready, indislive, indisreplident,
                         indnullsnotdistinct, inhparent::regclass, c.relowner::regrole, c.reloptions, spcname,
                         (SELECT string_agg(COALESCE(attstattarget, -1)::text, ',' ORDER BY attnum) FROM pg_attribute
                          WHERE attrelid = i.indexrelid))
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = indexrelid LEFT JOIN pg_inherits ON inhrelid = indexrelid
        LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace
        WHERE indrelid IN (SELECT oid FROM leaf)
        UNION ALL
        SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid), contype, condeferrable,
                         condeferred, convalidated, conislocal, coninhcount, connamespace::regnamespace,
                         -- which means nothing for others, and differs by whether they came by CREATE or by ATTACH
                         CASE WHEN contype IN ('c', 'n') THEN connoinherit END,
                         conindid::regclass, (SELECT p.conname FROM pg_constraint AS p WHERE p.oid = k.conparentid))
        FROM pg_constraint AS k WHERE conrelid IN (SELECT oid FROM leaf)
        UNION ALL
        SELECT concat_ws(' ', 'trigger', tgrelid::regclass, tgenabled, tgisinternal, pg_get_triggerdef(oid),
                         (SELECT p.tgname || ' ' || p.tgrelid::regclass FROM pg_trigger AS p WHERE p.oid = t.tgparentid))
        FROM pg_trigger AS t WHERE tgrelid IN (SELECT oid FROM leaf)
        UNION ALL
        SELECT concat_ws(' ', 'policy', polrelid::regclass, polname, polcmd, polpermissive, polroles::regrole[],
                         pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
        FROM pg_policy WHERE polrelid IN (SELECT oid FROM leaf)
        UNION ALL
        SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(oid), stxowner::regrole, COALESCE(stxstattarget, -1))
        FROM pg_statistic_ext WHERE stxrelid IN (SELECT oid FROM leaf)
        UNION ALL
        SELECT concat_ws(' ', 'published', prrelid::regclass, pubname, pg_get_expr(prqual, prrelid),
                         (SELECT string_agg(attname, ',' ORDER BY attname) FROM pg_attribute
                          WHERE attrelid = prrelid AND attnum = ANY (prattrs)))
        FROM pg_publication_rel JOIN pg_publication AS p ON p.oid = prpubid WHERE prrelid IN (SELECT oid FROM leaf)
        UNION ALL
        SELECT concat_ws(' ', 'depends', pg_describe_object(classid, objid, objsubid), deptype,
                         pg_describe_object(refclassid, refobjid, refobjsubid))
        FROM pg_depend
        WHERE (classid, objid) IN (SELECT class, oid FROM object) OR (refclassid, refobjid) IN (SELECT class, oid FROM object)
        UNION ALL
        SELECT concat_ws(' ', 'depends', pg_describe_object(classid, objid, objsubid), deptype,
                         pg_describe_object(refclassid, refobjid, 0))
        FROM pg_shdepend
        WHERE (classid, objid) IN (SELECT class, oid FROM object)
          AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL
        SELECT concat_ws(' ', 'comment', pg_describe_object(classoid, objoid, objsubid), description)
        FROM pg_description WHERE (classoid, objoid) IN (SELECT class, oid FROM object);
        SELECT regexp_replace(regexp_replace(text, E'\n', ' ', 'g'), '(pg_toast_|Unique_ConstraintTrigger_)\d+', '\1N', 'g') AS text
        FROM line ORDER BY text;
SQL
}

1;
