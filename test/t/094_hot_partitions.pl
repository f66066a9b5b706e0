# Twelve partitions that sessions write to all the time, every one in every transaction, while they are rebuilt with
# on_write => 'catch_up'. Each writer notes in a journal what it has done to which key: in the end no write is lost, none has
# come back, and nothing was built twice.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('hot');
my ($partitions, $keys) = (12, 500);

for my $method (qw(attach storage)) {
    my $t = "t_$method";
    $node->safe_psql('postgres', <<"SQL");
        CREATE TABLE $t (k int PRIMARY KEY, v int NOT NULL, tag text) PARTITION BY RANGE (k);
        SELECT format('CREATE TABLE ${t}_%s PARTITION OF $t FOR VALUES FROM (%s) TO (%s)', n, n * $keys, (n + 1) * $keys)
        FROM generate_series(0, $partitions - 1) AS n
        \\gexec
        INSERT INTO $t SELECT k, 0, 'old' FROM generate_series(0, $partitions * $keys - 1) AS k;
        CREATE TABLE raw_$method (k int PRIMARY KEY, v int NOT NULL);
        INSERT INTO raw_$method SELECT k, v FROM $t;
        -- The order of entries is that of the writes to a key: the row is locked when the number is taken.
        CREATE TABLE journal_$method (n bigserial, k int, v int);

        -- One key of each partition is deleted, inserted or changed, the partitions in their order.
        CREATE FUNCTION write_$method() RETURNS void LANGUAGE plpgsql AS \$\$
        DECLARE
            key int;
            new_value int;
        BEGIN
            FOR p IN 0 .. $partitions - 1 LOOP
                key := p * $keys + floor(random() * $keys);
                IF random() < 0.3 THEN
                    DELETE FROM $t WHERE k = key;
                    CONTINUE WHEN NOT FOUND;
                    DELETE FROM raw_$method WHERE k = key;
                    INSERT INTO journal_$method (k, v) VALUES (key, NULL);
                ELSE
                    INSERT INTO $t AS t VALUES (key, 1, 'written') ON CONFLICT (k) DO UPDATE SET v = t.v + 1, tag = 'written' RETURNING t.v INTO new_value;
                    INSERT INTO raw_$method VALUES (key, new_value) ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v;
                    INSERT INTO journal_$method (k, v) VALUES (key, new_value);
                END IF;
            END LOOP;
        END
        \$\$;
SQL
    append_to_file("$PostgreSQL::Test::Utils::tmp_check/write_$method.sql", "SELECT write_$method();\n");
    my $clients = start_clients($node, 4, '--rate=50', '-f', "$PostgreSQL::Test::Utils::tmp_check/write_$method.sql");
    await($node, "SELECT count(*) >= 500 FROM journal_$method");
    my $job = start_job($node, "'$t', \$\$SELECT k, v, 'computed' AS tag FROM raw_$method\$\$, swap => '$method', on_write => 'catch_up', workers => 2,"
            . " delay => '0', keep_old => false, lock_timeout => '500 ms'");
    is(wait_job($node, $job), 'done', "$method: the job is done");
    is(figures($node, $job), join(', ', ('done 1 0') x $partitions), "$method: each partition was built once");
    cmp_ok($node->safe_psql('postgres', "SELECT sum(swap_attempts) FROM backfill_progress WHERE job = $job"), '<', 500, "$method: without an end of tries");
    my $writes = $node->safe_psql('postgres', "SELECT count(*) FROM journal_$method");
    await($node, "SELECT count(*) > $writes FROM journal_$method"); # writers go on
    my $complaints = stop_clients($clients);
    unlike($complaints, qr/ERROR/, "$method: no writer has met an error");
    is($node->safe_psql('postgres', <<"SQL"), '', "$method: the rows are those of the journal");
        WITH last AS (SELECT DISTINCT ON (k) k, v FROM journal_$method ORDER BY k, n DESC),
        truth AS (SELECT k, COALESCE(last.k IS NOT NULL, false) AS written, CASE WHEN last.k IS NULL THEN 0 ELSE last.v END AS v
                  FROM generate_series(0, $partitions * $keys - 1) AS k LEFT JOIN last USING (k))
        SELECT format('key %s has %s instead of %s', truth.k, t.v, truth.v)
        FROM truth LEFT JOIN $t AS t USING (k)
        WHERE t.v IS DISTINCT FROM truth.v
        LIMIT 10
SQL
    same_rows($node, "(SELECT k, v FROM $t) AS t", "SELECT * FROM raw_$method", "$method: the rows are those of the source");
    is($node->safe_psql('postgres', "SELECT count(*) FROM $t WHERE tag = 'old'"), '0', "$method: each row is new");
    cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM $t WHERE tag = 'computed' AND v > 0"), '>', 0, "$method: written ones are computed again");
    check_clean($node, $method);
}

$node->stop;
done_testing();
