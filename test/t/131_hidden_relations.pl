# Another extension's planner hook changes what queries of pg_class find: a partition that is hidden so is an error, and never
# taken for one that was dropped. And a job that has rebuilt nothing does not look like success.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Backfill;
use Library;
use Test::More;

# In background processes only, as an extension does that keeps its tables from other tools.
my $library = build_library('hides', <<'C');
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "postmaster/bgworker.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

static int hidden = 0;
static bool until_switched_off = false;
static bool visibility = true;
static bool propagation = true;
static planner_hook_type previous;
static ProcessUtility_hook_type previous_utility;

/* Every query of pg_class gets the condition that oid is not that of the hidden table. */
static bool hide(Node *node, void *context)
{
    if (node == NULL)
        return false;
    if (IsA(node, Query))
    {
        Query *query = (Query *) node;
        int i;

        for (i = 1; i <= list_length(query->rtable); i++)
        {
            RangeTblEntry *entry = list_nth(query->rtable, i - 1);

            if (entry->rtekind == RTE_RELATION && entry->relid == RelationRelationId && query->jointree != NULL)
            {
                Var *oid = makeVar(i, Anum_pg_class_oid, OIDOID, -1, InvalidOid, 0);
                Const *is = makeConst(OIDOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum((Oid) hidden), false, true);
                OpExpr *other = (OpExpr *) make_opclause(608, BOOLOID, false, (Expr *) oid, (Expr *) is, InvalidOid, InvalidOid);

                other->opfuncid = F_OIDNE;
                query->jointree->quals = query->jointree->quals == NULL ? (Node *) other
                    : (Node *) makeBoolExpr(AND_EXPR, list_make2(query->jointree->quals, other), -1);
            }
        }
        return query_tree_walker(query, hide, context, 0);
    }
    return expression_tree_walker(node, hide, context);
}

#if PG_VERSION_NUM >= 190000
static PlannedStmt *plan(Query *query, const char *text, int options, ParamListInfo params, ExplainState *explain)
#else
static PlannedStmt *plan(Query *query, const char *text, int options, ParamListInfo params)
#endif
{
    if (hidden != 0 && MyBgworkerEntry != NULL && (visibility || !until_switched_off))
        hide((Node *) query, NULL);
#if PG_VERSION_NUM >= 190000
    return previous ? previous(query, text, options, params, explain) : standard_planner(query, text, options, params, explain);
#else
    return previous ? previous(query, text, options, params) : standard_planner(query, text, options, params);
#endif
}

/* What would be repeated on all nodes. */
static void utility(PlannedStmt *planned, const char *text, bool is_tree, ProcessUtilityContext context, ParamListInfo params,
                    QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion)
{
    if (propagation && IsA(planned->utilityStmt, CreateSchemaStmt))
        elog(ERROR, "a schema would be made on all nodes");
    if (previous_utility)
        previous_utility(planned, text, is_tree, context, params, environment, receiver, completion);
    else
        standard_ProcessUtility(planned, text, is_tree, context, params, environment, receiver, completion);
}

void _PG_init(void);
void _PG_init(void)
{
    DefineCustomBoolVariable("hides.until_switched_off", "", NULL, &until_switched_off, false, PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable("citus.override_table_visibility", "", NULL, &visibility, true, PGC_USERSET, GUC_NO_SHOW_ALL, NULL, NULL, NULL);
    DefineCustomBoolVariable("citus.enable_ddl_propagation", "", NULL, &propagation, true, PGC_USERSET, GUC_NO_SHOW_ALL, NULL, NULL, NULL);
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = utility;
    DefineCustomIntVariable("hides.relation", "", NULL, &hidden, 0, 0, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
    previous = planner_hook;
    planner_hook = plan;
}
C

my $node = new_node('hidden_relations', settings => ["shared_preload_libraries = '$library'"]);
$node->safe_psql('postgres', <<'SQL');
    CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k);
    CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    INSERT INTO t SELECT k, 'old' FROM generate_series(0, 199) AS k;
SQL

sub hide {
    my ($table) = @_;
    my $oid = $table eq '' ? 0 : $node->safe_psql('postgres', "SELECT '$table'::regclass::oid::int");
    $node->safe_psql('postgres', "ALTER SYSTEM SET hides.relation = $oid");
    $node->safe_psql('postgres', 'SELECT pg_reload_conf()');
    await($node, "SELECT current_setting('hides.relation') = '$oid'");
    return;
}

for my $method (qw(attach storage)) {
    for my $on_write (qw(rebuild catch_up block)) {
        my $title = "$method, $on_write";
        hide('t_1');
        my $job = start_job($node, "'t', 'SELECT k, ''new'' AS v FROM t', swap => '$method', on_write => '$on_write', delay => '0', max_attempts => 1");
        is(wait_job($node, $job), 'failed', "$title, a partition is hidden: the job failed");
        is(states($node, $job), 'failed done', "$title: the hidden partition has, the other one is done");
        like($node->safe_psql('postgres', "SELECT error FROM backfill_progress WHERE job = $job AND state = 'failed'"),
            qr/^an extension hides relation \d+ from queries of pg_class$/m, "$title: with the reason");
        is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT v, ' ') FROM t_1"), 'old', "$title: its rows stay");
        hide('');
        is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), 1, "$title: it is retried");
        is(wait_job($node, $job), 'done', "$title: and done, once it is shown");
        is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT v, ' ') FROM t"), 'new', "$title: all has the new rows");
        $node->safe_psql('postgres', "SELECT backfill_purge($job)");
        $node->safe_psql('postgres', "SELECT backfill_wait($job)");
        check_clean($node, $title);
        $node->safe_psql('postgres', q{UPDATE t SET v = 'old'});
    }
}

# The settings of Citus, which no view shows: the extension's sessions switch them off, the caller's keeps them.
{
    my $title = 'settings of Citus';
    $node->safe_psql('postgres', 'ALTER SYSTEM SET hides.until_switched_off = on');
    hide('t_1');
    for my $preset (q{}, q{ALTER ROLE CURRENT_USER SET citus.override_table_visibility = on; ALTER DATABASE postgres SET citus.enable_ddl_propagation = on}) {
        $node->safe_psql('postgres', $preset) if $preset;
        my ($job, $after) = split /\n/, $node->safe_psql('postgres', "SELECT backfill_start('t', 'SELECT k, ''new'' AS v FROM t', delay => '0', on_write => 'catch_up');"
                . q{SELECT current_setting('citus.override_table_visibility') || current_setting('citus.enable_ddl_propagation')});
        is($after, 'onon', "$title: unchanged for the caller");
        is(wait_job($node, $job), 'done', "$title: off for the workers");
        is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT v, ' ') FROM t"), 'new', "$title: all has the new rows");
        is($node->safe_psql('postgres', "SELECT backfill_revert($job)"), 2, "$title: reverted");
        $node->safe_psql('postgres', "SELECT backfill_purge($job)");
        $node->safe_psql('postgres', "SELECT backfill_wait($job)");
        check_clean($node, $title);
    }
    hide('');
}

{
    my $title = 'nothing was rebuilt';
    my $gate = session($node);
    close_gate($gate, 1);
    my $job = start_job($node, "'t', 'SELECT k, ''new'' AS v FROM generate_series(0, 199) AS k WHERE pass_gate(1)', delay => '0', partitions => '{t_1,t_2}'");
    await_at_gate($node, 1);
    my $gone = session($node);
    $gone->query_until(qr/begun/, "\\echo begun\nBEGIN;\nALTER TABLE t DETACH PARTITION t_1;\nALTER TABLE t DETACH PARTITION t_2;\nCOMMIT;\n");
    await($node, q{SELECT NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 't'::regclass)
        OR EXISTS (SELECT FROM pg_locks WHERE relation IN ('t'::regclass, 't_1'::regclass) AND NOT granted)});
    open_gate($gate, 1);
    is(wait_job($node, $job), 'failed', "$title: the job failed");
    $_->quit for $gone, $gate;
    is(states($node, $job), 'skipped skipped', "$title: all were skipped");
    is($node->safe_psql('postgres', "SELECT percent, error FROM backfill_status WHERE job = $job"), '0|every partition was skipped', "$title: and says so");
    is($node->safe_psql('postgres', "SELECT backfill_retry($job)"), 0, "$title: there is nothing to retry");
    is(wait_job($node, $job), 'failed', "$title: and it stays failed");
    is($node->safe_psql('postgres', "SELECT backfill_forget($job)"), 't', "$title: it can be forgotten");
    check_clean($node, $title);
}

$node->stop;
done_testing();
