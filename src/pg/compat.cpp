#include "partbackfill/pg/server.hpp"

extern "C" {
#include "catalog/heap.h"
#include "catalog/index.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_constraint.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/guc_tables.h"
#include "utils/wait_event.h"
}

#include <utility>

#include "partbackfill/pg/compat.hpp"

namespace partbackfill::pg {

void set_new_file(Relation relation) {
#if PG_VERSION_NUM >= 160000
    RelationSetNewRelfilenumber(relation, relation->rd_rel->relpersistence);
#else
    RelationSetNewRelfilenode(relation, relation->rd_rel->relpersistence);
#endif
}

OwnerContext become_restricted_owner(Oid table) {
    OwnerContext before{};
    GetUserIdAndSecContext(&before.user, &before.security);
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", table);
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    SetUserIdAndSecContext(owner, before.security | SECURITY_RESTRICTED_OPERATION);
    before.settings = NewGUCNestLevel();
#if PG_VERSION_NUM >= 170000
    RestrictSearchPath();
#endif
    return before;
}

void become_again(const OwnerContext &before) {
    AtEOXact_GUC(false, before.settings);
    SetUserIdAndSecContext(before.user, before.security);
}

bool file_is_of_this_subtransaction(Relation relation) {
#if PG_VERSION_NUM >= 160000
    return relation->rd_newRelfilelocatorSubid == GetCurrentSubTransactionId();
#else
    return relation->rd_newRelfilenodeSubid == GetCurrentSubTransactionId();
#endif
}

Oid define_index(Oid table, IndexStmt *statement) {
    const bool is_alter_table = false;
    const bool check_rights = true;
    const bool check_not_in_use = false;
    const bool skip_build = false;
    const bool quiet = true;
#if PG_VERSION_NUM >= 160000
    const ObjectAddress address =
        DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid, -1, is_alter_table, check_rights,
                    check_not_in_use, skip_build, quiet);
#else
    const ObjectAddress address =
        DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid, is_alter_table, check_rights,
                    check_not_in_use, skip_build, quiet);
#endif
    return address.objectId;
}

void rebuild_index(Oid index, char persistence) {
    ReindexParams params{}; // its progress would end with it, and what there is to report of others
    const bool skip_constraint_checks = false;
#if PG_VERSION_NUM >= 170000
    reindex_index(nullptr, index, skip_constraint_checks, persistence, &params);
#else
    reindex_index(index, skip_constraint_checks, persistence, &params);
#endif
}

AttrMap *column_map(TupleDesc from, TupleDesc to) {
#if PG_VERSION_NUM >= 160000
    return build_attrmap_by_name(from, to, false);
#else
    return build_attrmap_by_name(from, to);
#endif
}

namespace {

struct config_generic **all_settings(int *count) {
#if PG_VERSION_NUM >= 160000
    return get_guc_variables(count);
#else
    *count = GetNumConfigOptions();
    return get_guc_variables();
#endif
}

bool decides_meaning(const struct config_generic *variable) {
    const config_group group = variable->group;
    const bool wanted = group == CLIENT_CONN_STATEMENT || group == CLIENT_CONN_LOCALE ||
                        group == CLIENT_CONN_OTHER || group == CUSTOM_OPTIONS ||
                        // Both groups of compatibility options; the second has had two names.
                        (group >= COMPAT_OPTIONS_PREVIOUS && group < ERROR_HANDLING_OPTIONS);
    return wanted && variable->context == PGC_USERSET && (variable->flags & GUC_CUSTOM_PLACEHOLDER) == 0;
}

} // namespace

List *settings_of_meaning() {
    int count = 0;
    struct config_generic **variables = all_settings(&count);
    List *names = NIL;
    for (int i = 0; i < count; i++)
        if (decides_meaning(variables[i]))
            names = lappend(names, pstrdup(variables[i]->name));
    return names;
}

List *session_placeholders() {
    int count = 0;
    struct config_generic **variables = all_settings(&count);
    List *names = NIL;
    for (int i = 0; i < count; i++) {
        const struct config_generic *variable = variables[i];
        if ((variable->flags & GUC_CUSTOM_PLACEHOLDER) != 0 && variable->source != PGC_S_DEFAULT)
            names = lappend(names, pstrdup(variable->name));
    }
    return names;
}

bool lock_held_by_me(const LOCKTAG *tag, LOCKMODE mode) {
#if PG_VERSION_NUM >= 170000
    return LockHeldByMe(tag, mode, false);
#else
    return LockHeldByMe(tag, mode);
#endif
}

PGPROC *process_of(VirtualTransactionId transaction) {
#if PG_VERSION_NUM >= 170000
    if (transaction.procNumber == INVALID_PROC_NUMBER)
        return nullptr;
    PGPROC *process = ProcNumberGetProc(transaction.procNumber);
    return process != nullptr && process->vxid.lxid == transaction.localTransactionId ? process : nullptr;
#else
    if (transaction.backendId == InvalidBackendId)
        return nullptr;
    PGPROC *process = BackendIdGetProc(transaction.backendId);
    return process != nullptr && process->lxid == transaction.localTransactionId ? process : nullptr;
#endif
}

namespace {

// Of the processes as this transaction sees them, from 1 to pgstat_fetch_stat_numbackends().
const LocalPgBackendStatus *status_of_backend(int i) {
#if PG_VERSION_NUM >= 160000
    return pgstat_get_local_beentry_by_index(i);
#else
    return pgstat_fetch_stat_local_beentry(i);
#endif
}

} // namespace

const char *application_name_of(int pid) {
    for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++) {
        const LocalPgBackendStatus *entry = status_of_backend(i);
        if (entry != nullptr && entry->backendStatus.st_procpid == pid)
            return entry->backendStatus.st_appname;
    }
    return nullptr;
}

BackgroundProcesses background_processes(const char *type) {
    BackgroundProcesses count{0, 0};
    pgstat_clear_snapshot(); // what was read of other processes stands still otherwise
    for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++) {
        const LocalPgBackendStatus *entry = status_of_backend(i);
        if (entry == nullptr || entry->backendStatus.st_backendType != B_BG_WORKER)
            continue;
        const char *its = GetBackgroundWorkerTypeByPid(entry->backendStatus.st_procpid);
        count.all++;
        count.of_type += its != nullptr && strcmp(its, type) == 0 ? 1 : 0;
    }
    return count;
}

void mark_enforced([[maybe_unused]] Constraint *constraint) {
#if PG_VERSION_NUM >= 180000
    constraint->is_enforced = true;
#endif
}

bool holds_for_all_rows(const ConstrCheck &check) {
#if PG_VERSION_NUM >= 180000
    return check.ccvalid && check.ccenforced;
#else
    return check.ccvalid;
#endif
}

#if PG_VERSION_NUM >= 180000
namespace {

bool not_null_is_valid(Relation table, AttrNumber column, char **name) {
    HeapTuple tuple = findNotNullConstraintAttnum(RelationGetRelid(table), column);
    if (!HeapTupleIsValid(tuple))
        return false;
    const auto *constraint = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple));
    *name = pstrdup(NameStr(constraint->conname));
    return constraint->convalidated;
}

} // namespace
#endif

List *not_null_constraints([[maybe_unused]] Relation table) {
    List *constraints = NIL;
#if PG_VERSION_NUM >= 180000
    for (int i = 0; i < RelationGetDescr(table)->natts; i++) {
        const Form_pg_attribute column = TupleDescAttr(RelationGetDescr(table), i);
        char *name = nullptr;
        if (!column->attnotnull || column->attisdropped || !not_null_is_valid(table, column->attnum, &name))
            continue;
        auto *constraint = makeNode(Constraint);
        constraint->contype = CONSTR_NOTNULL;
        constraint->conname = name;
        constraint->location = -1;
        constraint->keys = list_make1(makeString(pstrdup(NameStr(column->attname))));
        constraint->initially_valid = true;
        constraint->skip_validation = true;
        mark_enforced(constraint);
        constraints = lappend(constraints, constraint);
    }
#endif
    return constraints;
}

void leave_out_invalid_not_nulls([[maybe_unused]] Relation table, [[maybe_unused]] TupleDesc copy) {
#if PG_VERSION_NUM >= 180000
    for (int i = 0; i < copy->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(copy, i);
        char *name = nullptr;
        if (!column->attnotnull || column->attisdropped || not_null_is_valid(table, column->attnum, &name))
            continue;
        column->attnotnull = false;
        populate_compact_attribute(copy, i);
    }
#endif
}

void store_default(Relation relation, AttrNumber column, Node *expression) {
    const bool is_internal = true;
#if PG_VERSION_NUM >= 180000
    StoreAttrDefault(relation, column, expression, is_internal);
#else
    const bool add_column_mode = false;
    StoreAttrDefault(relation, column, expression, is_internal, add_column_mode);
#endif
}

void exchange_all_frozen([[maybe_unused]] Form_pg_class a, [[maybe_unused]] Form_pg_class b) {
#if PG_VERSION_NUM >= 180000
    std::swap(a->relallfrozen, b->relallfrozen);
#endif
}

void exchange_file_history(Relation a, Relation b) {
#if PG_VERSION_NUM >= 160000
    const bool is_new = b->rd_firstRelfilelocatorSubid != InvalidSubTransactionId;
    b->rd_newRelfilelocatorSubid = a->rd_newRelfilelocatorSubid;
    b->rd_firstRelfilelocatorSubid = a->rd_firstRelfilelocatorSubid;
    if (is_new)
        RelationAssumeNewRelfilelocator(a);
#else
    const bool is_new = b->rd_firstRelfilenodeSubid != InvalidSubTransactionId;
    b->rd_newRelfilenodeSubid = a->rd_newRelfilenodeSubid;
    b->rd_firstRelfilenodeSubid = a->rd_firstRelfilenodeSubid;
    if (is_new)
        RelationAssumeNewRelfilenode(a);
#endif
}

void exchange_row_counters(PgStat_StatTabEntry &a, PgStat_StatTabEntry &b) {
#if PG_VERSION_NUM >= 160000
    std::swap(a.live_tuples, b.live_tuples);
    std::swap(a.dead_tuples, b.dead_tuples);
    std::swap(a.mod_since_analyze, b.mod_since_analyze);
    std::swap(a.ins_since_vacuum, b.ins_since_vacuum);
    std::swap(a.last_analyze_time, b.last_analyze_time);
#else
    std::swap(a.n_live_tuples, b.n_live_tuples);
    std::swap(a.n_dead_tuples, b.n_dead_tuples);
    std::swap(a.changes_since_analyze, b.changes_since_analyze);
    std::swap(a.inserts_since_vacuum, b.inserts_since_vacuum);
    std::swap(a.analyze_timestamp, b.analyze_timestamp);
#endif
    a.analyze_count += std::exchange(b.analyze_count, 0);
}

std::uint32_t bypass_login_flag() {
#if PG_VERSION_NUM >= 170000
    return BGWORKER_BYPASS_ROLELOGINCHECK;
#else
    return 0;
#endif
}

bool could_set_role(Oid member, Oid role) {
#if PG_VERSION_NUM >= 160000
    return member_can_set_role(member, role);
#else
    return is_member_of_role(member, role);
#endif
}

bool needs_login_role() {
    return bypass_login_flag() == 0;
}

bool attach_minds_kinds() {
    return PG_VERSION_NUM >= 170000;
}

std::uint32_t wait_event([[maybe_unused]] Wait why) {
#if PG_VERSION_NUM >= 170000
    static std::uint32_t delay = 0;
    static std::uint32_t idle = 0;
    static std::uint32_t backoff = 0;
    static std::uint32_t result = 0;
    static std::uint32_t throttle = 0;
    const auto named = [](std::uint32_t &event, const char *name) {
        if (event == 0)
            event = WaitEventExtensionNew(name);
        return event;
    };
    switch (why) {
    case Wait::delay:
        return named(delay, "PartbackfillDelay");
    case Wait::idle:
        return named(idle, "PartbackfillIdle");
    case Wait::backoff:
        return named(backoff, "PartbackfillBackoff");
    case Wait::result:
        return named(result, "PartbackfillResult");
    case Wait::throttle:
        return named(throttle, "PartbackfillThrottle");
    }
#endif
    return PG_WAIT_EXTENSION;
}

} // namespace partbackfill::pg
