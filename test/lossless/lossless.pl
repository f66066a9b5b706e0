#!/usr/bin/perl
# The measure of "nothing is lost": rebuilds every partitioned table of a database from itself and tells for each
# whether it is the same (pg_dump --schema-only of the database is the same text, every row is, writes to it work as
# before, every heap is sound and every btree knows every row, nothing of ours is left), refused (with the message),
# or different (with the diff).
#
# usage: lossless.pl METHOD DATABASE [TABLE ...]     METHOD: auto, attach or storage
# With REVERT=yes each job is reverted, which brings back the old tables themselves.
# Connects as psql and pg_dump do (PGHOST, PGPORT, PGUSER), as a superuser. The extensions partbackfill and amcheck must
# be installed there. Exit status 1 when a table is different.
use strict;
use warnings;

my ($method, $database, @wanted) = @ARGV;
die "usage: lossless.pl METHOD DATABASE [TABLE ...]\n" unless defined $database;
my $patience = $ENV{PATIENCE} // '10 minutes'; # with a table's job
my $reverts = ($ENV{REVERT} // '') ne '';
my $keep_old = $reverts ? 'true' : 'false';

sub run {
    my (@command) = @_;
    open(my $pipe, '-|', @command) or die "could not run $command[0]: $!\n";
    local $/ = undef;
    my $output = <$pipe> // '';
    close($pipe);
    return ($output, $?);
}

# What the statements print; dies with their error unless the caller asks for it.
sub sql {
    my ($statements, $may_fail) = @_;
    my ($output, $status) = run('sh', '-c', 'exec psql -XAtq -v ON_ERROR_STOP=1 -d "$1" -c "$2" 2>&1', 'psql', $database, $statements);
    chomp $output;
    die "$output\nin: $statements\n" if $status != 0 && !$may_fail;
    return wantarray ? ($output, $status) : $output;
}

# The definition of everything, less what is random or counts up.
sub definition {
    my ($output, $status) = run('pg_dump', '--schema-only', '-d', $database);
    die "pg_dump failed\n" if $status != 0;
    return join("\n", grep { !/^\\(un)?restrict / } split(/\n/, $output));
}

sub quote { my ($text) = @_; $text =~ s/'/''/g; return "'$text'"; }

# What pg_dump leaves out: foreign keys of partitions, triggers of foreign keys on both sides, row types.
sub undumped {
    return sql(<<'SQL');
        SELECT format('key %s of %s to %s: %s, of %s, local %s, inherited %s, index %s, operators %s %s %s, set %s, comment %L',
                      CASE WHEN up.conrelid = k.conrelid THEN '(part)' ELSE k.conname END, k.conrelid::regclass, k.confrelid::regclass,
                      pg_get_constraintdef(k.oid), up.conname, k.conislocal, k.coninhcount, k.conindid::regclass, k.conpfeqop,
                      k.conppeqop, k.conffeqop, cardinality(k.confdelsetcols), obj_description(k.oid, 'pg_constraint'))
        FROM pg_constraint AS k
        LEFT JOIN pg_constraint AS up ON up.oid = k.conparentid
        WHERE k.contype = 'f'
        UNION ALL
        SELECT format('trigger of key of %s on %s: %s, %s, enabled "%s", deferrable %s %s, of one on %s', k.conrelid::regclass, t.tgrelid::regclass,
                      t.tgfoid::regproc, t.tgtype, t.tgenabled, t.tgdeferrable, t.tginitdeferred, parent.tgrelid::regclass)
        FROM pg_trigger AS t
        JOIN pg_constraint AS k ON k.oid = t.tgconstraint AND k.contype = 'f'
        LEFT JOIN pg_trigger AS parent ON parent.oid = t.tgparentid
        UNION ALL
        SELECT format('dependency of key of %s: %s on %s', k.conrelid::regclass, d.deptype,
                      CASE WHEN d.refclassid = 'pg_constraint'::regclass THEN 'another key'
                           ELSE pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) END)
        FROM pg_depend AS d
        JOIN pg_constraint AS k ON k.oid = d.objid AND k.contype = 'f'
        WHERE d.classid = 'pg_constraint'::regclass
        UNION ALL
        SELECT format('type %s: owner %s, privileges %s, comment %L, array type %s, comment %L', t.oid::regtype, t.typowner::regrole, t.typacl,
                      obj_description(t.oid, 'pg_type'), t.typarray::regtype, obj_description(t.typarray, 'pg_type'))
        FROM pg_type AS t
        JOIN pg_class AS c ON c.oid = t.typrelid AND c.relispartition
        UNION ALL
        SELECT format('role %s of type %s', d.refobjid::regrole, t.oid::regtype)
        FROM pg_shdepend AS d
        JOIN pg_type AS t ON t.oid = d.objid AND t.typrelid <> 0
        WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND d.classid = 'pg_type'::regclass
          AND d.refclassid = 'pg_authid'::regclass
        ORDER BY 1
SQL
}

# Count and digest of the rows with the partition each is in; order does not matter.
sub rows {
    my ($table) = @_;
    # What cannot even be read (a foreign table without a handler) can be refused all the same.
    my ($rows) = sql("SELECT count(*), COALESCE(sum(hashtextextended(t.tableoid::regclass::text || t::text, 0)::numeric), 0) FROM $table AS t", 1);
    return $rows;
}

sub differences {
    my ($before, $after) = @_;
    my (%before, %after);
    $before{$_}++ for split /\n/, $before;
    $after{$_}++ for split /\n/, $after;
    my @lines = map { "-$_" } grep { ($after{$_} // 0) < $before{$_} } sort keys %before;
    push @lines, map { "+$_" } grep { ($before{$_} // 0) < $after{$_} } sort keys %after;
    push @lines, '(the order of lines)' if !@lines && $before ne $after;
    return @lines;
}

sub leftovers {
    return sql(<<'SQL');
        SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname ~ '^backfill_[0-9]+_(new|old)$'
        UNION ALL
        SELECT 'constraint ' || conname FROM pg_constraint WHERE conname ~ '^partbackfill_'
SQL
}

# What ANALYZE knew of the table's columns, expressions and statistics objects.
sub known {
    my ($table) = @_;
    return sql(<<"SQL");
        SELECT format('statistics of %s column %s', s.starelid::regclass, a.attname)
        FROM pg_statistic AS s
        JOIN pg_attribute AS a ON a.attrelid = s.starelid AND a.attnum = s.staattnum
        WHERE s.starelid IN (SELECT relid FROM pg_partition_tree(@{[quote($table)]})
                             UNION ALL
                             SELECT i.indexrelid FROM pg_index AS i
                             WHERE i.indrelid IN (SELECT relid FROM pg_partition_tree(@{[quote($table)]})))
        UNION ALL
        SELECT format('statistics object %s: %s', s.stxname, concat_ws(', ', d.stxdndistinct IS NULL, d.stxddependencies IS NULL,
                                                                      d.stxdmcv IS NULL, d.stxdexpr IS NULL))
        FROM pg_statistic_ext AS s
        JOIN pg_statistic_ext_data AS d ON d.stxoid = s.oid
        WHERE s.stxrelid IN (SELECT relid FROM pg_partition_tree(@{[quote($table)]}))
SQL
}

# Whether the table can be written, triggers, policies, constraints and all; nothing of it stays.
sub written {
    my ($table) = @_;
    my $column = sql("SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = @{[quote($table)]}::regclass AND attnum > 0"
            . q{ AND NOT attisdropped AND attgenerated = '' AND attidentity = '' ORDER BY attnum LIMIT 1});
    return '' if $column eq '';
    my ($output) = sql("SET client_min_messages = warning; BEGIN; UPDATE $table SET $column = $column; SET CONSTRAINTS ALL IMMEDIATE;"
            . " DELETE FROM $table; ROLLBACK", 1);
    return $output;
}

# What amcheck says of the table's heaps and btrees.
sub corruption {
    my ($table) = @_;
    my ($output, $status) = sql(<<"SQL", 1);
        SELECT c.oid::regclass, v.*
        FROM pg_partition_tree(@{[quote($table)]}) AS p
        JOIN pg_class AS c ON c.oid = p.relid AND c.relkind = 'r'
        JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'heap'
        CROSS JOIN LATERAL verify_heapam(c.oid, check_toast => true) AS v;
        SELECT bt_index_check(i.indexrelid, true)
        FROM pg_partition_tree(@{[quote($table)]}) AS p
        JOIN pg_index AS i ON i.indrelid = p.relid
        JOIN pg_class AS c ON c.oid = i.indexrelid
        JOIN pg_am AS a ON a.oid = c.relam
        WHERE c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid
SQL
    $output =~ s/^\n+|\n+$//g;
    return $output;
}

# Reverts the job, and drops what is kept then; what went wrong.
sub reverted {
    my ($job) = @_;
    my ($output, $status) = sql("SELECT count(*) - backfill_revert($job) FROM backfill_progress WHERE job = $job", 1);
    my $built = sql("SELECT count(*) FROM backfill_progress WHERE job = $job AND attempts > 0");
    sql("SELECT backfill_purge($job)");
    sql("SELECT backfill_wait($job, '1 minute')");
    return "not reverted: $output" if $status != 0 || $output ne '0';
    return "$built partitions were built to revert them" if $built ne '0';
    return;
}

# same, refused or different, and why.
sub measure {
    my ($table, $definition) = @_;
    my $rows = rows($table);
    my $known = known($table);
    my $written = written($table);
    my $undumped = undumped();
    my ($job, $status) = sql('SET client_min_messages = warning; SELECT backfill_start(' . quote($table) . ', ' . quote($table)
            . ", swap => '$method', keep_old => $keep_old, delay => '0', max_attempts => 1)", 1);
    if ($status != 0) {
        $job =~ s/\n(?:CONTEXT|LINE).*//s;
        return ('different', "refused, but not untouched") if definition() ne $definition;
        return ('refused', $job);
    }
    my $state = sql("SELECT backfill_wait($job, '$patience')");
    my @reasons;
    push @reasons, "the job is $state: " . sql("SELECT string_agg(partition || ': ' || error, '; ') FROM backfill_progress WHERE job = $job AND error IS NOT NULL")
        if $state ne 'done';
    # It is not in the way of the next table's.
    sql("SELECT backfill_cancel($job)"), sql("SELECT backfill_wait($job, '1 minute')") if $state eq 'running';
    push @reasons, reverted($job) if $reverts && $state eq 'done';
    my $after = rows($table);
    push @reasons, "rows: $rows before, $after after" if $rows ne $after;
    push @reasons, differences($definition, definition());
    push @reasons, differences($undumped, undumped());
    # There may be more than before.
    push @reasons, grep { /^-/ } differences($known, known($table));
    my $now = written($table);
    push @reasons, "writes: " . ($written || 'good') . ' before, ' . ($now || 'good') . ' after' if $now ne $written;
    my $broken = corruption($table);
    push @reasons, $broken if $broken ne '';
    my $left = leftovers();
    push @reasons, "left: $left" if $left ne '';
    return @reasons ? ('different', join("\n    ", @reasons)) : ('same', '');
}

my $tables = sql(<<'SQL');
    SELECT c.oid::regclass
    FROM pg_class AS c
    WHERE c.relkind = 'p' AND NOT c.relispartition AND c.relpersistence <> 't'
    ORDER BY c.oid::regclass::text
SQL
my %count = (same => 0, refused => 0, different => 0);
my $definition = definition();
for my $table (@wanted ? @wanted : split(/\n/, $tables)) {
    my ($verdict, $why) = measure($table, $definition);
    $count{$verdict}++;
    $why =~ s/\n/\n    /g;
    print "$verdict $table", ($why ne '' ? "\n    $why" : ''), "\n";
    $definition = definition() if $verdict eq 'different';
}
print "$count{same} same, $count{refused} refused, $count{different} different\n";
exit($count{different} > 0 ? 1 : 0);
