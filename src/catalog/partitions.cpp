#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "nodes/pg_list.h"
#include "optimizer/optimizer.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
}

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "partbackfill/catalog/bound.hpp"
#include "partbackfill/catalog/key_range.hpp"
#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/catalog/relation.hpp"
#include "partbackfill/catalog/row_count.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/hidden_relation.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/search_path.hpp"

namespace partbackfill::catalog {

namespace {

// ----- the tree, in C's way

struct RawLeaf {
    Oid oid;
    Oid parent;
    KeyRange range;
};

struct RawTree {
    List *leaves;      // of RawLeaf
    List *descendants; // OIDs
    List *ancestors;
    Oid key_type; // of a RANGE key with one column
};

// Appends the leaves below `table` in the order of their bounds, DEFAULT last.
void walk(Oid table, const KeyRange *inherited, const RequestedRange *requested, RawTree *tree) {
    Relation relation = table_open(table, AccessShareLock);
    tree->descendants = lappend_oid(tree->descendants, table);
    const PartitionKey key = key_of(relation);
    const bool omit_detached = true; // a partition whose concurrent detach has begun is none any more
    const PartitionDesc desc = RelationGetPartitionDesc(relation, omit_detached);
    for (int i = 0; i < desc->nparts; i++) {
        const Oid child = desc->oids[i];
        const KeyRange range = inherited != nullptr ? *inherited : key_range(key, child, requested);
        // Locks on the members of a tree are taken in the order of the server's own commands.
        LockRelationOid(child, AccessShareLock);
        if (get_rel_relkind(child) == RELKIND_PARTITIONED_TABLE) {
            walk(child, &range, requested, tree);
            continue;
        }
        auto *leaf = static_cast<RawLeaf *>(palloc(sizeof(RawLeaf)));
        *leaf = {child, table, range};
        tree->leaves = lappend(tree->leaves, leaf);
    }
    table_close(relation, NoLock);
}

RawTree read_tree(Oid target, const RequestedRange *requested) {
    RawTree tree{};
    walk(target, nullptr, requested, &tree);
    if (get_rel_relispartition(target))
        tree.ancestors = get_partition_ancestors(target);
    Relation relation = table_open(target, AccessShareLock);
    const PartitionKey key = key_of(relation);
    if (has_range_key(key))
        tree.key_type = key->parttypid[0];
    table_close(relation, NoLock);
    return tree;
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

// ----- leaves

// Of all leaves in one statement. The bound has no columns: if pg_get_expr were given the table, it
// would lock it, and wait for a session that changes it.
void describe(std::vector<Leaf> &leaves) {
    std::vector<Oid> oids;
    oids.reserve(leaves.size());
    for (const Leaf &leaf : leaves)
        oids.push_back(leaf.oid);
    const pg::Result found = pg::query(R"SQL(
        SELECT wanted.position - 1 AS position, n.nspname, c.relname, c.relowner::bigint AS owner, c.relkind, c.relpersistence,
               pg_get_expr(c.relpartbound, 0) AS bound
        FROM unnest($1::oid[]) WITH ORDINALITY AS wanted (oid, position)
        JOIN pg_class AS c ON c.oid = wanted.oid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
    )SQL",
                                       {oids});
    if (found.rows.size() != leaves.size())
        pg::raise(pg::sqlcode::kUndefinedTable, "a partition was dropped by another session just now");
    for (const pg::Row &row : found.rows) {
        Leaf &leaf = leaves[static_cast<size_t>(row.integer("position"))];
        leaf.schema = row.text("nspname");
        leaf.name = row.text("relname");
        leaf.owner = row.oid("owner");
        leaf.kind = row.text("relkind").front();
        leaf.persistence = row.text("relpersistence").front();
        leaf.bound = row.field("bound").value_or("");
    }
}

// Only what the request means is opened and measured. Of the others the figures are those that
// VACUUM and ANALYZE have left.
void measure(std::vector<Leaf> &leaves) {
    std::map<Oid, Leaf *> others;
    std::vector<Oid> oids;
    for (Leaf &leaf : leaves)
        if (leaf.selected) {
            leaf.bytes = pg::guard([&] {
                return DatumGetInt64(DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(leaf.oid)));
            });
            leaf.rows = estimated_rows(leaf.oid);
        } else {
            others.emplace(leaf.oid, &leaf);
            oids.push_back(leaf.oid);
        }
    const pg::Result known = pg::query(R"SQL(
        SELECT t.oid::bigint, GREATEST(t.reltuples, 0)::bigint AS rows,
               (t.relpages + COALESCE(toast.relpages, 0)
                + COALESCE((SELECT sum(c.relpages) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
                            WHERE i.indrelid IN (t.oid, t.reltoastrelid)), 0)) * current_setting('block_size')::bigint AS bytes
        FROM pg_class AS t
        LEFT JOIN pg_class AS toast ON toast.oid = t.reltoastrelid
        WHERE t.oid = ANY ($1)
    )SQL",
                                       {oids});
    for (const pg::Row &row : known.rows) {
        Leaf &leaf = *others.at(row.oid("oid"));
        leaf.rows = row.integer("rows");
        leaf.bytes = row.integer("bytes");
    }
}

Leaf leaf_of(const RawLeaf &raw) {
    Leaf leaf;
    leaf.oid = raw.oid;
    leaf.parent = raw.parent;
    leaf.selected = raw.range.in_range;
    if (raw.range.start != nullptr)
        leaf.range_start = raw.range.start;
    if (raw.range.end != nullptr)
        leaf.range_end = raw.range.end;
    return leaf;
}

// ----- the target

void check_partitioned(Oid target) {
    const RelationEntry entry = relation_entry(target);
    if (entry.kind != RELKIND_PARTITIONED_TABLE)
        pg::raise(pg::sqlcode::kWrongObjectType, "\"" + entry.name + "\" is not a partitioned table",
                  "Only partitioned tables can be backfilled partition by partition.");
}

// The range that the selection names, read under the caller's settings.
RequestedRange requested_range(Oid target, const Selection &selection) {
    RequestedRange range{};
    if (!selection.range_start && !selection.range_end)
        return range;
    const char *start = selection.range_start ? selection.range_start->c_str() : nullptr;
    const char *end = selection.range_end ? selection.range_end->c_str() : nullptr;
    const pg::CallersPath path;
    if (!pg::guard([&] { return parse_range(target, start, end, &range); }))
        pg::raise(pg::sqlcode::kInvalidParameter, "range_start must be before range_end",
                  "The range from " + *selection.range_start + " to " + *selection.range_end + " is empty.");
    return range;
}

std::vector<Oid> oids_of(List *list) {
    std::vector<Oid> oids;
    oids.reserve(list_length(list));
    for (int i = 0; i < list_length(list); i++)
        oids.push_back(list_nth_oid(list, i));
    return oids;
}

// The target, described under the locks that reading the tree has taken: the owner, by whom
// rights are checked, does not change any more.
Target target_of(Oid oid, const RawTree &tree) {
    const RelationEntry entry = relation_entry(oid);
    Target target;
    target.oid = oid;
    target.owner = entry.owner;
    target.schema = entry.schema;
    target.name = entry.name;
    if (tree.key_type != kNoOid)
        target.key = RangeKey{tree.key_type};
    target.descendants = oids_of(tree.descendants);
    target.ancestors = oids_of(tree.ancestors);
    for (const auto *tables : {&target.descendants, &target.ancestors})
        for (const Oid table : *tables) {
            List *names = pg::guard([&] { return key_column_names(table); });
            for (int i = 0; i < list_length(names); i++)
                target.key_columns.emplace(static_cast<const char *>(list_nth(names, i)));
        }
    for (int i = 0; i < list_length(tree.leaves); i++)
        target.leaves.push_back(leaf_of(*static_cast<const RawLeaf *>(list_nth(tree.leaves, i))));
    describe(target.leaves);
    return target;
}

// Marks the leaves that the list means; a partitioned member stands for its leaves.
void select_by_list(Target &target, const std::vector<Oid> &partitions) {
    const pg::Result members = pg::query(R"SQL(
        WITH RECURSIVE member (wanted, oid) AS (
            SELECT w.oid, w.oid FROM unnest($1::oid[]) AS w (oid)
            UNION
            SELECT member.wanted, i.inhrelid FROM member JOIN pg_inherits AS i ON i.inhparent = member.oid
        )
        SELECT wanted::bigint, oid::bigint FROM member
    )SQL",
                                         {partitions});
    std::map<Oid, Leaf *> leaves;
    for (Leaf &leaf : target.leaves) {
        leaf.selected = false;
        leaves.emplace(leaf.oid, &leaf);
    }
    std::set<Oid> found;
    for (const pg::Row &row : members.rows) {
        const auto leaf = leaves.find(row.oid("oid"));
        if (leaf == leaves.end())
            continue;
        leaf->second->selected = true;
        found.insert(row.oid("wanted"));
    }
    for (const Oid wanted : partitions)
        if (!found.contains(wanted))
            pg::raise(pg::sqlcode::kInvalidParameter,
                      "\"" + pg::query_row("SELECT $1::regclass::text", {wanted}).text(0) +
                          "\" is not a partition of \"" + target.name + "\"");
}

// A DEFAULT partition, which has no place in time, stays last.
void put_newest_first(std::vector<Leaf> &leaves) {
    const auto end = std::stable_partition(leaves.begin(), leaves.end(),
                                           [](const Leaf &leaf) { return leaf.bound != "DEFAULT"; });
    std::reverse(leaves.begin(), end);
}

} // namespace

std::string Leaf::qualified() const {
    return pg::quote_qualified(schema, name);
}
std::string Target::qualified() const {
    return pg::quote_qualified(schema, name);
}

std::vector<Oid> Target::selected_oids() const {
    std::vector<Oid> oids;
    for (const Leaf &leaf : leaves)
        if (leaf.selected)
            oids.push_back(leaf.oid);
    return oids;
}

Target inspect(Oid oid, const Selection &selection) {
    check_partitioned(oid);
    if (selection.partitions && (selection.range_start || selection.range_end))
        pg::raise(pg::sqlcode::kInvalidParameter, "cannot select partitions by range and by name at once",
                  "Both partitions and range_start or range_end were given.");
    const RequestedRange requested = requested_range(oid, selection);
    const pg::PinnedSettings pinned;
    const RawTree tree = pg::guard([&] { return read_tree(oid, &requested); });
    Target target = target_of(oid, tree);
    if (selection.partitions)
        select_by_list(target, *selection.partitions);
    measure(target.leaves);
    if (selection.newest_first)
        put_newest_first(target.leaves);
    if (target.selected_oids().empty())
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
    if (found.empty()) {
        if (pg::is_hidden(oid))
            pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                      fmt::format("an extension hides relation {} from queries of pg_class", oid),
                      "Whether it is still a partition cannot be seen.");
        return std::nullopt;
    }
    Leaf leaf;
    leaf.oid = oid;
    leaf.parent = found.rows.front().oid(0);
    std::vector<Leaf> leaves{leaf};
    describe(leaves);
    return leaves.front();
}

std::optional<Leaf> find_same_leaf(Oid oid, Oid target, const std::string &bound) {
    auto leaf = find_leaf(oid, target);
    return leaf && leaf->bound == bound ? leaf : std::nullopt;
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

} // namespace partbackfill::catalog
