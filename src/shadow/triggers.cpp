#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/attmap.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

#include "partbackfill/pg/definitions.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/shadow/definition.hpp"
#include "partbackfill/shadow/triggers.hpp"

namespace partbackfill::shadow {

namespace {

Datum attribute(HeapTuple tuple, Relation catalog, AttrNumber number, bool *null) {
    return heap_getattr(tuple, number, RelationGetDescr(catalog), null);
}

// The columns of UPDATE OF.
List *column_names(Form_pg_trigger trigger) {
    List *names = NIL;
    for (int i = 0; i < trigger->tgattr.dim1; i++)
        names = lappend(names, makeString(get_attname(trigger->tgrelid, trigger->tgattr.values[i], false)));
    return names;
}

// Arguments are stored one after the other, each ended by a zero byte.
List *arguments(HeapTuple tuple, Relation catalog) {
    const auto *trigger = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
    bool null = false;
    const Datum value = attribute(tuple, catalog, Anum_pg_trigger_tgargs, &null);
    List *list = NIL;
    if (null || trigger->tgnargs == 0)
        return list;
    const char *next = VARDATA_ANY(DatumGetByteaPP(value));
    for (int i = 0; i < trigger->tgnargs; i++) {
        list = lappend(list, makeString(pstrdup(next)));
        next += strlen(next) + 1;
    }
    return list;
}

void add_transition(List **list, HeapTuple tuple, Relation catalog, AttrNumber column, bool is_new) {
    bool null = false;
    const Datum name = attribute(tuple, catalog, column, &null);
    if (null)
        return;
    auto *transition = makeNode(TriggerTransition);
    transition->name = pstrdup(NameStr(*DatumGetName(name)));
    transition->isNew = is_new;
    transition->isTable = true;
    *list = lappend(*list, transition);
}

// The WHEN condition with the column numbers of the shadow. OLD and NEW as a whole are rows of the
// shadow's type; converted to the live partition's type they would tie the trigger to the partition
// that is moved away.
Node *when_clause(HeapTuple tuple, Relation catalog, Relation live, Relation shadow) {
    bool null = false;
    const Datum qual = attribute(tuple, catalog, Anum_pg_trigger_tgqual, &null);
    if (null)
        return nullptr;
    auto *when = static_cast<Node *>(stringToNode(TextDatumGetCString(qual)));
    AttrMap *map = pg::column_map(RelationGetDescr(shadow), RelationGetDescr(live));
    bool whole_row = false;
    when = map_variable_attnos(when, PRS2_OLD_VARNO, 0, map, InvalidOid, &whole_row);
    when = map_variable_attnos(when, PRS2_NEW_VARNO, 0, map, InvalidOid, &whole_row);
    List *variables = pull_var_clause(when, 0);
    for (int i = 0; i < list_length(variables); i++) {
        auto *variable = static_cast<Var *>(list_nth(variables, i));
        if (variable->varattno == InvalidAttrNumber)
            variable->vartype = shadow->rd_rel->reltype;
    }
    return when;
}

// Records the objects on which the WHEN condition depends. The server does so for a clause that it
// parses itself, not for a ready-made one.
void record_when(const ObjectAddress *trigger, Node *when, Relation shadow) {
    auto *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_RELATION;
    entry->relid = RelationGetRelid(shadow);
    entry->relkind = RELKIND_RELATION;
    entry->rellockmode = AccessShareLock;
    // OLD and NEW are the first and the second.
    recordDependencyOnExpr(trigger, when, list_make2(entry, entry), DEPENDENCY_NORMAL);
}

void copy_trigger(HeapTuple tuple, Relation catalog, Relation live, Relation shadow) {
    auto *trigger = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
    auto *statement = makeNode(CreateTrigStmt);
    statement->trigname = pstrdup(NameStr(trigger->tgname));
    statement->row = TRIGGER_FOR_ROW(trigger->tgtype);
    statement->timing = trigger->tgtype & TRIGGER_TYPE_TIMING_MASK;
    statement->events = trigger->tgtype & TRIGGER_TYPE_EVENT_MASK;
    statement->columns = column_names(trigger);
    statement->args = arguments(tuple, catalog);
    statement->isconstraint = OidIsValid(trigger->tgconstraint);
    statement->deferrable = trigger->tgdeferrable;
    statement->initdeferred = trigger->tginitdeferred;
    add_transition(&statement->transitionRels, tuple, catalog, Anum_pg_trigger_tgoldtable, false);
    add_transition(&statement->transitionRels, tuple, catalog, Anum_pg_trigger_tgnewtable, true);
    Node *when = when_clause(tuple, catalog, live, shadow);
    const ObjectAddress copied = CreateTriggerFiringOn(
        statement, nullptr, RelationGetRelid(shadow), trigger->tgconstrrelid, InvalidOid, InvalidOid,
        trigger->tgfoid, InvalidOid, when, false, false, trigger->tgenabled);
    if (when != nullptr)
        record_when(&copied, when, shadow);
    CommandCounterIncrement();
    copy_comment(TriggerRelationId, trigger->oid, copied.objectId);
    if (OidIsValid(trigger->tgconstraint))
        copy_comment(ConstraintRelationId, trigger->tgconstraint,
                     get_relation_constraint_oid(RelationGetRelid(shadow), NameStr(trigger->tgname), false));
}

void copy_all(Oid live_oid, Oid shadow_oid) {
    Relation live = table_open(live_oid, AccessShareLock);
    Relation shadow = table_open(shadow_oid, ShareRowExclusiveLock);
    Relation catalog = table_open(TriggerRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(live_oid));
    SysScanDesc scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, nullptr, 1, &key);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        const auto *trigger = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
        if (!trigger->tgisinternal && !OidIsValid(trigger->tgparentid))
            copy_trigger(tuple, catalog, live, shadow);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    table_close(shadow, NoLock);
    table_close(live, NoLock);
}

} // namespace

void copy_triggers(Oid live, Oid shadow) {
    pg::guard([&] {
        copy_all(live, shadow);
        CommandCounterIncrement();
    });
}

} // namespace partbackfill::shadow
