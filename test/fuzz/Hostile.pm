# Calls of functions with arguments that nobody means well with, as SQL text: values by type and by what a parameter is
# called, and the situations in which a call is made. A function or parameter that is new is called, too.
package Hostile;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(allow_any_bytes literal pick functions_of call situation internal_errors);

sub pick { return $_[ int rand @_ ]; }

# What breaks out of quotes, comments, format strings and lengths. Bytes are those of UTF-8.
my @pieces = (
    q('), q(''), q("), q(""), q($$), q($a$), q(--), q(/*), q(*/), ';', '\\', "\\\\'", "\n", "\r\n", "\t", "\x01", "\x7f",
    '{}', '{0}', '{:>1000000000}', '{', '}', '%', '%s%n%d', '%1$s', '$1', '$99999999999', ':x', ':"x"', '@extschema@',
    '(', ')', '[', ']', ',', '.', '..', '*', '=', '0', '-1', '1e400', 'NaN', 'infinity', 'null', 'NULL', 'select',
    'pg_catalog', 'public.', '"public"."t"', 'U&"\\0061"', "\xC3\xA9", "\xE2\x80\xAE", "\xF0\x9F\x98\x80", "\xEF\xBF\xBF",
    'x' x 63, 'x' x 64, "\xC3\xA9" x 32, 'x' x 1000, ' ', '  ', '/', '%5', '5%', "\x0B", '~', '^', '&', '|');

# What a database of SQL_ASCII takes, and no other: bytes that are no characters.
sub allow_any_bytes { push @pieces, "\xFF", "\xC3", "\xF0\x9F", "\x80\x80", "\xED\xA0\x80", "'\xE2'", "\xFE\xFF" x 40; return; }

my @sources = (
    'truth', 'truth', 'v_truth', 'public.truth', 't', 'SELECT k, v FROM truth', 'SELECT * FROM truth', 'TABLE truth',
    'SELECT v, k FROM truth WHERE ($1 IS NULL OR k >= $1) AND ($2 IS NULL OR k < $2)',
    "SELECT k, v FROM truth -- a comment", "/* a comment */ SELECT k, v FROM truth;", '(SELECT k, v FROM truth)',
    'SELECT k, upper(v) AS v FROM t', 'SELECT k, v FROM truth UNION ALL SELECT k, v FROM truth WHERE false',
    'WITH a AS (SELECT * FROM truth) SELECT * FROM a', 'SELECT (truth).* FROM truth', q(SELECT k, v FROM odd."ta 'b"" {} %s"),
);

my @broken_sources = (
    '', ' ', ';', ';;', '--', '/*', 'SELECT', 'SELECT 1', 'SELECT 1; SELECT 2', 'SELECT k, v FROM truth; DROP TABLE truth',
    'WITH d AS (DELETE FROM truth RETURNING *) SELECT * FROM d', 'INSERT INTO truth VALUES (1) RETURNING k, v', 'DELETE FROM truth',
    'UPDATE truth SET v = v RETURNING *', 'COPY truth TO STDOUT', 'COPY truth FROM STDIN', 'SET work_mem = 1', 'RESET ALL',
    'DO $$BEGIN END$$', 'DO $$', 'BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT a', 'SHOW work_mem', 'EXPLAIN SELECT 1', 'VACUUM',
    'FETCH c', 'EXECUTE p', 'DEALLOCATE ALL', 'DISCARD ALL', 'LOCK truth', 'CALL x()', 'VALUES (1)', 'VALUES (1, 2), (3)', 'NOTIFY a',
    'SELECT k, v INTO x FROM truth', 'CREATE TABLE x AS SELECT 1', 'SELECT * FROM truth FOR UPDATE', 'SELECT $3 AS k', '$1',
    'SELECT $1 AS k, $2 AS v', 'SELECT $1::text AS k', 'SELECT $0', 'SELECT k, k, v FROM truth', 'SELECT k, v, 1 AS more FROM truth',
    'SELECT v AS k, k AS v FROM truth', 'SELECT NULL AS k, NULL AS v', 'SELECT 1 / 0 AS k, v FROM truth', "SELECT 'x' AS k, v FROM truth",
    'SELECT k::numeric AS k, v FROM truth', 'SELECT k, v FROM nowhere', 'SELECT ctid, tableoid, k, v FROM truth', 'TABLE pg_class',
    'SELECT generate_series(1, 3) AS k, v FROM truth', 'SELECT count(*)::integer AS k, v FROM truth GROUP BY v', 'nowhere', 'pg_class',
    'SELECT k, v FROM truth WHERE pg_sleep(0.05) IS NOT NULL', 'SELECT k, v FROM truth WHERE k = (SELECT 1 FROM truth)',
    "SELECT k, v FROM truth WHERE set_config('search_path', 'nowhere', false) <> ''", "SELECT k, set_config('work_mem', 'x', false) AS v FROM truth",
    'SELECT k, v FROM truth WHERE pg_advisory_lock(1) IS NOT NULL', 'SELECT k, v FROM truth WHERE lo_create(0) > 0',
    'SELECT k, v FROM truth WHERE public.backfill_cancel(1)', 'SELECT k, v FROM truth, public.backfill_status',
    "SELECT k, v FROM truth WHERE public.backfill_start('t', 'truth') > 0", 'SELECT k, v FROM truth WHERE pg_cancel_backend(pg_backend_pid())',
    'WITH RECURSIVE r AS (SELECT 1 AS k UNION ALL SELECT k + 1 FROM r) SELECT k FROM r LIMIT 100000', 'SELECT k, v FROM only_temp',
    'SELECT DISTINCT ON (k) k, v FROM truth ORDER BY k, v', 'SELECT k, v FROM truth TABLESAMPLE SYSTEM (50)', 'a_view', 'a_sequence', 'an_index',
    'SELECT k, v FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY[1])) AS f (k, v)', "SELECT E'\\", "SELECT U&'\\+1F600' AS k", 'foreign_table',
    'SELECT t.*, truth FROM t, truth', 'SELECT k AS "K", v FROM truth', 'SELECT k, nextval(\'a_sequence\')::text AS v FROM truth', 'public.', '.', '"', 'a.b.c.d',
);

# As expressions, since they are too long to be written out.
my @huge = (
    "repeat('x', 1000000)", "repeat('''', 999999)", "'SELECT k, v FROM truth /*' || repeat('*', 900000) || '*/'",
    "'SELECT ' || repeat('(', 20000) || '1' || repeat(')', 20000)", "repeat('SELECT 1 UNION ALL ', 3000) || 'SELECT 1'",
    "'SELECT k, v FROM truth WHERE k IN (' || repeat('1,', 30000) || '1)'", "repeat('{}', 500000)", "repeat(E'\\n', 1048577)",
    "'\"' || repeat('x', 100000) || '\"'", "repeat('a.', 10000) || 'a'", "'SELECT 1 AS ' || repeat('x', 100000)", "repeat('9', 100000)",
);

my @intervals = (
    '0', '1 second', '10 ms', '1 ms', '1 microsecond', '-1 microsecond', '-1 second', '1 hour', '1 month', '178000000 years',
    '-178000000 years', '2147483647 days', '-2147483648 days', '2562047788 hours', '1 mon -30 days', '-1 mon 31 days', 'infinity',
    '-infinity', '1 year -12 mons', '0.0000004 s', '99999999 hours', '', 'x', '24 days 20:31:23.648');
my @sizes = (
    '16MB', '5%', '1kB', '0', '', '0%', '100%', '101%', '-5%', '-1MB', 'NaN%', 'NaN', 'inf', 'inf%', '1e308TB', '1e400%', '0x10MB', '1 kB',
    '99999999999999999999999GB', '1GBB', '%', 'MB', '5%%', '1,5MB', '1e-400', ' 5% ', "5%\n", '5MB;', '9223372036854775807', '9223372036854775808',
    '8388608TB', '0.5B', '+5MB', '5mb', '5MiB', '1e5', '١MB');
my @queries = (
    'SELECT false', 'SELECT 0', 'SELECT 1', 'SELECT true', 'SELECT NULL', 'SELECT', 'SELECT 1, 2', "SELECT 'x'", 'SELECT 1; SELECT 2', 'SELECT 1 / 0',
    'SELECT false -- a comment', 'SELECT generate_series(1, 3) > 2', 'SELECT 1 WHERE false', "SELECT 'NaN'::float8", 'SELECT -1e308', 'SELECT ARRAY[1]',
    'DELETE FROM truth RETURNING true', 'COMMIT', 'SET work_mem = 1', 'SELECT $1', 'DO $$BEGIN END$$', 'SELECT pg_sleep(0.01) IS NULL',
    'SELECT now() IS NULL', 'TABLE truth', 'SELECT ROW(1)', 'SELECT 1 FOR UPDATE', 'EXPLAIN SELECT 1', 'SELECT 9223372036854775807', 'SELECT 1e1000::numeric');
my @bounds = (
    '0', '1', '10', '15', '25', '39', '40', '100', '-5', ' 5 ', '5.5', '1e3', '2147483647', '2147483648', '-2147483649', '99999999999999999999', 'NaN',
    'infinity', '-infinity', 'MINVALUE', 'MAXVALUE', '', 'a', 'm', 'zz', '2024-01-01', '2024-02-30', '294276-12-31', '4714-11-24 BC', 'now', '{1,2}', '(1,2)');
my @relations = (
    qw(t t t t list_table hash_table multi sub sub_1 timed t_1 t_2 truth v_truth a_view a_sequence an_index foreign_table a_matview a_type t_pkey with_default
        pg_class pg_catalog.pg_attribute pg_toast.pg_toast_1255 information_schema.tables public.backfill_job public.backfill_control public.backfill_status
        inherited empty strange), q('odd."ta ''b"" {} %s"'), q('nowhere'), q('"'), q(''), q('pg_temp.only_temp'));
my @numbers = (0, 1, 2, 3, 5, -1, 64, 100, 1000, 1001, 32767, 2147483647, -2147483648);
my @floats = qw(0 1 0.5 -1 -0.0 NaN Infinity -Infinity 1e308 1e-320 1000 1000.0001 1e16);

# As SQL reads it, whatever standard_conforming_strings is.
sub literal {
    my ($text) = @_;
    $text =~ s/([\\'])/$1$1/g;
    $text =~ s/\n/\\n/g;
    $text =~ s/\r/\\r/g;
    return "E'$text'";
}

sub noise { return join '', map { pick(@pieces) } 1 .. 1 + int rand 4; }

sub text {
    my ($name, $sane) = @_;
    my %known = (
        source => [ \@sources, [ @sources, @broken_sources, @broken_sources ] ],
        throttle_query => [ [ @queries[ 0, 1 ] ], \@queries ],
        max_wal_rate => [ ['16MB'], \@sizes ],
        min_free_disk => [ [ '0', '1kB' ], \@sizes ],
        range_start => [ [qw(0 10 15)], \@bounds ],
        range_end => [ [qw(20 30)], \@bounds ],
        on_write => [ [qw(rebuild catch_up block ignore)], ['Rebuild'] ],
        on_error => [ [qw(continue stop)], ['STOP'] ],
        swap => [ [qw(auto attach storage)], ['attach '] ],
        publish => [ [qw(each together manual)], ['Manual'] ]);
    my ($good, $all) = @{ $known{$name} // [ [''], [@sources] ] };
    return literal(pick(@$good)) if $sane;
    my $kind = rand;
    return literal(pick(@$all)) if $kind < 0.6;
    return pick(@huge) if $kind < 0.63;
    return literal(pick(@$all) . noise()) if $kind < 0.8;
    return literal(noise() . pick(@$all)) if $kind < 0.85;
    return literal(noise());
}

sub relation {
    my ($sane) = @_;
    return "'t'" if $sane;
    my $kind = rand;
    return pick(qw(0 1 4294967295 1259 2619 16383 999999), 'public.gone()', 'public.gone()') . '::oid::regclass' if $kind < 0.2;
    my $name = pick(@relations);
    return $name =~ /^'/ ? $name : "'$name'";
}

sub relations {
    my ($sane) = @_;
    return pick("ARRAY['t_1']", "ARRAY['t_2', 't_3']") . '::regclass[]' if $sane;
    return pick(
        "'{}'::regclass[]", 'ARRAY[NULL]::regclass[]', "ARRAY['t_1', NULL]::regclass[]", "'{{t_1,t_2},{t_3,t_4}}'::regclass[]",
        "'[5:6]={t_1,t_2}'::regclass[]", "ARRAY['t_1', 't_1']::regclass[]", "array_fill('t_1'::regclass, ARRAY[10000])",
        "array_fill(0::oid::regclass, ARRAY[3])", "ARRAY[public.gone()]::regclass[]", "(SELECT array_agg(oid)::regclass[] FROM pg_class)",
        "'{{{{{{t_1}}}}}}'::regclass[]", 'ARRAY[' . join(',', map { relation(0) . '::regclass' } 1 .. 3) . ']');
}

my @audits = (
    'SELECT k FROM {shadow} WHERE v IS NULL', 'SELECT k FROM {live} EXCEPT SELECT k FROM {shadow}', 'SELECT {range_start}, {range_end} WHERE false',
    'SELECT s.k FROM {live} AS l FULL JOIN {shadow} AS s USING (k) WHERE l.k IS NULL', 'SELECT {shadow}.k FROM {shadow}, {live} WHERE false',
    'SELECT FROM {shadow}', 'TABLE {live}', 'SELECT 1 AS a, NULL AS a', "SELECT '{shadow} {live} {range_start}'", 'SELECT {nothing}', '{shadow}', '{', '{}');

sub audits {
    my ($sane) = @_;
    return pick("'{}'", "ARRAY['$audits[0]', '$audits[1]']") . '::text[]' if $sane;
    return pick("'{}'::text[]", 'ARRAY[NULL]::text[]', "'{{SELECT 1,SELECT 2},{a,b}}'::text[]", "array_fill('SELECT FROM {shadow}'::text, ARRAY[1000])",
        'ARRAY[' . pick(@huge) . ']::text[]') if rand() < 0.2;
    return 'ARRAY[' . join(', ', map { rand() < 0.7 ? literal(pick(@audits)) : text('throttle_query') } 1 .. 1 + int rand 3) . ']::text[]';
}

my %by_type = (
    text => \&text,
    'text[]' => sub { audits($_[1]) },
    regclass => sub { relation($_[1]) },
    'regclass[]' => sub { relations($_[1]) },
    boolean => sub { pick(qw(true false)) },
    integer => sub { ($_[1] ? pick(1, 2) : pick(@numbers)) . '::integer' },
    bigint => sub {
        my $newest = '(SELECT max(job) FROM public.backfill_status)';
        return $newest if $_[1];
        return pick($newest, "($newest - 1)", 0, 1, 2, -1, '9223372036854775807', "(-9223372036854775807 - 1)", 4294967296) . '::bigint';
    },
    oid => sub { return pick("'jo'::regrole", "'postgres'::regrole", "'t'::regclass", 0, 1, 10, 4294967295) . '::oid' },
    interval => sub { literal($_[1] ? pick('0', '10 ms') : pick(@intervals)) . '::interval' },
    'double precision' => sub { literal($_[1] ? 0 : pick(@floats)) . '::float8' });

sub value {
    my ($parameter, $sane) = @_;
    my $of_type = $by_type{ $parameter->{type} };
    return 'NULL' if !$sane && rand() < 0.15;
    # Of a type that is not known here yet.
    return literal(noise()) . "::$parameter->{type}" if !$of_type;
    return $of_type->($parameter->{name}, $sane);
}

# The functions of the extension, as the catalog has them: name and input parameters with their types and defaults.
sub functions_of {
    my ($node) = @_;
    my $rows = $node->safe_psql('postgres', <<'SQL');
        SELECT p.oid::regproc, p.pronargs, p.pronargdefaults,
               COALESCE(array_to_string(p.proargnames[1:p.pronargs], ','), ''),
               (SELECT COALESCE(string_agg(a.type::regtype::text, ',' ORDER BY a.i), '')
                FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, i))
        FROM pg_proc AS p
        JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
        WHERE e.extname = 'partbackfill'
        ORDER BY 1
SQL
    my @functions;
    for my $row (split /\n/, $rows) {
        my ($name, $count, $defaults, $names, $types) = split /\|/, $row, -1;
        my @names = split /,/, $names;
        my @types = split /,/, $types;
        push @functions, {
            name => $name =~ /\./ ? $name : "public.$name",
            required => $count - $defaults,
            parameters => [ map { { name => $names[$_] // '', type => $types[$_] } } 0 .. $count - 1 ] };
    }
    return @functions;
}

# One call. Mostly only one argument is hostile, as an early refusal would hide what the others can do.
sub call {
    my ($function) = @_;
    my @parameters = @{ $function->{parameters} };
    my $victim = @parameters ? int rand @parameters : -1;
    my $wild = rand() < 0.15;
    my $tame = rand() < 0.3;
    my $positional = rand() < 0.3;
    my @arguments;
    for my $i (0 .. $#parameters) {
        my $needed = $i < $function->{required} || $i == $victim;
        last if $positional && !$needed && $i > $victim && rand() < 0.8;
        next if !$positional && !$needed && rand() < 0.75;
        my $sane = !$wild && ($i != $victim || $tame);
        my $value = value($parameters[$i], $sane);
        push @arguments, $positional || $parameters[$i]{name} eq '' ? $value : "$parameters[$i]{name} => $value";
    }
    # A number of arguments that no function has is the parser's to refuse.
    push @arguments, 'NULL' if rand() < 0.005;
    return "$function->{name}(" . join(', ', @arguments) . ')';
}

my @settings = (
    "IntervalStyle = 'sql_standard'", "IntervalStyle = 'iso_8601'", "DateStyle = 'German, DMY'", 'standard_conforming_strings = off',
    'extra_float_digits = -15', 'quote_all_identifiers = on', 'array_nulls = off', "TimeZone = 'Asia/Kathmandu'", 'lock_timeout = 1',
    'row_security = off', 'default_transaction_read_only = on', "default_transaction_isolation = 'serializable'", "search_path = ''",
    'search_path = odd, pg_temp', 'search_path = pg_temp', "search_path = '\$user', nowhere", 'check_function_bodies = off', "client_min_messages = 'debug2'",
    "plan_cache_mode = 'force_generic_plan'", 'transform_null_equals = on', 'work_mem = 64', 'temp_buffers = 100', "bytea_output = 'escape'",
    "app.x = '{} %s '' \\ '", 'max_parallel_workers_per_gather = 0', 'enable_indexscan = off', 'jit = off', 'backslash_quote = off',
    'default_tablespace = nowhere', 'xmloption = document', 'statement_timeout = 7', 'idle_in_transaction_session_timeout = 1000',
    "session_replication_role = 'replica'", 'escape_string_warning = off', 'role = stranger', 'transaction_deferrable = on', 'synchronous_commit = off');

# The situations, each as SQL around a call; %locks stands where the session may hold none. A transaction that is left
# open ends with the check that follows.
sub situation {
    my ($call, $other, $parallel) = @_;
    my $query = "SELECT * FROM $call";
    return pick(
        sub { "$query;" },
        sub { "$query;" },
        sub { "SELECT $call;" },
        sub { "DO " . literal("BEGIN PERFORM * FROM $call; EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'CAUGHT %: %', SQLSTATE, SQLERRM; END") . ';' },
        sub { "DO " . literal("BEGIN BEGIN PERFORM $call; EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'CAUGHT %: %', SQLSTATE, SQLERRM; END;"
                    . " PERFORM * FROM $other; END") . ';' },
        sub { "PREPARE p AS $query;\nEXECUTE p;\nEXECUTE p;\nDEALLOCATE p;" },
        sub { "BEGIN;\nSAVEPOINT a;\n$query;\nROLLBACK TO a;\n%locks\nSELECT * FROM $other;\nCOMMIT;" },
        sub { "BEGIN;\nSAVEPOINT a;\n$query;\nRELEASE a;\nSAVEPOINT b;\nSELECT * FROM $other;\nROLLBACK TO b;\nCOMMIT;" },
        sub { "BEGIN;\n$query;\nROLLBACK;" },
        sub { "BEGIN READ ONLY;\n$query;\nCOMMIT;" },
        sub { "BEGIN ISOLATION LEVEL " . pick('SERIALIZABLE', 'REPEATABLE READ', 'SERIALIZABLE READ ONLY DEFERRABLE') . ";\n$query;\nSELECT * FROM $other;\nCOMMIT;" },
        sub { "BEGIN;\nDECLARE c CURSOR FOR $query;\nFETCH 1 FROM c;\nMOVE ALL FROM c;\nCLOSE c;\nCOMMIT;" },
        sub { "BEGIN;\nDECLARE c CURSOR WITH HOLD FOR $query;\nCOMMIT;\nFETCH ALL FROM c;\nCLOSE ALL;" },
        sub { "INSERT INTO public.trap VALUES (" . literal($call) . ');' },
        sub { "BEGIN;\nINSERT INTO public.deferred_trap VALUES (" . literal($call) . ");\nCOMMIT;" },
        sub { "BEGIN;\nSET LOCAL fuzz.call = " . literal($call) . ";\nCREATE TEMP SEQUENCE s;\nDROP SEQUENCE s;\nCOMMIT;" },
        sub { "BEGIN;\nSET LOCAL statement_timeout = " . (1 + int rand 30) . ";\n$query;\nROLLBACK;" },
        sub { "BEGIN;\nSET LOCAL $parallel = on;\n$query;\nCOMMIT;" },
        sub { "EXPLAIN (ANALYZE, TIMING off) $query;" },
        sub { "COPY ($query) TO STDOUT;" },
        sub { "SELECT * FROM generate_series(1, 3) AS g LEFT JOIN LATERAL $call AS f ON true;" },
        sub { "SELECT public.as_definer(" . literal($call) . ');' },
        sub {
            my $view = 'public.restricted_' . int rand 1_000_000_000;
            return "CREATE MATERIALIZED VIEW $view AS $query;\nDROP MATERIALIZED VIEW IF EXISTS $view;";
        },
        sub { "BEGIN;\nSET LOCAL ROLE stranger;\n$query;\nCOMMIT;" },
        sub { "BEGIN;\nSET LOCAL " . pick(@settings) . ";\n$query;\nCOMMIT;" },
        sub { "BEGIN;\nSET LOCAL " . pick(@settings) . ";\nSET LOCAL " . pick(@settings) . ";\n$query;\nCOMMIT;" },
    )->();
}

# Lines of psql's complaints, with VERBOSITY verbose, that no argument may bring about: internal errors, violations of
# constraints that are none of the caller's, and what only a library of C++ says. A message may repeat what it was given, but
# not at its beginning.
sub internal_errors {
    return grep {
        /(?:ERROR|FATAL|PANIC|WARNING):  (?:XX|23)\w{3}: |CAUGHT (?:XX|23)/
            || /(?:ERROR|FATAL|WARNING):  \w{5}: .{0,20}(?:std::|basic_string|vector::|bad_|unexpected C\+\+|an error of no known kind)/
            || /server closed the connection|connection to server was lost|PANIC/
    } split /\n/, $_[0];
}

1;
