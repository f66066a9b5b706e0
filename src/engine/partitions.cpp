#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "nodes/pg_list.h"
#include "optimizer/optimizer.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
}

#include <algorithm>

#include "partbackfill/engine/bound.hpp"
#include "partbackfill/engine/partitions.hpp"
#include "partbackfill/engine/row_count.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/settings.hpp"

namespace partbackfill::engine {

namespace {

// The requested range as values of the key.
struct RequestedRange {
    bool given;
    bool has_start;
    bool has_end;
    Datum start;
    Datum end;
};

// One child of the target with its part of the key's range, as the tree is
// walked; all below it share it.
struct KeyRange {
    bool in_range;
    char *start; // text, nullptr is unbounded
    char *end;
};

struct RawLeaf {
    Oid oid;
    Oid parent;
    KeyRange range;
};

bool has_range_key(PartitionKey key) {
    return key->strategy == PARTITION_STRATEGY_RANGE && key->partnatts == 1;
}

int compare(PartitionKey key, Datum a, Datum b) {
    const int level = pg::use_callers_path();
    const int order = DatumGetInt32(FunctionCall2Coll(&key->partsupfunc[0], key->partcollation[0], a, b));
    pg::end_callers_path(level);
    return order;
}

// The finite end of a range in *value; false when it is MINVALUE or MAXVALUE.
bool finite(List *datums, Datum *value) {
    auto *datum = static_cast<PartitionRangeDatum *>(linitial(datums));
    if (datum->kind != PARTITION_RANGE_DATUM_VALUE)
        return false;
    *value = reinterpret_cast<Const *>(datum->value)->constvalue;
    return true;
}

char *text_of(Oid type, Datum value) {
    Oid output = InvalidOid;
    bool varlena = false;
    getTypeOutputInfo(type, &output, &varlena);
    return OidOutputFunctionCall(output, value);
}

// The part of the key's range that this child of the target holds.
KeyRange key_range(PartitionKey key, Oid child, const RequestedRange *requested) {
    if (!has_range_key(key))
        return {!requested->given, nullptr, nullptr};
    const PartitionBoundSpec *spec = bound_of(child);
    if (spec->is_default)
        return {!requested->given, nullptr, nullptr};
    Datum lower = 0;
    Datum upper = 0;
    const bool has_lower = finite(spec->lowerdatums, &lower);
    const bool has_upper = finite(spec->upperdatums, &upper);
    const bool before = requested->has_start && has_upper && compare(key, upper, requested->start) <= 0;
    const bool after = requested->has_end && has_lower && compare(key, lower, requested->end) >= 0;
    return {!before && !after, has_lower ? text_of(key->parttypid[0], lower) : nullptr,
            has_upper ? text_of(key->parttypid[0], upper) : nullptr};
}

// Appends the leaves below `table` in the order of their bounds, DEFAULT last.
void walk(Oid table, const KeyRange *inherited, const RequestedRange *requested, List **leaves,
          List **descendants) {
    Relation relation = table_open(table, AccessShareLock);
    *descendants = lappend_oid(*descendants, table);
    const PartitionKey key = key_of(relation);
    // One that is being detached concurrently is none any more.
    const PartitionDesc desc = RelationGetPartitionDesc(relation, true);
    for (int i = 0; i < desc->nparts; i++) {
        const Oid child = desc->oids[i];
        const KeyRange range = inherited != nullptr ? *inherited : key_range(key, child, requested);
        // Its members' locks come in the order in which everybody takes them.
        LockRelationOid(child, AccessShareLock);
        if (get_rel_relkind(child) == RELKIND_PARTITIONED_TABLE) {
            walk(child, &range, requested, leaves, descendants);
            continue;
        }
        auto *leaf = static_cast<RawLeaf *>(palloc(sizeof(RawLeaf)));
        *leaf = {child, table, range};
        *leaves = lappend(*leaves, leaf);
    }
    table_close(relation, NoLock);
}

List *all_column_names(Relation relation) {
    List *names = NIL;
    for (int i = 0; i < RelationGetDescr(relation)->natts; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), i);
        if (!attribute->attisdropped)
            names = lappend(names, pstrdup(NameStr(attribute->attname)));
    }
    return names;
}

// Names of the columns that the table's partition key uses.
List *key_column_names(Oid table) {
    Relation relation = table_open(table, AccessShareLock);
    const PartitionKey key = key_of(relation);
    Bitmapset *columns = nullptr;
    for (int i = 0; i < key->partnatts; i++)
        if (key->partattrs[i] != 0)
            columns = bms_add_member(columns, key->partattrs[i] - FirstLowInvalidHeapAttributeNumber);
    pull_varattnos(reinterpret_cast<Node *>(key->partexprs), 1, &columns);
    List *names = NIL;
    for (int member = -1; (member = bms_next_member(columns, member)) >= 0;) {
        const auto attribute = static_cast<AttrNumber>(member + FirstLowInvalidHeapAttributeNumber);
        if (attribute == InvalidAttrNumber) // the whole row
            names = list_concat(names, all_column_names(relation));
        else
            names = lappend(names, get_attname(table, attribute, false));
    }
    table_close(relation, NoLock);
    return names;
}

// Name, owner and the like of a leaf. Its bound has no columns: told of a table,
// pg_get_expr would lock it, and wait for whoever changes it.
void describe(Leaf &leaf) {
    const pg::Row row = pg::query_row(R"SQL(
        SELECT n.nspname, c.relname, c.relowner::bigint, c.relkind, c.relpersistence,
               pg_get_expr(c.relpartbound, 0)
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = $1
    )SQL",
                                      {leaf.oid});
    leaf.schema = row.text(0);
    leaf.name = row.text(1);
    leaf.owner = row.oid(2);
    leaf.kind = row.text(3).front();
    leaf.persistence = row.text(4).front();
    leaf.bound = row.field(5).value_or("");
}

void measure(Leaf &leaf) {
    const pg::Row row =
        pg::query_row("SELECT COALESCE(pg_total_relation_size($1::oid::regclass), 0)", {leaf.oid});
    leaf.bytes = row.integer(0);
    leaf.rows = estimated_rows(leaf.oid);
}

// The values of a range are read as the caller wrote them, under his settings.
RequestedRange parse_range(Oid target, const Selection &selection) {
    RequestedRange range{};
    range.given = selection.range_start || selection.range_end;
    if (!range.given)
        return range;
    range.has_start = selection.range_start.has_value();
    range.has_end = selection.range_end.has_value();
    const char *start = range.has_start ? selection.range_start->c_str() : nullptr;
    const char *end = range.has_end ? selection.range_end->c_str() : nullptr;
    const pg::CallersPath path;
    const bool ordered = pg::guard([&] {
        Relation relation = table_open(target, AccessShareLock);
        const PartitionKey key = key_of(relation);
        if (!has_range_key(key))
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                     errmsg("cannot select partitions of \"%s\" by range", RelationGetRelationName(relation)),
                     errdetail("range_start and range_end need a table that is partitioned by RANGE on one "
                               "column."),
                     errhint("Name the partitions in the parameter partitions instead.")));
        Oid input = InvalidOid;
        Oid parameter = InvalidOid;
        getTypeInputInfo(key->parttypid[0], &input, &parameter);
        if (start != nullptr)
            range.start =
                OidInputFunctionCall(input, const_cast<char *>(start), parameter, key->parttypmod[0]);
        if (end != nullptr)
            range.end = OidInputFunctionCall(input, const_cast<char *>(end), parameter, key->parttypmod[0]);
        const bool ok = start == nullptr || end == nullptr || compare(key, range.start, range.end) < 0;
        table_close(relation, NoLock);
        return ok;
    });
    if (!ordered)
        pg::raise(pg::sqlcode::kInvalidParameter, "range_start must be before range_end",
                  "The range from " + *selection.range_start + " to " + *selection.range_end + " is empty.");
    return range;
}

// Marks the leaves that the list means; a partitioned member stands for its leaves.
void select_by_list(Target &target, const std::vector<Oid> &partitions) {
    for (auto &leaf : target.leaves)
        leaf.selected = false;
    for (const Oid wanted : partitions) {
        bool found = false;
        for (auto &leaf : target.leaves) {
            const pg::Row row = pg::query_row("SELECT $1 = $2 OR $1 IN (SELECT a.relid FROM "
                                              "pg_partition_ancestors($2::oid::regclass) AS a)",
                                              {wanted, leaf.oid});
            if (!row.boolean(0))
                continue;
            leaf.selected = true;
            found = true;
        }
        if (!found)
            pg::raise(pg::sqlcode::kInvalidParameter,
                      "\"" + pg::query_row("SELECT $1::regclass::text", {wanted}).text(0) +
                          "\" is not a partition of \"" + target.name + "\"");
    }
}

void check_partitioned(Oid target) {
    const pg::Result found = pg::query(
        "SELECT relkind, relname FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) $1", {target});
    if (found.empty())
        pg::raise(pg::sqlcode::kUndefinedTable,
                  "relation with OID " + std::to_string(target) + " does not exist");
    if (found.rows.front().text(0) != "p")
        pg::raise(pg::sqlcode::kWrongObjectType,
                  "\"" + found.rows.front().text(1) + "\" is not a partitioned table",
                  "Only partitioned tables can be backfilled partition by partition.");
}

} // namespace

std::string Leaf::qualified() const {
    return pg::quote_qualified(schema, name);
}
std::string Target::qualified() const {
    return pg::quote_qualified(schema, name);
}

Target inspect(Oid oid, const Selection &selection) {
    check_partitioned(oid);
    if (selection.partitions && (selection.range_start || selection.range_end))
        pg::raise(pg::sqlcode::kInvalidParameter, "cannot select partitions by range and by name at once",
                  "Both partitions and range_start or range_end were given.");
    const RequestedRange requested = parse_range(oid, selection);

    const pg::PinnedSettings pinned;
    Target target;
    target.oid = oid;
    List *raw = NIL;
    List *descendants = NIL;
    List *ancestors = NIL;
    RangeKey range_key;
    const char *type_name = nullptr;
    pg::guard([&] {
        walk(oid, nullptr, &requested, &raw, &descendants);
        if (get_rel_relispartition(oid))
            ancestors = get_partition_ancestors(oid);
        Relation relation = table_open(oid, AccessShareLock);
        const PartitionKey key = key_of(relation);
        if (has_range_key(key)) {
            range_key.type = key->parttypid[0];
            type_name = format_type_be(key->parttypid[0]);
        }
        table_close(relation, NoLock);
    });
    // Under its lock: whose it is decides who may go on.
    const pg::Row row = pg::query_row(R"SQL(
        SELECT n.nspname, c.relname, c.relowner::bigint
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = $1
    )SQL",
                                      {oid});
    target.schema = row.text(0);
    target.name = row.text(1);
    target.owner = row.oid(2);
    if (type_name != nullptr)
        target.key = RangeKey{range_key.type, type_name};
    for (int i = 0; i < list_length(descendants); i++)
        target.descendants.push_back(list_nth_oid(descendants, i));
    for (int i = 0; i < list_length(ancestors); i++)
        target.ancestors.push_back(list_nth_oid(ancestors, i));
    for (const auto *tables : {&target.descendants, &target.ancestors})
        for (const Oid table : *tables) {
            List *names = pg::guard([&] { return key_column_names(table); });
            for (int i = 0; i < list_length(names); i++)
                target.key_columns.emplace(static_cast<const char *>(list_nth(names, i)));
        }
    for (int i = 0; i < list_length(raw); i++) {
        const auto *entry = static_cast<const RawLeaf *>(list_nth(raw, i));
        Leaf leaf;
        leaf.oid = entry->oid;
        leaf.parent = entry->parent;
        leaf.selected = entry->range.in_range;
        if (entry->range.start != nullptr)
            leaf.range_start = entry->range.start;
        if (entry->range.end != nullptr)
            leaf.range_end = entry->range.end;
        describe(leaf);
        measure(leaf);
        target.leaves.push_back(std::move(leaf));
    }
    if (selection.partitions)
        select_by_list(target, *selection.partitions);
    if (selection.newest_first) {
        // DEFAULT, which has no place in time, stays last.
        const auto end = std::stable_partition(target.leaves.begin(), target.leaves.end(),
                                               [](const Leaf &leaf) { return leaf.bound != "DEFAULT"; });
        std::reverse(target.leaves.begin(), end);
    }
    if (std::none_of(target.leaves.begin(), target.leaves.end(),
                     [](const Leaf &leaf) { return leaf.selected; }))
        pg::raise(pg::sqlcode::kInvalidParameter, "no partition of \"" + target.name + "\" is in the range",
                  target.leaves.empty() ? "The table has no partitions." : "");
    return target;
}

std::optional<Leaf> find_leaf(Oid oid, Oid target) {
    const pg::Result found = pg::query(R"SQL(
        SELECT i.inhparent::bigint
        FROM pg_class AS c
        JOIN pg_inherits AS i ON i.inhrelid = c.oid
        WHERE c.oid = $1 AND c.relispartition AND NOT i.inhdetachpending
          AND $2 IN (SELECT a.relid FROM pg_partition_ancestors(c.oid) AS a)
    )SQL",
                                       {oid, target});
    if (found.empty())
        return std::nullopt;
    Leaf leaf;
    leaf.oid = oid;
    leaf.parent = found.rows.front().oid(0);
    describe(leaf);
    return leaf;
}

std::string constraint_text(Oid leaf) {
    const pg::CallersPath path;
    Expr *constraint = pg::guard([&] { return get_partition_qual_relid(leaf); });
    if (constraint == nullptr)
        return "true";
    return pg::guard([&] {
        List *context = deparse_context_for(get_rel_name(leaf), leaf);
        return deparse_expression(reinterpret_cast<Node *>(constraint), context, false, false);
    });
}

} // namespace partbackfill::engine
