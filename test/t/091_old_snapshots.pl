# Whoever has a snapshot from before the swap of a partition that was caught up with sees that partition whole, before the
# swap and after it: its old rows or its new ones, each key once, by each kind of scan, on a standby too, and when all of it
# has been vacuumed.
use strict;
use warnings;

use Backfill;
use CatchUp;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = new_node('old_snapshots', allows_streaming => 1);
$node->safe_psql('postgres', <<'SQL');
    CREATE EXTENSION amcheck;
    CREATE FUNCTION wide(seed text) RETURNS text LANGUAGE sql IMMUTABLE AS
        $$ SELECT string_agg(md5(seed || i), '') FROM generate_series(1, 300) AS i $$;

    -- What a scan of one kind gives: keys, and a digest of all that is in their rows.
    CREATE FUNCTION read(t regclass, columns text) RETURNS text LANGUAGE plpgsql STABLE AS $$
    DECLARE
        seen text;
    BEGIN
        EXECUTE format('SELECT string_agg(k::text, chr(32)) || chr(32) || md5(string_agg(x::text, chr(10))) FROM (SELECT %s FROM %s WHERE k >= 0 ORDER BY k) AS x', columns, t) INTO seen;
        RETURN seen;
    END $$;
    CREATE FUNCTION read_heap(t regclass) RETURNS text LANGUAGE sql STABLE
        SET enable_indexscan = off SET enable_bitmapscan = off SET enable_indexonlyscan = off AS $$ SELECT read(t, '*') $$;
    CREATE FUNCTION read_index(t regclass) RETURNS text LANGUAGE sql STABLE
        SET enable_seqscan = off SET enable_bitmapscan = off SET enable_indexonlyscan = off AS $$ SELECT read(t, '*') $$;
    CREATE FUNCTION read_bitmap(t regclass) RETURNS text LANGUAGE sql STABLE
        SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$ SELECT read(t, '*') $$;
    CREATE FUNCTION read_index_only(t regclass) RETURNS text LANGUAGE sql STABLE
        SET enable_seqscan = off SET enable_bitmapscan = off SET enable_indexscan = off AS $$ SELECT read(t, 'k') $$;
    CREATE FUNCTION read_all(t regclass) RETURNS SETOF text LANGUAGE sql STABLE AS
        $$ SELECT read_heap(t) UNION ALL SELECT read_index(t) UNION ALL SELECT read_bitmap(t) UNION ALL SELECT read_index_only(t) $$;
SQL
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('old_snapshots_standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nwal_receiver_status_interval = 1\nmax_standby_streaming_delay = -1");
$standby->start;
my $holder = session($node);

# What a session reads, in a subtransaction that is rolled back: it keeps no lock then.
sub read_by {
    my ($session, $table) = @_;
    my $out = $session->query("SAVEPOINT s; SELECT * FROM read_all('$table'); ROLLBACK TO s;");
    return join("\n", grep { /^[\d ]+ [0-9a-f]{32}$/ } split(/\n/, $out));
}

# Sessions on both servers, with a snapshot from now.
sub sessions {
    my ($when, $table) = @_;
    $node->wait_for_catchup($standby);
    return map {
        my ($where, $server) = @$_;
        my $session = session($server);
        $session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current_snapshot()');
        my %session = (title => "$when, on the $where", session => $session, old => read_by($session, $table));
        \%session
    } [ 'primary', $node ], [ 'standby', $standby ];
}

for my $method (qw(attach storage)) {
    my $table = "t_$method";
    $node->safe_psql('postgres', <<"SQL");
        CREATE TABLE $table (k int PRIMARY KEY, u text, v text, w text) PARTITION BY RANGE (k);
        CREATE TABLE ${table}_1 PARTITION OF $table FOR VALUES FROM (0) TO (1000);
        CREATE UNIQUE INDEX ON ${table}_1 (u);
        INSERT INTO $table SELECT k, 'u' || k, 'old', CASE k % 5 WHEN 0 THEN wide('old' || k) ELSE 'narrow' END FROM generate_series(0, 300) AS k;
        CREATE TABLE raw_$method AS SELECT k, u, 'new' AS v, CASE k % 5 WHEN 0 THEN wide('new' || k) ELSE 'narrow' END AS w FROM $table;
        ALTER TABLE raw_$method ADD PRIMARY KEY (k);
        VACUUM (FREEZE, ANALYZE) $table;
        -- Rows that are changed, deleted, inserted, and inserted again; wide ones among them.
        CREATE FUNCTION write_$method(n int) RETURNS void LANGUAGE sql AS \$\$
            UPDATE $table SET v = 'w' || n, w = CASE k % 5 WHEN 0 THEN wide(n || 'w' || k) ELSE w END WHERE k % 7 = n % 7;
            DELETE FROM raw_$method WHERE k % 7 = n % 7;
            INSERT INTO raw_$method SELECT k, u, 'raw ' || v, w FROM $table WHERE k % 7 = n % 7;
            WITH gone AS (DELETE FROM $table WHERE k % 11 = n % 11 RETURNING k) DELETE FROM raw_$method AS r USING gone WHERE r.k = gone.k;
            WITH new AS (INSERT INTO $table SELECT k, 'u' || k, 'again ' || n, wide(n || 'again' || k) FROM generate_series(0, 320) AS k
                         WHERE k % 11 = (n - 1) % 11 OR k > 300 + n ON CONFLICT (k) DO NOTHING RETURNING *)
            INSERT INTO raw_$method SELECT * FROM new;
        \$\$;
SQL
    set_point($node, 'catching_up stop');
    close_gate($holder, 1);
    my @sessions = sessions("$method: before the build", $table);
    my $job = start_job($node, "'$table', 'SELECT * FROM raw_$method WHERE pass_gate(1)', swap => '$method', on_write => 'catch_up', delay => '0',"
            . " keep_old => false, lock_timeout => '60 s'");
    await_at_gate($node, 1);
    $node->safe_psql('postgres', "SELECT write_$method(1)");
    push @sessions, sessions("$method: during the build", $table);
    $node->safe_psql('postgres', "SELECT write_$method(2)");
    open_gate($holder, 1);
    await_point($node, $job, 'catching_up');
    push @sessions, sessions("$method: during a pass", $table);
    $node->safe_psql('postgres', "SELECT write_$method(3)");
    set_point($node, 'converged stop');
    await_point($node, $job, 'converged');
    push @sessions, sessions("$method: after a pass", $table);
    $node->safe_psql('postgres', "SELECT write_$method(4)");
    push @sessions, sessions("$method: before the swap", $table);
    $node->safe_psql('postgres', "SELECT write_$method(5)");
    set_point($node, 'caught_up stop');
    await_point($node, $job, 'caught_up');
    push @sessions, sessions("$method: under the lock against writers", $table);
    is(read_by($_->{session}, $table), $_->{old}, "$_->{title}: sees the same rows until the swap") for @sessions;
    my %different = map { $_->{old} => 1 } @sessions;
    cmp_ok(scalar keys %different, '>=', 4, "$method: the snapshots are different ones");
    clear_point($node);
    is(wait_job($node, $job), 'done', "$method: the job is done");
    is(figures($node, $job), 'done 1 0', "$method: in one build");
    $node->wait_for_catchup($standby);
    same_rows($node, $table, "SELECT * FROM raw_$method", "$method: the rows are right");
    my $new = join("\n", split(/\n/, $node->safe_psql('postgres', "SELECT * FROM read_all('$table')")));
    my @ways = split /\n/, $new;
    is("@ways[1, 2]", "@ways[0, 0]", "$method: each kind of scan gives the same");

    for my $moment ('after the swap', 'after VACUUM', 'after VACUUM FREEZE') {
        $node->safe_psql('postgres', "VACUUM $table") if $moment eq 'after VACUUM';
        $node->safe_psql('postgres', "VACUUM (FREEZE, ANALYZE) $table") if $moment eq 'after VACUUM FREEZE';
        $node->wait_for_catchup($standby);
        for my $one (@sessions) {
            my $seen = read_by($one->{session}, $table);
            ok($seen eq $new || $seen eq $one->{old}, "$one->{title}: sees all rows $moment") or diag("seen: $seen\n\nold: $one->{old}\n\nnew: $new");
        }
    }
    for my $one (@sessions) {
        is($one->{session}->query("SAVEPOINT s; SELECT count(*) FROM $table AS a JOIN $table AS b USING (k); ROLLBACK TO s;"), scalar(my @keys = $ways[3] =~ /\b\d{1,3}\b/g),
            "$one->{title}: each key is there once");
        $one->{session}->query_safe('COMMIT');
        $one->{session}->quit;
    }

    # Nothing is wrong with heap and indexes, before and after another VACUUM.
    for my $moment ('before VACUUM', 'after VACUUM') {
        $node->safe_psql('postgres', "VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) $table") if $moment eq 'after VACUUM';
        $node->wait_for_catchup($standby);
        for my $server ($node, $standby) {
            my ($code, $out, $err) = $server->psql('postgres', "SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid = '${table}_1'::regclass;"
                    . " SELECT bt_index_check(i.indexrelid, true) FROM pg_class AS c JOIN pg_index AS i ON i.indrelid = c.reltoastrelid WHERE c.oid = '${table}_1'::regclass");
            is("$code $err", '0 ', "$method, $moment: the indexes of " . $server->name . ' are in order');
            is($server->safe_psql('postgres', "SELECT * FROM verify_heapam('${table}_1')"), '', "$method, $moment: the heap of " . $server->name . ' is in order');
        }
    }
    is($standby->safe_psql('postgres', "SELECT md5(string_agg(x::text, '' ORDER BY k)) FROM $table AS x"),
        $node->safe_psql('postgres', "SELECT md5(string_agg(x::text, '' ORDER BY k)) FROM $table AS x"), "$method: the standby has the same rows");
    check_clean($node, $method);
}

$holder->quit;
$standby->stop;
$node->stop;
done_testing();
