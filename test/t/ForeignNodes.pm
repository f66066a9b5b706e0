# Three servers for the scripts of contrib/postgres_fdw: two nodes, and a coordinator whose foreign partitions lead there. All is done as
# role app, which is no superuser.
package ForeignNodes;

use strict;
use warnings;

use Backfill;
use Exporter 'import';
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'usleep';

our @EXPORT = qw(foreign_nodes on_node sql attempt await_all await_clean is_refused);

my ($coordinator, @nodes);

# The coordinator and the nodes, with the driver; skips the script where there is nothing to test.
sub foreign_nodes {
    my $driver = "$FindBin::RealBin/../../contrib/postgres_fdw/partbackfill_postgres_fdw.sql";
    plan skip_all => 'the driver is not beside the tests' unless -r $driver;
    $coordinator = new_node('coordinator');
    plan skip_all => 'postgres_fdw or dblink is not installed'
        if $coordinator->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name IN ('postgres_fdw', 'dblink')") < 2;
    @nodes = map { new_node($_, settings => [ "shared_preload_libraries = 'partbackfill'", 'partbackfill.crash_pause = 1' ]) } qw(node_1 node_2);
    $coordinator->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app; CREATE EXTENSION postgres_fdw');
    make_server($_) for @nodes;
    for (1, 2) {
        my ($out, $error) = run_command([ 'psql', '-X', '-q', '-f', $driver, $coordinator->connstr('postgres') ]);
        is("$out$error", '', 'the driver is installed, and once more');
    }
    return ($coordinator, @nodes);
}

# A node asks app for a password: dblink wants that.
sub make_server {
    my ($node) = @_;
    my ($name, $host, $port) = ($node->name, $node->host, $node->port);
    $node->safe_psql('postgres', "SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD 'secret'; GRANT CREATE ON SCHEMA public TO app");
    my $hba = $node->data_dir . '/pg_hba.conf';
    my $others = slurp_file($hba);
    unlink $hba;
    append_to_file($hba, "local all app scram-sha-256\nhost all app all scram-sha-256\n$others");
    $node->reload;
    $coordinator->safe_psql('postgres', <<"SQL");
        CREATE SERVER $name FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', fetch_size '1000', connect_timeout '10');
        CREATE USER MAPPING FOR app SERVER $name OPTIONS (user 'app', password 'secret');
        GRANT USAGE ON FOREIGN SERVER $name TO app;
SQL
    return;
}

# As a superuser, since app would be asked for its password.
sub on_node { return $nodes[ $_[0] ]->safe_psql('postgres', $_[1]); }

# On the coordinator, as app or the role that is named.
sub sql { return $coordinator->safe_psql('postgres', $_[0], extra_params => [ '-U', $_[1] // 'app' ]); }

# What a statement on the coordinator returns, and what it complains of.
sub attempt {
    my ($statement, $role) = @_;
    my (undef, $out, $complaint) = $coordinator->psql('postgres', $statement, extra_params => [ '-U', $role // 'app' ]);
    return ($out, $complaint =~ s/^psql:<stdin>:\d+: //gmr);
}

sub await_all {
    my ($query, $expected) = @_;
    my $value;
    for (1 .. 1800) {
        $value = sql($query);
        return if $value eq $expected;
        usleep(50_000);
    }
    die "waited in vain for $expected from $query: $value";
}

sub await_clean {
    my ($title) = @_;
    for my $node (@nodes) {
        await($node, q{SELECT count(*) = 0 FROM pg_namespace WHERE nspname LIKE 'backfill\_%'});
        check_clean($node, $title . ', ' . $node->name);
    }
    return;
}

sub is_refused {
    my ($call, $reason, $title) = @_;
    my (undef, $complaint) = attempt("SELECT partbackfill_nodes.start($call)");
    like($complaint, $reason, "$title: refused");
    is(sql('SELECT count(*) FROM partbackfill_nodes.run'), 0, "$title: there is no run");
    return;
}

1;
