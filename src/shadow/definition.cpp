#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/attmap.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/heap.h"
#include "catalog/indexing.h"
#include "catalog/partition.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "nodes/makefuncs.h"
#include "parser/parse_utilcmd.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

#include "partbackfill/catalog/catalog_drop.hpp"
#include "partbackfill/pg/definitions.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/indexes.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/shadow/check_constraint.hpp"
#include "partbackfill/shadow/definition.hpp"

namespace partbackfill::shadow {

namespace {

// ----- the bounds constraint

// The expression of the bounds constraint; nullptr when there is nothing to check: a lone DEFAULT takes
// everything. In the memory of the caller.
const char *bounds_text(Oid live_oid, Oid shadow_oid) {
    Relation live = table_open(live_oid, NoLock);
    Relation shadow = table_open(shadow_oid, NoLock);
    List *quals = RelationGetPartitionQual(live);
    const char *text =
        quals == NIL ? nullptr : expression_of(map_partition_varattnos(quals, 1, shadow, live));
    table_close(shadow, NoLock);
    table_close(live, NoLock);
    return text;
}

bool add_bounds(Oid live, Oid shadow_oid, bool valid) {
    Relation shadow = table_open(shadow_oid, AccessExclusiveLock);
    const char *text = bounds_text(live, shadow_oid);
    if (text != nullptr)
        add_constraints(shadow, list_make1(cooked_check(kBoundsConstraint, text, valid)));
    table_close(shadow, NoLock);
    return text != nullptr;
}

// ----- grants

struct Granted {
    Oid catalog; // of the object
    Oid object;
    int32 attribute; // 0: none
    Oid owner;
};

// Replaces the access control list of a catalog row by that of another row, in pg_shdepend, too.
void replace_acl(Relation catalog, HeapTuple target, HeapTuple source, AttrNumber acl_column,
                 const Granted &granted) {
    bool source_null = false;
    bool target_null = false;
    const Datum wanted = heap_getattr(source, acl_column, RelationGetDescr(catalog), &source_null);
    const Datum present = heap_getattr(target, acl_column, RelationGetDescr(catalog), &target_null);
    if (source_null && target_null)
        return;
    Oid *old_members = nullptr;
    Oid *new_members = nullptr;
    const int old_count = target_null ? 0 : aclmembers(DatumGetAclPCopy(present), &old_members);
    const int new_count = source_null ? 0 : aclmembers(DatumGetAclPCopy(wanted), &new_members);
    int columns[] = {acl_column};
    Datum values[] = {wanted};
    bool nulls[] = {source_null};
    HeapTuple changed =
        heap_modify_tuple_by_cols(target, RelationGetDescr(catalog), 1, columns, values, nulls);
    CatalogTupleUpdate(catalog, &target->t_self, changed);
    updateAclDependencies(granted.catalog, granted.object, granted.attribute, granted.owner, old_count,
                          old_members, new_count, new_members);
    heap_freetuple(changed);
}

HeapTuple pg_class_copy(Oid relation) {
    HeapTuple tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relation);
    return tuple;
}

void copy_table_acl(Oid live, Oid shadow) {
    Relation catalog = table_open(RelationRelationId, RowExclusiveLock);
    HeapTuple source = pg_class_copy(live);
    HeapTuple target = pg_class_copy(shadow);
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(target))->relowner;
    replace_acl(catalog, target, source, Anum_pg_class_relacl, {RelationRelationId, shadow, 0, owner});
    table_close(catalog, RowExclusiveLock);
    CommandCounterIncrement();
}

void copy_column_acls(Oid live, Oid shadow) {
    Relation catalog = table_open(AttributeRelationId, RowExclusiveLock);
    Relation live_relation = table_open(live, NoLock);
    const TupleDesc desc = RelationGetDescr(live_relation);
    const Oid owner = live_relation->rd_rel->relowner;
    for (int i = 0; i < desc->natts; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(desc, i);
        if (attribute->attisdropped)
            continue;
        HeapTuple source = SearchSysCacheCopyAttName(live, NameStr(attribute->attname));
        HeapTuple target = SearchSysCacheCopyAttName(shadow, NameStr(attribute->attname));
        if (!HeapTupleIsValid(source) || !HeapTupleIsValid(target))
            elog(ERROR, "cache lookup failed for column \"%s\"", NameStr(attribute->attname));
        const AttrNumber number = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(target))->attnum;
        replace_acl(catalog, target, source, Anum_pg_attribute_attacl,
                    {RelationRelationId, shadow, number, owner});
    }
    table_close(live_relation, NoLock);
    table_close(catalog, RowExclusiveLock);
    CommandCounterIncrement();
}

// ----- types

void copy_type_acl(Oid live, Oid shadow) {
    Relation catalog = table_open(TypeRelationId, RowExclusiveLock);
    HeapTuple source = SearchSysCacheCopy1(TYPEOID, ObjectIdGetDatum(live));
    HeapTuple target = SearchSysCacheCopy1(TYPEOID, ObjectIdGetDatum(shadow));
    if (!HeapTupleIsValid(source) || !HeapTupleIsValid(target))
        elog(ERROR, "cache lookup failed for type %u", HeapTupleIsValid(source) ? shadow : live);
    const Oid owner = reinterpret_cast<Form_pg_type>(GETSTRUCT(target))->typowner;
    replace_acl(catalog, target, source, Anum_pg_type_typacl, {TypeRelationId, shadow, 0, owner});
    table_close(catalog, RowExclusiveLock);
    CommandCounterIncrement();
}

const char *type_name(Oid type) {
    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for type %u", type);
    const char *name = pstrdup(NameStr(reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple))->typname));
    ReleaseSysCache(tuple);
    return name;
}

// ----- indexes

void clone_index(Relation live, Relation shadow, Oid index_oid) {
    Relation index = relation_open(index_oid, AccessShareLock);
    if (!index->rd_index->indisvalid) {
        relation_close(index, NoLock);
        return;
    }
    AttrMap *map = pg::column_map(RelationGetDescr(shadow), RelationGetDescr(live));
    Oid live_constraint = InvalidOid;
    RangeVar *name = makeRangeVar(get_namespace_name(RelationGetNamespace(shadow)),
                                  pstrdup(RelationGetRelationName(shadow)), -1);
    IndexStmt *statement = generateClonedIndexStmt(name, index, map, &live_constraint);
    statement->idxname = pstrdup(RelationGetRelationName(index));
    const Oid cloned = pg::define_index(RelationGetRelid(shadow), statement);
    CommandCounterIncrement();
    copy_comment(RelationRelationId, index_oid, cloned);
    if (OidIsValid(live_constraint))
        copy_comment(ConstraintRelationId, live_constraint, get_index_constraint(cloned));
    relation_close(index, NoLock);
}

// The leaf's indexes in the order in which they must be made. The server's own lists, by which ATTACH
// pairs, are in the order of OIDs.
List *ordered_indexes(Relation live) {
    Relation parent = table_open(get_partition_parent(RelationGetRelid(live), false), AccessShareLock);
    List *parent_indexes = list_copy(RelationGetIndexList(parent));
    List *rest = list_copy(RelationGetIndexList(live));
    List *ordered = NIL;
    for (int i = 0; i < list_length(parent_indexes); i++) {
        const Oid child = index_get_partition(live, list_nth_oid(parent_indexes, i));
        if (!OidIsValid(child))
            continue;
        ordered = lappend_oid(ordered, child);
        rest = list_delete_oid(rest, child);
    }
    table_close(parent, NoLock);
    return list_concat(ordered, rest);
}

} // namespace

void copy_comment(Oid catalog, Oid from, Oid to) {
    char *comment = GetComment(from, catalog, 0);
    if (comment != nullptr)
        CreateComments(to, catalog, 0, comment);
}

void add_bounds_constraint(Oid live, Oid shadow) {
    const pg::CallersPath path;
    pg::guard([&] { add_bounds(live, shadow, true); });
}

bool add_unvalidated_bounds(Oid live, Oid shadow) {
    const pg::CallersPath path;
    return pg::guard([&] { return add_bounds(live, shadow, false); });
}

void drop_bounds(Oid table) {
    std::vector<Oid> constraints =
        pg::query(
            "SELECT oid::bigint FROM pg_constraint WHERE conrelid = $1 AND conname = $2 AND contype = 'c'",
            {table, kBoundsConstraint})
            .oids();
    catalog::drop_constraints(constraints);
}

Bounds bounds_of(Oid live, Oid table) {
    const pg::Result found =
        pg::query("SELECT convalidated, conbin::text FROM pg_constraint WHERE conrelid = $1 AND "
                  "conname = $2 AND contype = 'c'",
                  {table, kBoundsConstraint});
    if (found.empty())
        return Bounds::none;
    const char *wanted = nullptr;
    {
        const pg::CallersPath path;
        wanted = pg::guard([&] { return bounds_text(live, table); });
    }
    const pg::Row &row = found.rows.front();
    if (wanted == nullptr || row.text(1) != wanted)
        return Bounds::others;
    return row.boolean(0) ? Bounds::valid : Bounds::added;
}

void copy_privileges(Oid live, Oid shadow) {
    pg::guard([&] {
        copy_table_acl(live, shadow);
        copy_column_acls(live, shadow);
    });
}

void copy_row_type(Oid live, Oid shadow) {
    pg::guard([&] {
        const Oid from = get_rel_type_id(live);
        const Oid to = get_rel_type_id(shadow);
        copy_type_acl(from, to);
        copy_comment(TypeRelationId, from, to);
        copy_comment(TypeRelationId, get_array_type(from), get_array_type(to));
    });
}

void copy_array_type_name(Oid live, Oid shadow) {
    pg::guard([&] {
        const Oid mine = get_array_type(get_rel_type_id(shadow));
        const char *wanted = type_name(get_array_type(get_rel_type_id(live)));
        if (strcmp(type_name(mine), wanted) != 0) {
            RenameTypeInternal(mine, wanted, get_rel_namespace(shadow));
            CommandCounterIncrement();
        }
    });
}

void clone_indexes(Oid live_oid, Oid shadow_oid) {
    const pg::CallersPath path;
    pg::guard([&] {
        Relation live = table_open(live_oid, AccessShareLock);
        Relation shadow = table_open(shadow_oid, AccessExclusiveLock);
        List *indexes = ordered_indexes(live);
        for (int i = 0; i < list_length(indexes); i++)
            clone_index(live, shadow, list_nth_oid(indexes, i));
        table_close(shadow, NoLock);
        table_close(live, NoLock);
    });
}

} // namespace partbackfill::shadow
