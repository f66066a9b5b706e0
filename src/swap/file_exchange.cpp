#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/toast_internals.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "commands/tablecmds.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
}

#include <utility>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/lock_holders.hpp"
#include "partbackfill/pg/relation_files.hpp"
#include "partbackfill/swap/file_exchange.hpp"

namespace partbackfill::swap {

namespace {

void require_lock(Oid relation) {
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, relation);
    if (!pg::lock_held_by_me(&tag, AccessExclusiveLock))
        elog(ERROR, "relation %u is not locked for the exchange", relation);
}

HeapTuple class_row(Oid relation) {
    HeapTuple tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relation);
    return tuple;
}

Form_pg_class form(HeapTuple tuple) {
    return reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
}

// Exchanges in pg_class the file and its place, the known size, and the oldest transactions
// that the file may name. This is safe because no other session can have the relation open,
// and a session that opens it next reads this row anew: CatalogTupleUpdate sends the
// invalidation with the commit.
void exchange_class_rows(Relation catalog, Oid live, Oid shadow) {
    require_lock(live);
    require_lock(shadow);
    HeapTuple live_row = class_row(live);
    HeapTuple shadow_row = class_row(shadow);
    const Form_pg_class a = form(live_row);
    const Form_pg_class b = form(shadow_row);
    // Files of another kind under the same catalog row could not be read.
    if (a->relkind != b->relkind || a->relam != b->relam || a->relpersistence != b->relpersistence ||
        a->relisshared || !OidIsValid(a->relfilenode) || !OidIsValid(b->relfilenode))
        elog(ERROR, "relations %u and %u cannot exchange their files", live, shadow);
    std::swap(a->relfilenode, b->relfilenode);
    std::swap(a->reltablespace, b->reltablespace);
    std::swap(a->relpages, b->relpages);
    std::swap(a->reltuples, b->reltuples);
    std::swap(a->relallvisible, b->relallvisible);
    pg::exchange_all_frozen(a, b);
    std::swap(a->relfrozenxid, b->relfrozenxid);
    std::swap(a->relminmxid, b->relminmxid);
    b->relrewrite = InvalidOid;
    CatalogTupleUpdate(catalog, &live_row->t_self, live_row);
    CatalogTupleUpdate(catalog, &shadow_row->t_self, shadow_row);
    heap_freetuple(live_row);
    heap_freetuple(shadow_row);
}

// Exchanges in the relation cache which of the two has a file of this transaction, which
// decides what is synced and logged under wal_level = minimal.
void exchange_file_history(Oid live, Oid shadow) {
    Relation a = relation_open(live, NoLock);
    Relation b = relation_open(shadow, NoLock);
    pg::exchange_file_history(a, b);
    RelationCloseSmgr(a);
    RelationCloseSmgr(b);
    relation_close(a, NoLock);
    relation_close(b, NoLock);
}

// Records in pg_depend that the TOAST table belongs to the table.
void depend_on(Oid toast, Oid table) {
    if (deleteDependencyRecordsFor(RelationRelationId, toast, false) != 1)
        elog(ERROR, "expected one dependency of TOAST table %u", toast);
    ObjectAddress dependent;
    ObjectAddress referenced;
    ObjectAddressSet(dependent, RelationRelationId, toast);
    ObjectAddressSet(referenced, RelationRelationId, table);
    recordDependencyOn(&dependent, &referenced, DEPENDENCY_INTERNAL);
}

// Renames a TOAST table and its index in pg_class.
void rename_toast(Oid toast, const char *name) {
    const Oid index = toast_get_valid_index(toast, NoLock);
    RenameRelationInternal(toast, name, true, false);
    RenameRelationInternal(index, psprintf("%s_index", name), true, true);
    CommandCounterIncrement();
}

// Exchanges pg_class.reltoastrelid: the TOAST tables change hands as a whole, since rows name
// the TOAST table that has their long values, and TOAST tables are named after their table. A
// side may have none, and then has no such row.
void exchange_toast(Relation catalog, Oid live, Oid shadow) {
    HeapTuple live_row = class_row(live);
    HeapTuple shadow_row = class_row(shadow);
    const Oid live_toast = form(live_row)->reltoastrelid;
    const Oid shadow_toast = form(shadow_row)->reltoastrelid;
    form(live_row)->reltoastrelid = shadow_toast;
    form(shadow_row)->reltoastrelid = live_toast;
    CatalogTupleUpdate(catalog, &live_row->t_self, live_row);
    CatalogTupleUpdate(catalog, &shadow_row->t_self, shadow_row);
    heap_freetuple(live_row);
    heap_freetuple(shadow_row);
    if (OidIsValid(live_toast)) {
        require_lock(live_toast);
        depend_on(live_toast, shadow);
        rename_toast(live_toast, psprintf("partbackfill_%u", live));
    }
    if (OidIsValid(shadow_toast)) {
        require_lock(shadow_toast);
        depend_on(shadow_toast, live);
        rename_toast(shadow_toast, psprintf("pg_toast_%u", live));
    }
    if (OidIsValid(live_toast))
        rename_toast(live_toast, psprintf("pg_toast_%u", shadow));
    CommandCounterIncrement();
}

HeapTuple attribute_row(Oid relation, AttrNumber number) {
    HeapTuple tuple = SearchSysCacheCopy2(ATTNUM, ObjectIdGetDatum(relation), Int16GetDatum(number));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for column %d of relation %u", number, relation);
    return tuple;
}

// Sets the missing value of a column, which rows that are older than the column have.
void set_missing_value(Relation catalog, HeapTuple to, bool has, Datum value, bool null) {
    int columns[] = {Anum_pg_attribute_atthasmissing, Anum_pg_attribute_attmissingval};
    Datum values[] = {BoolGetDatum(has), value};
    bool nulls[] = {false, null};
    HeapTuple changed = heap_modify_tuple_by_cols(to, RelationGetDescr(catalog), 2, columns, values, nulls);
    CatalogTupleUpdate(catalog, &to->t_self, changed);
    heap_freetuple(changed);
}

// Exchanges pg_attribute.attmissingval, which belongs to the rows that lack the column.
void exchange_missing_values(Oid live, Oid shadow) {
    Relation catalog = table_open(AttributeRelationId, RowExclusiveLock);
    HeapTuple live_row = class_row(live);
    const AttrNumber columns = form(live_row)->relnatts;
    heap_freetuple(live_row);
    for (AttrNumber number = 1; number <= columns; number++) {
        HeapTuple a = attribute_row(live, number);
        HeapTuple b = attribute_row(shadow, number);
        const bool a_has = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(a))->atthasmissing;
        const bool b_has = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(b))->atthasmissing;
        if (a_has || b_has) {
            bool a_null = false;
            bool b_null = false;
            const Datum a_value =
                heap_getattr(a, Anum_pg_attribute_attmissingval, RelationGetDescr(catalog), &a_null);
            const Datum b_value =
                heap_getattr(b, Anum_pg_attribute_attmissingval, RelationGetDescr(catalog), &b_null);
            set_missing_value(catalog, a, b_has, b_value, b_null);
            set_missing_value(catalog, b, a_has, a_value, a_null);
        }
        heap_freetuple(a);
        heap_freetuple(b);
    }
    table_close(catalog, RowExclusiveLock);
}

// Turns what serializable transactions have read by place in the table or an index, and the
// gaps that they have found in an index, into a read of the whole table: the places mean other
// rows from now on.
void transfer_predicate_locks(Oid live) {
    Relation relation = relation_open(live, NoLock);
    TransferPredicateLocksToHeapRelation(relation);
    relation_close(relation, NoLock);
}

void exchange_pair(const Pair &pair) {
    Relation catalog = table_open(RelationRelationId, RowExclusiveLock);
    exchange_class_rows(catalog, pair.live, pair.shadow);
    table_close(catalog, RowExclusiveLock);
    CommandCounterIncrement();
    exchange_file_history(pair.live, pair.shadow);
}

void exchange_table(const Pair &pair) {
    transfer_predicate_locks(pair.live);
    exchange_pair(pair);
    exchange_missing_values(pair.live, pair.shadow);
    CommandCounterIncrement();
    Relation catalog = table_open(RelationRelationId, RowExclusiveLock);
    exchange_toast(catalog, pair.live, pair.shadow);
    table_close(catalog, RowExclusiveLock);
}

} // namespace

void exchange_files(const Pair &table, const std::vector<Pair> &indexes) {
    pg::guard([&] { exchange_table(table); });
    for (const Pair &index : indexes)
        pg::guard([&] {
            transfer_predicate_locks(index.live);
            exchange_pair(index);
        });
}

} // namespace partbackfill::swap
