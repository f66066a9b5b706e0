# What else is in the server is not put out of action by a worker, and what else roles may read does not include the
# settings kept with a job.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Library;
use PostgreSQL::Test::Utils;
use Test::More;

# A library that watches the server's log.
my $seen = PostgreSQL::Test::Utils::tempdir() . '/seen';
my $watcher = build_library('watcher', <<"C");
#include "postgres.h"
#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

static emit_log_hook_type previous;

static void watch(ErrorData *error)
{
    FILE *file;
    if (previous)
        previous(error);
    if (MyBackendType != B_BG_WORKER || error->elevel < ERROR)
        return;
    file = fopen("$seen", "a");
    if (file == NULL)
        return;
    fprintf(file, "%s\\n", error->message);
    fclose(file);
}

void _PG_init(void);
void _PG_init(void)
{
    previous = emit_log_hook;
    emit_log_hook = watch;
}
C

my $node = new_node('hooks', settings => ["shared_preload_libraries = '$watcher'"]);
$node->safe_psql('postgres', <<'SQL');
    CREATE ROLE locked LOGIN;
    CREATE ROLE reader LOGIN IN ROLE pg_read_all_data, pg_write_all_data;
    GRANT CREATE ON SCHEMA public TO locked;
    SET SESSION AUTHORIZATION locked;
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
SQL

{
    my $title = 'an error before a worker is connected';
    my $job = $node->safe_psql('postgres', <<'SQL');
        REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
        SET SESSION AUTHORIZATION locked;
        SELECT backfill_start('t', 'SELECT 1 AS k, $$new$$::text AS v', delay => '0');
SQL
    is(wait_job($node, $job), 'failed', "$title: the job failed");
    # 1.0 took the place of the library's function.
    like(-e $seen ? slurp_file($seen) : '', qr/^permission denied for database "postgres"$/m, "$title: the library that watches the log sees it");
    $node->safe_psql('postgres', "GRANT CONNECT ON DATABASE postgres TO PUBLIC; SELECT backfill_cancel($job)");
    is(wait_job($node, $job), 'canceled', "$title: canceled");
}
{
    my $title = 'settings';
    my $holder = session($node);
    close_gate($holder, 1);
    my $job = start_job($node, q{'t', 'SELECT 1 AS k, current_setting($$app.token$$) AS v FROM pass_gate(1)', delay => '0'},
        "SET SESSION AUTHORIZATION locked; SET app.token = 'secret'");
    await_at_gate($node, 1);
    my $kept = "SELECT count(*) FROM backfill_job WHERE 'secret' = ANY (setting_values)";
    is($node->safe_psql('postgres', $kept), '1', "$title: are kept while the job runs");
    for my $role ('locked', 'reader') {
        # 1.0 showed them to members of pg_read_all_data.
        my ($status, $rows) = $node->psql('postgres', "SET SESSION AUTHORIZATION $role; $kept");
        ok($status != 0 || $rows eq '0', "$title: $role does not see them");
    }
    # A job runs as the owner that its row names: 1.0 let members of pg_write_all_data name a superuser.
    is($node->safe_psql('postgres', "SET SESSION AUTHORIZATION reader; WITH changed AS (UPDATE backfill_job SET owner = 10 RETURNING 1)"
                . ' SELECT count(*) FROM changed'), '0', 'no role writes to a job');
    my ($code) = error_of($node, "SET SESSION AUTHORIZATION reader; INSERT INTO backfill_write VALUES ($job, 't_1'::regclass, '1')");
    is($code, '42501', 'nor to its marks');
    open_gate($holder, 1);
    is(wait_job($node, $job), 'done', "$title: the job is done");
    is($node->safe_psql('postgres', 'SELECT v FROM t'), 'secret', "$title: the source saw them");
    is($node->safe_psql('postgres', $kept), '0', "$title: are gone when it is done");
    $holder->quit;

    $holder = session($node);
    close_gate($holder, 1);
    $job = start_job($node, q{'t', 'SELECT 1 AS k, $$x$$::text AS v FROM pass_gate(1)', delay => '0'}, "SET app.token = 'secret'");
    await_at_gate($node, 1);
    cancel_job($node, $job);
    wait_job($node, $job);
    is($node->safe_psql('postgres', $kept), '0', "$title: are gone when it is canceled");
    $holder->quit;
}

$node->stop;
done_testing();
