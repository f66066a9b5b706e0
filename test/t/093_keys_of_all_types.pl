# Keys of all kinds of types: rows that are written during a build are found by them again, also when a key is written in
# another way than before, as 1.0 and 1.00 are.
use strict;
use warnings;

use Backfill;
use CatchUp;
use Test::More;

my $node = new_node('keys', settings => [ 'max_worker_processes = 100', 'max_connections = 150', 'jit = off' ]);
my $holder = session($node);

sub has {
    my ($query) = @_;
    return $node->safe_psql('postgres', "SELECT EXISTS ($query)") eq 't';
}
my $has_citext = has(q{SELECT FROM pg_available_extensions WHERE name = 'citext'});
my $has_icu = has(q{SELECT FROM pg_collation WHERE collprovider = 'i'});
$node->safe_psql('postgres', 'CREATE EXTENSION citext') if $has_citext;
$node->safe_psql('postgres', q{CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)}) if $has_icu;
$node->safe_psql('postgres', <<'SQL');
    CREATE SCHEMA "Odd schema";
    CREATE TYPE mood AS ENUM ('sad', 'so so', 'ok', 'fine', 'happy', 'glad');
    CREATE DOMAIN small AS int CHECK (VALUE < 100);
    CREATE DOMAIN "Odd schema"."Odd domain" AS numeric(6, 2);
    CREATE TYPE pair AS (a int, b text);
    CREATE FUNCTION wide(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 75) AS i $$;
SQL

# [ type, six values, the fourth in another way ]: rows have the first four at first. The first is changed, the second deleted,
# the third becomes the sixth, the fifth is inserted, and the fourth is deleted and inserted again in that other way.
my @types = (
    [ 'int2', [ -1, 0, 1, 2, 3, 32767 ] ],
    [ 'int8', [ -1, 0, 1, 2, 3, '9223372036854775807' ] ],
    [ 'oid', [ 0, 1, 2, 3, 4, '4294967295' ] ],
    [ 'numeric', [ 0, "'NaN'", '1e30', '1.0', '1.1', "'-Infinity'" ], '1.00' ],
    [ 'numeric(10, 3)', [ 0, "'NaN'", '1.5', '2', '3', '4.125' ], '2.000' ],
    [ 'float8', [ "'NaN'", '1e300', '0.1', q{'-0'}, "'Infinity'", "'-Infinity'" ], '0' ],
    [ 'float4', [ "'NaN'", q{'1e30'}, q{'0.5'}, '0', "'Infinity'", "'-Infinity'" ], q{'-0'} ],
    [ 'money', [ map { "'$_'" } qw(0 1 2 3 4 -5) ] ],
    [ 'text', [ map { "'$_'" } '', 'a', 'A', ' a', q{''}, '\\' ] ],
    [ 'text COLLATE "C"', [ map { "'$_'" } '', 'a', 'A', ' a', 'B', 'b' ] ],
    [ 'varchar(10)', [ map { "'$_'" } '', 'a', 'A', 'b', 'c', 'd ' ] ],
    [ 'bpchar(5)', [ map { "'$_'" } '', 'a', 'A', 'b', 'c', 'd' ], q{'b   '} ],
    [ 'bpchar', [ map { "'$_'" } '', 'a', 'A', 'b', 'c', 'd' ], q{'b   '} ],
    [ 'name', [ map { "'$_'" } '', 'a', 'A', 'b', 'c', 'd' ] ],
    [ '"char"', [ map { "'$_'" } '', 'a', 'A', 'b', 'c', 'd' ] ],
    [ 'bytea', [ map { "'\\x$_'" } '', '00', '0000', 'ff', '5c', '27' ] ],
    [ 'uuid', [ map { "'0000000$_-0000-4000-8000-000000000000'" } 0 .. 5 ] ],
    [ 'date', [ map { "'$_'" } 'infinity', '-infinity', '2024-02-29', '0044-03-15 BC', '2000-01-01', '1999-12-31' ] ],
    [ 'time', [ map { "'$_'" } '00:00', '24:00', '12:00:00.000001', '13:00', '14:00', '15:00' ] ],
    [ 'timetz', [ map { "'$_'" } '00:00+00', '24:00+01', '12:00+02', '13:00+00', '14:00-07', '15:00+13' ] ],
    [ 'timestamp', [ map { "'$_'" } 'infinity', '-infinity', '2024-02-29 1:00', '2024-01-01', '2000-01-01', '1999-12-31' ] ],
    [ 'timestamptz', [ map { "'$_'" } 'infinity', '-infinity', '2024-03-31 2:30+01', '2024-01-01 00:00+00', '2000-01-01', '1999-12-31' ],
        q{'2024-01-01 01:00+01'} ],
    [ 'interval', [ map { "'$_'" } '0', '1 month', '-1 day', '1 day', '1 s', '100 years' ], q{'24 hours'} ],
    [ 'inet', [ map { "'$_'" } '10.0.0.1', '10.0.0.1/8', '::1', '10.0.0.2/32', '0.0.0.0/0', '10.0.0.0/8' ], q{'10.0.0.2'} ],
    [ 'cidr', [ map { "'$_'" } '10.0.0.1', '10.0.0.0/8', '::1', '10.0.0.2/32', '0.0.0.0/0', '10.1.0.0/16' ] ],
    [ 'macaddr8', [ map { "'08:00:2b:01:02:03:04:0$_'" } 0 .. 5 ] ],
    [ 'bit(4)', [ map { "B'$_'" } '0000', '0001', '0010', '0100', '1000', '1111' ] ],
    [ 'varbit', [ map { "B'$_'" } '', '0', '00', '1', '10', '11111111111' ] ],
    [ 'pg_lsn', [ map { "'0/$_'" } 0 .. 5 ] ],
    [ 'mood', [ map { "'$_'" } 'sad', 'so so', 'ok', 'fine', 'happy', 'glad' ] ],
    [ 'small', [ 0, 1, 2, 3, 4, 99 ] ],
    [ '"Odd schema"."Odd domain"', [ '0', '1.25', '2', '3', '4', '5.5' ], '3.000' ],
    [ 'int[]', [ map { "'$_'" } '{}', '{NULL}', '{1,2}', '{{1},{2}}', '[0:1]={1,2}', '{3}' ] ],
    [ 'numeric[]', [ map { "'$_'" } '{}', '{7}', '{1,2}', '{1.0}', '{NULL}', '{NaN}' ], q{'{1.00}'} ],
    [ 'int4range', [ map { "'$_'" } 'empty', '[1,2)', '(,)', '[1,10]', '(1,5)', '[7,)' ], q{'[1,11)'} ],
    [ 'int4multirange', [ map { "'$_'" } '{}', '{[1,2)}', '{(,)}', '{[1,3),[5,7)}', '{(1,5)}', '{[7,)}' ] ],
    [ 'numrange', [ map { "'$_'" } 'empty', '[1,2)', '(,)', '[1.0,10]', '(1,5)', '[7,)' ], q{'[1,10.00]'} ],
    [ 'pair', [ map { "'$_'::pair" } '(1,a)', '(1,)', '(,)', '(2,b)', '(2,a)', '(3,"x y")' ] ],
    [ 'jsonb', [ map { "'$_'" } '{}', '[]', '1', '{"a": 1.0}', '"a"', 'null' ], q{'{"a": 1.00}'} ],
    [ 'tsvector', [ map { "'$_'" } '', 'a', 'b', 'a b', 'a:1', 'c' ], q{'b a'} ],
    # Long ones: compressed, as they are, and out of line.
    [ 'text', [ map { "repeat('$_', 50000)" } 'a' .. 'f' ] ],
    [ 'text', [ map { "wide($_)" } 1 .. 6 ], undef,
        'ALTER TABLE {t}_1 ALTER k SET STORAGE EXTERNAL; ALTER TABLE {t}_1 SET (toast_tuple_target = 128)' ]);
push @types, [ 'citext', [ map { "'$_'" } '', 'a', 'b', 'Word', 'c', 'd' ], q{'wORD'} ], [ 'citext[]', [ map { "'{$_}'" } '', 'a', 'b', 'Word', 'c', 'd' ], q{'{wORD}'} ]
    if $has_citext;
push @types, [ 'text COLLATE no_case', [ map { "'$_'" } '', 'a', 'b', 'Word', 'c', 'd' ], q{'wORD'} ],
    [ 'varchar(9) COLLATE no_case', [ map { "'$_'" } '', 'a', 'b', 'Word', 'c', 'd' ], q{'wORD'} ] if $has_icu;

# The tables, each with one partition. {t} is its name; `key` are the columns of its key beside p.
my @tables = map {
    my ($type, $values, $other, $more) = @$_;
    { name => $type, key => 'k', rows => [ @$values, $other // $values->[3] ],
        create => "CREATE TABLE {t} (p int, v text, k $type, PRIMARY KEY (k, p)) PARTITION BY LIST (p);"
            . " CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES IN (1); " . ($more // '') }
} @types;
my @many = map { "c$_" } 1 .. 31;
push @tables,
    { name => 'as many columns as there can be', key => join(', ', @many),
    create => 'CREATE TABLE {t} (p int, v text, ' . join(', ', map { "$_ int" } @many) . ', PRIMARY KEY (p, ' . join(', ', reverse @many) . '))'
        . ' PARTITION BY LIST (p); CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES IN (1)',
    rows => [ map { my $n = $_; join(', ', map { $_ == 17 ? $n : $_ } 1 .. 31) } 1 .. 6, 4 ] },
    { name => 'quoted names', key => q{"K ""1""", "select"}, rows => [ map { "$_, 'x''y$_'" } 1 .. 6, 4 ], create => <<'SQL' },
        CREATE TABLE {t} (p int, v text, "K ""1""" int, "select" text, PRIMARY KEY ("select", p, "K ""1""")) PARTITION BY LIST (p);
        CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES IN (1)
SQL
    { name => 'dropped columns', key => 'a, b', rows => [ map { "'a$_', $_" } 1 .. 6, 4 ], create => <<'SQL' },
        CREATE TABLE {t} (gone int, p int, v text, b int, also_gone text, a text, PRIMARY KEY (a, p, b)) PARTITION BY LIST (p);
        CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES IN (1);
        ALTER TABLE {t} DROP gone, DROP also_gone
SQL
    { name => 'other numbers of columns in the partition', key => 'a, b', rows => [ map { "'a$_', $_" } 1 .. 6, 4 ], create => <<'SQL' },
        CREATE TABLE {t} (p int, v text, b int, gone int, a text, PRIMARY KEY (a, p, b)) PARTITION BY LIST (p);
        ALTER TABLE {t} DROP gone;
        CREATE TABLE {t}_1 (b int NOT NULL, x int, a text NOT NULL, v text, y int, p int NOT NULL, PRIMARY KEY (a, p, b));
        ALTER TABLE {t}_1 DROP x, DROP y;
        ALTER TABLE {t} ATTACH PARTITION {t}_1 FOR VALUES IN (1)
SQL
    { name => 'a unique index', key => 'a', rows => [ 1 .. 6, 4 ], create => <<'SQL' };
        CREATE TABLE {t} (p int NOT NULL, v text, a int NOT NULL, b int) PARTITION BY LIST (p);
        CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES IN (1);
        CREATE UNIQUE INDEX ON {t} (a DESC, p)
SQL

# The statements for all tables, as a text each, in one go.
sub for_each {
    my ($method, $statements) = @_;
    my $n = 0;
    return $node->safe_psql('postgres',
        join("\n", map { my $text = $statements->($_); my $t = "${method}_" . $n++; $text =~ s/\{t\}/$t/gr . ';' } @tables));
}

my $lines = 'SELECT md5(string_agg(x, chr(10) ORDER BY x)), left(string_agg(left(x, 40), chr(32) ORDER BY x), 500) FROM (SELECT x::text FROM {t} AS x) AS y (x)';
for my $method (qw(attach storage)) {
    close_gate($holder, 1);
    for_each($method, sub {
            my ($table) = @_;
            return join(";\n", $table->{create}, map { "INSERT INTO {t} (p, v, $table->{key}) VALUES (1, 'old', $_)" } @{ $table->{rows} }[ 0 .. 3 ]);
    });
    my @jobs = split /\n/, for_each($method, sub {
            # The columns in the order of the table, so that its rows can be compared as texts.
            return <<"SQL" =~ s/\s*\z//r;
                SELECT backfill_start('{t}', (
                           SELECT format('SELECT %s FROM {t} WHERE pass_gate(1)',
                                         string_agg(CASE attname WHEN 'v' THEN '''new '' || v AS v' ELSE quote_ident(attname) END, ', ' ORDER BY attnum))
                           FROM pg_attribute WHERE attrelid = '{t}'::regclass AND attnum > 0 AND NOT attisdropped),
                       swap => '$method', on_write => 'catch_up', delay => '0', keep_old => false, lock_timeout => '5 s')
SQL
    });
    await($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (0, 1, 1) AND NOT granted},
        scalar @tables);
    for_each($method, sub {
            my ($table) = @_;
            my ($key, $rows) = ($table->{key}, $table->{rows});
            return join(";\n", "UPDATE {t} SET v = 'w' WHERE ($key) = ($rows->[0])", "DELETE FROM {t} WHERE ($key) = ($rows->[1])",
                "UPDATE {t} SET ($key) = ROW($rows->[5]) WHERE ($key) = ($rows->[2])", "INSERT INTO {t} (p, v, $key) VALUES (1, 'inserted', $rows->[4])",
                "DELETE FROM {t} WHERE ($key) = ($rows->[3])", "INSERT INTO {t} (p, v, $key) VALUES (1, 'again', $rows->[6])");
    });
    # A write that is rolled back logs nothing.
    my @truth = split /\n/, for_each($method, sub { return "BEGIN; UPDATE {t} SET v = 'new ' || v; $lines; ROLLBACK" });
    is($node->safe_psql('postgres', <<'SQL'), '7', "$method: every key that was written is logged, and no other");
        SELECT string_agg(DISTINCT logged::text, ' ')
        FROM (SELECT (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s', oid::regclass), false, true, '')))[1] AS logged
              FROM pg_class WHERE relname LIKE 'partbackfill\_keys\_%' AND relkind = 'r') AS logs
SQL
    open_gate($holder, 1);
    for my $i (0 .. $#tables) {
        my $title = "$method, $tables[$i]{name}";
        is(wait_job($node, $jobs[$i]), 'done', "$title: the job is done")
            or diag($node->safe_psql('postgres', "SELECT * FROM backfill_progress WHERE job = $jobs[$i]"));
    }
    is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT concat_ws(' ', attempts, rebuilds), ', ') FROM backfill_progress}), '1 0',
        "$method: in one build each");
    my @rows = split /\n/, for_each($method, sub { return $lines });
    is($rows[$_], $truth[$_], "$method, $tables[$_]{name}: the rows are right") for 0 .. $#tables;
    is(for_each($method, sub { return 'SELECT count(*) FROM {t}' }) =~ s/\n//gr, '4' x @tables, "$method: four rows in each table");
    check_clean($node, $method);
}

$holder->quit;
$node->stop;
done_testing();
