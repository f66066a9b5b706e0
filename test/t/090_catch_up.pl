# on_write => 'catch_up': whatever is written to a partition while it is rebuilt, what the source gives for the written keys
# is in the table when the job is done, and nothing is built again. Two tables go through the same writes: the source of the
# first is the table itself, that of the second another table, which each transaction changes together with the partition.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use CatchUp;
use Test::More;

my $method = $ENV{BACKFILL_SWAP} // 'attach'; # the other one: 095_catch_up_storage.pl
my $node = new_node('catch_up', settings => ['max_prepared_transactions = 10']);
my $holder = session($node);
my $options = qq{swap => '$method', on_write => 'catch_up', delay => '0', keep_old => false};

# Each kind of write has ten keys, of which the even ones are there: {k} is the first. {t} is the table, {leaf} its partition;
# {sync} has the other table follow, for the second of the tables.
my @kinds = (
    [ 'INSERT through the parent', q{INSERT INTO {t} VALUES ({k} + 1, 'u1 {k}', 'w', 'w')} ],
    [ 'INSERT into the leaf', q{INSERT INTO {leaf} VALUES ({k} + 1, 'u1 {k}', 'w', 'w')} ],
    [ 'UPDATE', q{UPDATE {t} SET v = 'w' WHERE k = {k}} ],
    [ 'UPDATE, several times', q{UPDATE {t} SET v = 'w' WHERE k = {k}; UPDATE {t} SET v = 'w2' WHERE k = {k}} ],
    [ 'DELETE', q{DELETE FROM {t} WHERE k = {k}} ],
    [ 'DELETE of the leaf', q{DELETE FROM {leaf} WHERE k IN ({k}, {k} + 2)} ],
    [ 'UPDATE of the key', q{UPDATE {t} SET k = k + 1 WHERE k = {k}} ],
    [ 'UPDATE of the key to that of a deleted row', q{DELETE FROM {t} WHERE k = {k} + 2; UPDATE {t} SET k = k + 2 WHERE k = {k}} ],
    [ 'keys that change places', <<'SQL' ],
        UPDATE {t} SET k = {k} + 9 WHERE k = {k}; UPDATE {t} SET k = {k} WHERE k = {k} + 2; UPDATE {t} SET k = {k} + 2 WHERE k = {k} + 9
SQL
    [ 'a row moves out', q{UPDATE {t} SET k = k + 10001 WHERE k IN ({k}, {k} + 2)} ],
    [ 'a row moves in', q{UPDATE {t} SET k = k - 9999 WHERE k = {k} + 10000} ],
    [ 'a row moves out and in again', q{UPDATE {t} SET k = {k} + 10001, v = 'w' WHERE k = {k}; UPDATE {t} SET k = {k} WHERE k = {k} + 10001} ],
    [ 'deleted and inserted again', q{DELETE FROM {t} WHERE k = {k}; INSERT INTO {t} VALUES ({k}, 'u0 {k}', 'w', 'w')} ],
    [ 'inserted and deleted again', q{INSERT INTO {t} VALUES ({k} + 1, 'u1 {k}', 'w', 'w'); DELETE FROM {t} WHERE k = {k} + 1} ],
    [ 'ON CONFLICT DO UPDATE',
        q{INSERT INTO {t} VALUES ({k}, 'u', 'w', ''), ({k} + 1, 'u1 {k}', 'w', '') ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v} ],
    [ 'ON CONFLICT DO NOTHING', q{INSERT INTO {t} VALUES ({k}, 'u', 'w', ''), ({k} + 1, 'u1 {k}', 'w', '') ON CONFLICT DO NOTHING} ],
    [ 'MERGE', <<'SQL' ],
        MERGE INTO {t} AS m USING (VALUES ({k} + 1), ({k} + 2), ({k} + 4)) AS n (k) ON m.k = n.k
        WHEN MATCHED AND n.k = {k} + 4 THEN DELETE
        WHEN MATCHED THEN UPDATE SET v = 'w'
        WHEN NOT MATCHED THEN INSERT VALUES (n.k, 'u1 ' || n.k, 'w', 'w')
SQL
    [ 'COPY', "COPY {t} FROM stdin;\n{k1}\tu1 {k}\tw\tw\n\\.\n" ],
    [ 'COPY into the leaf', "COPY {leaf} FROM stdin;\n{k1}\tu1 {k}\tw\tw\n\\.\n" ],
    [ 'a savepoint rolled back', q{SAVEPOINT a; DELETE FROM {t} WHERE k = {k}; ROLLBACK TO a; UPDATE {t} SET v = 'w' WHERE k = {k} + 2} ],
    [ 'only a savepoint rolled back', q{SAVEPOINT a; UPDATE {t} SET v = 'no' WHERE k = {k}; ROLLBACK TO a} ],
    [ 'savepoints in savepoints', <<'SQL' ],
        SAVEPOINT a; SAVEPOINT b; DELETE FROM {t} WHERE k = {k}; RELEASE b; ROLLBACK TO a; UPDATE {t} SET v = 'w' WHERE k = {k};
        SAVEPOINT c; UPDATE {t} SET v = 'no' WHERE k = {k} + 2; ROLLBACK TO c; RELEASE c;
        SAVEPOINT d; UPDATE {t} SET v = 'w' WHERE k = {k} + 4; RELEASE d
SQL
    [ 'a block with an exception', <<'SQL' ],
        DO $$ BEGIN
            BEGIN DELETE FROM {t} WHERE k = {k}; RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
            BEGIN UPDATE {t} SET v = 'w' WHERE k = {k} + 2; EXCEPTION WHEN raise_exception THEN NULL; END;
        END $$
SQL
    [ 'a trigger that writes', <<'SQL' ],
        CREATE OR REPLACE FUNCTION write_{t}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN UPDATE {t} SET v = 'by trigger' WHERE k = NEW.k; RETURN NULL; END $$;
        CREATE OR REPLACE TRIGGER write AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION write_{t}();
        INSERT INTO other VALUES ({k})
SQL
    [ 'a data-modifying CTE', q{WITH gone AS (DELETE FROM {t} WHERE k = {k} RETURNING *) INSERT INTO {t} SELECT k + 1, u, v, w FROM gone} ],
    [ 'session_replication_role = replica', q{SET LOCAL session_replication_role = replica; UPDATE {t} SET v = 'w' WHERE k = {k};}
            . q{ DELETE FROM {t} WHERE k = {k} + 2; INSERT INTO {t} VALUES ({k} + 1, 'u1 {k}', 'w', 'w')} ],
    [ 'a role with no right but to write', q{SET LOCAL ROLE writer; INSERT INTO {t} VALUES ({k} + 1, 'u1 {k}', 'w', 'w'); RESET ROLE} ],
    [ 'a cursor', q{DECLARE c CURSOR FOR SELECT * FROM {leaf} WHERE k = {k} FOR UPDATE; FETCH c; DELETE FROM {leaf} WHERE CURRENT OF c; CLOSE c} ],
    [ 'a secondary value that moves', q{UPDATE {t} SET u = NULL WHERE k = {k}; UPDATE {t} SET u = 'u0 {k}' WHERE k = {k} + 2} ],
    [ 'a secondary value that moves to a new row', q{DELETE FROM {t} WHERE k = {k}; INSERT INTO {t} VALUES ({k} + 1, 'u0 {k}', 'w', 'w')} ],
    [ 'a wide value that is changed', q{UPDATE {t} SET w = wide({k} + 5) WHERE k = {k}} ],
    [ 'a wide value that stays', q{UPDATE {t} SET v = 'w' WHERE k = {k}; UPDATE {t} SET k = k + 1 WHERE k = {k} + 2} ],
    [ 'a wide value that is removed', q{UPDATE {t} SET w = 'narrow' WHERE k = {k}} ],
    [ 'NULL', q{UPDATE {t} SET u = NULL, v = NULL, w = NULL WHERE k = {k}} ],
    [ 'row locks only', q{SELECT k FROM {t} WHERE k = {k} FOR UPDATE} ]);

sub make_tables {
    my ($keys) = @_;
    $node->safe_psql('postgres', <<'SQL');
        SET client_min_messages = warning;
        DROP TABLE IF EXISTS t, r, raw, other;
        CREATE OR REPLACE FUNCTION wide(seed int) RETURNS text LANGUAGE sql IMMUTABLE AS
            $$ SELECT string_agg(md5(seed::text || i), '') FROM generate_series(1, 320) AS i $$;
        CREATE TABLE t (k int PRIMARY KEY, u text, v text, w text) PARTITION BY RANGE (k);
        CREATE TABLE r (LIKE t INCLUDING ALL) PARTITION BY RANGE (k);
        CREATE TABLE raw (LIKE t INCLUDING ALL);
        CREATE TABLE other (k int);
SQL
    $node->safe_psql('postgres', <<"SQL") for (qw(t r));
        CREATE TABLE ${_}_1 PARTITION OF $_ FOR VALUES FROM (0) TO (10000);
        CREATE TABLE ${_}_2 PARTITION OF $_ FOR VALUES FROM (10000) TO (20000);
        CREATE UNIQUE INDEX ON ${_}_1 (u);
        INSERT INTO $_ SELECT k, format('u%s %s', k % 10, k - k % 10), 'old', CASE WHEN k % 10 < 4 THEN wide(k) ELSE 'narrow' END
        FROM generate_series(0, $keys, 2) AS i, LATERAL (VALUES (i), (i + 10000)) AS n (k);
        GRANT INSERT ON $_ TO writer;
        CREATE OR REPLACE FUNCTION sync_r(a int) RETURNS void LANGUAGE sql AS \$\$
            DELETE FROM raw WHERE k BETWEEN a AND a + 9 OR k BETWEEN a + 10000 AND a + 10009;
            INSERT INTO raw SELECT k, u, 'raw ' || v, w FROM r WHERE k BETWEEN a AND a + 9 OR k BETWEEN a + 10000 AND a + 10009;
        \$\$;
SQL
    $node->safe_psql('postgres', "SELECT sync_r(k) FROM generate_series(0, $keys, 10) AS k");
    return;
}

# The statements of a kind, for a table.
sub fill_in {
    my ($text, $table, $number) = @_;
    my %words = ('t' => $table, leaf => "${table}_1", k => 10 * $number, k1 => 10 * $number + 1,
        sync => $table eq 'r' ? 'SELECT sync_r(' . 10 * $number . ')' : 'SELECT');
    $text =~ s/\{(\w+)\}/$words{$1}/g;
    return $text;
}

#
# All kinds of writes, while a gate holds the builds of both partitions of both tables
#
$node->safe_psql('postgres', 'CREATE ROLE writer');
make_tables(10 * @kinds + 100);
{
    my $title = 'every kind of write';
    close_gate($holder, 1);
    my $itself = start_job($node, "'t', 'SELECT k, u, upper(v) AS v, w FROM t WHERE pass_gate(1)', workers => 2, $options");
    my $other = start_job($node, "'r', 'SELECT * FROM raw WHERE pass_gate(1)', workers => 2, $options");
    await($node, q{SELECT count(*) = 4 FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (0, 1, 1) AND NOT granted});
    for my $table (qw(t r)) {
        my $number = 0;
        my $all = '';
        for my $kind (@kinds) {
            my $statements = fill_in($kind->[1], $table, $number);
            $all .= "BEGIN;\n$statements" . ($statements =~ /\\\.\n\z/ ? '' : ";\n") . fill_in('{sync}', $table, $number) . ";\nCOMMIT;\n";
            $number++;
        }
        # Across transactions, too.
        my $more = fill_in(q{BEGIN; UPDATE {t} SET u = NULL WHERE k = {k}; {sync}; COMMIT; BEGIN; UPDATE {t} SET u = 'u0 {k}' WHERE k = {k} + 2; {sync}; COMMIT;}
                . q{ BEGIN; DELETE FROM {t} WHERE k = {k} + 4; {sync}; COMMIT; BEGIN; INSERT INTO {t} VALUES ({k} + 4, NULL, 'again', ''); {sync}; COMMIT;}
                . q{ BEGIN; DELETE FROM {t} WHERE k = {k} + 6; {sync}; ROLLBACK;}, $table, $number++);
        # One that is prepared now and committed later.
        my $late = fill_in(qq{BEGIN; UPDATE {t} SET v = 'prepared' WHERE k = {k}; DELETE FROM {t} WHERE k = {k} + 2; {sync}; PREPARE TRANSACTION 'late $table';}, $table, $number++);
        my $never = fill_in(qq{BEGIN; DELETE FROM {t} WHERE k = {k}; {sync}; PREPARE TRANSACTION 'never $table'; ROLLBACK PREPARED 'never $table';}, $table, $number);
        $node->safe_psql('postgres', "SET lock_timeout = '20 s';\n$all$more$late$never");
    }
    # Before anything is swapped; of the prepared transaction, what it will have written.
    my $late = 10 * (@kinds + 1);
    my $before = $node->safe_psql('postgres', "SELECT string_agg(concat_ws(chr(9), k, u, CASE k WHEN $late THEN 'PREPARED' ELSE upper(v) END, md5(w)), chr(10) ORDER BY k)"
            . " FROM t WHERE k <> $late + 2");
    open_gate($holder, 1);
    await_partition($node, $_, 1, q{waiting_on = 'lock (held by prepared transaction "late } . ($_ == $itself ? 't' : 'r') . q{")'}) for $itself, $other;
    # It has locked the parent, which attach needs, and has read the second partition of the other table.
    await_partition($node, $itself, 2, q{state = 'done'}) if $method eq 'storage';
    is(figures($node, $itself), 'ready 1 0, ' . ($method eq 'storage' ? 'done' : 'ready') . ' 1 0', "$title: a swap waits for a prepared transaction that writes");
    is(figures($node, $other), 'ready 1 0, ready 1 0', "$title: or reads");
    my $truth = $node->safe_psql('postgres', q{SELECT count(*) FROM t WHERE k < 10000 AND v = 'w'});
    cmp_ok($truth, '>', 10, "$title: nothing of the first has");
    $node->safe_psql('postgres', q{COMMIT PREPARED 'late t'; COMMIT PREPARED 'late r'});
    for my $job ($itself, $other) {
        is(wait_job($node, $job), 'done', "$title: job $job is done");
        is(figures($node, $job), 'done 1 0, done 1 0', "$title: nothing was built again");
    }
    same_text($node->safe_psql('postgres', 'SELECT string_agg(concat_ws(chr(9), k, u, v, md5(w)), chr(10) ORDER BY k) FROM t'),
        $before, "$title: what the source makes of the table itself is there");
    same_rows($node, 'r', 'SELECT * FROM raw', "$title: what the source makes of another table is there");
    is($node->safe_psql('postgres', q{SELECT count(*) FROM t WHERE v LIKE '%old%' OR v = 'w'}), '0', "$title: every row is new");
    check_clean($node, $title);
}

#
# Values that move between rows of different batches
#
{
    my $title = 'values that move between rows';
    make_tables(9990);
    close_gate($holder, 1);
    set_point($node, 'converged stop');
    my $job = start_job($node, "'r', 'SELECT * FROM raw WHERE pass_gate(1)', partitions => ARRAY['r_1'::regclass], $options");
    await_at_gate($node, 1);
    $node->safe_psql('postgres', <<'SQL');
        BEGIN;
        UPDATE r_1 SET u = 'x' || k;
        UPDATE r_1 SET u = 'moved ' || (k + 1002) % 9992;
        UPDATE raw SET u = r_1.u FROM r_1 WHERE r_1.k = raw.k;
        COMMIT;
SQL
    open_gate($holder, 1);
    await_point($node, $job, 'converged');
    # The same values, each in another row.
    $node->safe_psql('postgres', <<'SQL');
        BEGIN;
        UPDATE r_1 SET u = 'x' || k;
        UPDATE r_1 SET u = 'moved ' || (k + 5002) % 9992;
        UPDATE raw SET u = r_1.u FROM r_1 WHERE r_1.k = raw.k;
        COMMIT;
SQL
    cmp_ok(keys_behind($node, $job, 'r_1'), '>', 9000, "$title: more than a batch");
    clear_point($node);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is(figures($node, $job), 'done 1 0', "$title: in one build");
    same_rows($node, 'r_1', 'SELECT * FROM raw WHERE k < 10000', "$title: the rows are right");
    check_clean($node, $title);
}

#
# What the log does not take has the partition built again
#
for my $kind (
    [ 'TRUNCATE of the leaf', q{BEGIN; DELETE FROM raw WHERE k < 10000; TRUNCATE r_1; COMMIT} ],
    [ 'TRUNCATE of the parent', q{BEGIN; DELETE FROM raw; TRUNCATE r; INSERT INTO r VALUES (1, 'a', 'a', 'a'); SELECT sync_r(0); COMMIT} ],
    [ 'triggers disabled for a while', <<'SQL' ],
        ALTER TABLE r_1 DISABLE TRIGGER ALL; BEGIN; UPDATE r_1 SET v = 'w' WHERE k < 10; SELECT sync_r(0); COMMIT;
        ALTER TABLE r_1 ENABLE TRIGGER ALL
SQL
    [ 'VACUUM FULL', 'VACUUM FULL r_1', 0 ],
    [ 'writes and VACUUM FULL', q{BEGIN; UPDATE r_1 SET v = 'w' WHERE k < 10; SELECT sync_r(0); COMMIT; VACUUM FULL r_1}, 0 ],
    [ 'a new column', q{ALTER TABLE r ADD extra text GENERATED ALWAYS AS (v) STORED;}
            . q{ BEGIN; UPDATE r_1 SET v = 'w' WHERE k < 10; SELECT sync_r(0); COMMIT}, 1, 'k, u, v, w, v' ]) {
    my ($title, $statements, $rebuilds, $columns) = @$kind;
    make_tables(50);
    close_gate($holder, 1);
    my $job = start_job($node, "'r', 'SELECT * FROM raw WHERE pass_gate(1)', partitions => ARRAY['r_1'::regclass], allow_shrink => true, $options");
    await_at_gate($node, 1);
    $node->safe_psql('postgres', $_) for $statements =~ /^VACUUM|; VACUUM/ ? split(/; (?=VACUUM)/, $statements) : $statements;
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is(figures($node, $job), ($rebuilds // 1) ? 'done 2 1' : 'done 1 0', "$title: built again if it must");
    same_rows($node, 'r_1', 'SELECT ' . ($columns // '*') . ' FROM raw WHERE k < 10000', "$title: the rows are right");
    check_clean($node, $title);
}

$holder->quit;
$node->stop;
done_testing();
