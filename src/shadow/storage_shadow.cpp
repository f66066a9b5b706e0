#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/toasting.h"
#include "nodes/makefuncs.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

#include <fmt/format.h>

#include "partbackfill/pg/definitions.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/shadow/carry.hpp"
#include "partbackfill/shadow/check_constraint.hpp"
#include "partbackfill/shadow/default_sibling.hpp"
#include "partbackfill/shadow/definition.hpp"
#include "partbackfill/shadow/job_schemas.hpp"
#include "partbackfill/shadow/storage_shadow.hpp"

namespace partbackfill::shadow {

namespace {

// pg_class.reloptions of a relation; 0 when there are none.
Datum options_of(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relation);
    bool null = false;
    const Datum stored = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_reloptions, &null);
    const Datum options = null ? 0 : PointerGetDatum(PG_DETOAST_DATUM_COPY(stored));
    ReleaseSysCache(tuple);
    return options;
}

// The descriptor of the live partition makes the two tables alike on disk; CLUSTER makes its new heap
// in this way. But the shadow, which keeps the old rows after the swap, inherits nothing: a dump that
// left inherited columns to a parent would lose them.
TupleDesc standalone_descriptor(Relation live) {
    TupleDesc descriptor = CreateTupleDescCopyConstr(RelationGetDescr(live));
    for (int i = 0; i < descriptor->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(descriptor, i);
        column->attislocal = true;
        column->attinhcount = 0;
        column->attidentity = '\0';
    }
    pg::leave_out_invalid_not_nulls(live, descriptor);
    return descriptor;
}

bool has_toast(Oid table) {
    return pg::query_row("SELECT reltoastrelid <> 0 FROM pg_class WHERE oid = $1", {table}).boolean(0);
}

void create_toast(Oid table, Oid live) {
    pg::guard([&] {
        Relation model = table_open(live, AccessShareLock);
        const Oid toast = model->rd_rel->reltoastrelid;
        table_close(model, NoLock);
        NewHeapCreateToastTable(table, options_of(toast), AccessExclusiveLock, toast);
        CommandCounterIncrement();
    });
}

// Gives the shadow a TOAST table when the live partition has one, so that the TOAST tables go with
// their rows, and the options stay. The server makes no TOAST table when no column can be long, as
// after DROP COLUMN: while the server looks, it is shown a long column, which is a dropped one or one
// whose type or storage takes no such values any more.
void create_toast_like(Oid live, Oid shadow) {
    if (!has_toast(live))
        return;
    create_toast(shadow, live);
    if (has_toast(shadow))
        return;
    {
        const pg::AsExtensionOwner as_owner;
        pg::execute(R"SQL(
            UPDATE pg_attribute SET attisdropped = false, attstorage = 'x', atttypmod = -1
            WHERE attrelid = $1 AND attlen = -1
        )SQL",
                    {shadow});
    }
    create_toast(shadow, live);
    const pg::AsExtensionOwner as_owner;
    pg::execute(R"SQL(
        UPDATE pg_attribute AS mine
        SET attisdropped = theirs.attisdropped, attstorage = theirs.attstorage, atttypmod = theirs.atttypmod
        FROM pg_attribute AS theirs
        WHERE mine.attrelid = $2 AND theirs.attrelid = $1 AND theirs.attnum = mine.attnum AND mine.attlen = -1
    )SQL",
                {live, shadow});
}

Oid make_table(Relation live, const char *schema) {
    const Oid oid = heap_create_with_catalog(
        RelationGetRelationName(live), get_namespace_oid(schema, false), live->rd_rel->reltablespace,
        InvalidOid, InvalidOid, InvalidOid, live->rd_rel->relowner, live->rd_rel->relam,
        standalone_descriptor(live), NIL, RELKIND_RELATION, live->rd_rel->relpersistence, false, false,
        ONCOMMIT_NOOP, options_of(RelationGetRelid(live)), false, true, true, InvalidOid, nullptr);
    CommandCounterIncrement();
    return oid;
}

// Copies generated columns, CHECKs and NOT NULLs. Column numbers in expressions are right as they are,
// since both tables have the same. A constraint that is not valid concerns new rows of the live
// partition only, not those of a load.
void copy_expressions(Relation live, Relation shadow) {
    const TupleConstr *constraints = RelationGetDescr(live)->constr;
    if (constraints == nullptr)
        return;
    for (int i = 0; i < constraints->num_defval; i++) {
        const AttrDefault &value = constraints->defval[i];
        if (TupleDescAttr(RelationGetDescr(live), value.adnum - 1)->attgenerated != '\0')
            pg::store_default(shadow, value.adnum, static_cast<Node *>(stringToNode(value.adbin)));
    }
    List *checks = NIL;
    for (int i = 0; i < constraints->num_check; i++) {
        const ConstrCheck &check = constraints->check[i];
        if (!pg::holds_for_all_rows(check))
            continue;
        checks = lappend(checks, cooked_check(check.ccname, check.ccbin, true));
    }
    checks = list_concat(checks, pg::not_null_constraints(live));
    add_constraints(shadow, checks);
}

// Records in pg_class.relrewrite for which index of the live partition each index of the shadow is.
void record_pairs(Oid live, Oid shadow) {
    const pg::AsExtensionOwner as_owner;
    pg::execute(R"SQL(
        UPDATE pg_class AS c SET relrewrite = l.oid
        FROM pg_index AS li
        JOIN pg_class AS l ON l.oid = li.indexrelid
        CROSS JOIN pg_index AS si
        WHERE li.indrelid = $1 AND si.indrelid = $2 AND c.oid = si.indexrelid AND c.relname = l.relname
    )SQL",
                {live, shadow});
}

void drop_statistics(Oid shadow) {
    pg::execute_each(R"SQL(
        SELECT format('DROP STATISTICS %s.%I', s.stxnamespace::regnamespace, s.stxname)
        FROM pg_statistic_ext AS s WHERE s.stxrelid = $1
    )SQL",
                     {shadow});
}

} // namespace

Oid create_storage_shadow(std::int64_t job, const catalog::Leaf &leaf, const std::vector<Oid> &proofs) {
    const std::string schema = new_schema(job);
    const Oid oid = pg::guard([&] {
        Relation live = table_open(leaf.oid, AccessShareLock);
        const Oid made = make_table(live, schema.c_str());
        Relation shadow = table_open(made, AccessExclusiveLock);
        copy_expressions(live, shadow);
        table_close(shadow, NoLock);
        table_close(live, NoLock);
        return made;
    });
    create_toast_like(leaf.oid, oid);
    drop_copies_of_proofs(oid, proofs);
    copy_array_type_name(leaf.oid, oid);
    add_bounds_constraint(leaf.oid, oid);
    clone_indexes(leaf.oid, oid);
    record_pairs(leaf.oid, oid);
    carry_statistics(leaf, schema);
    return oid;
}

void adopt_storage_shadow(const catalog::Leaf &leaf, Oid shadow, const std::string &schema) {
    record_pairs(leaf.oid, shadow);
    drop_statistics(shadow);
    carry_statistics(leaf, schema);
}

} // namespace partbackfill::shadow
