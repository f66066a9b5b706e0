#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/relation.h"
#include "catalog/pg_tablespace_d.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
}

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "partbackfill/catalog/disk.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/pinned_settings.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::catalog {

namespace {

struct Stored {
    Oid tablespace;
    int64 bytes;
};

struct StoredList {
    int count;
    Stored *items;
};

Stored stored(Relation relation) {
    const Oid tablespace = relation->rd_rel->reltablespace;
    // A foreign table, which backfill_plan lists, too, has no file.
    const int64 blocks =
        RELKIND_HAS_STORAGE(relation->rd_rel->relkind) ? RelationGetNumberOfBlocks(relation) : 0;
    return {OidIsValid(tablespace) ? tablespace : MyDatabaseTableSpace, blocks * BLCKSZ};
}

// Opens the relation unless another session has it locked exclusively, which `locked` becomes then.
Relation open_unlocked(Oid oid, bool &locked) {
    if (!ConditionalLockRelationOid(oid, AccessShareLock)) {
        locked = true;
        return nullptr;
    }
    Relation relation = try_relation_open(oid, NoLock);
    if (relation == nullptr)
        UnlockRelationOid(oid, AccessShareLock);
    return relation;
}

Stored stored_of(Oid oid, bool &locked) {
    Relation relation = open_unlocked(oid, locked);
    if (relation == nullptr)
        return {MyDatabaseTableSpace, 0};
    const Stored found = stored(relation);
    relation_close(relation, AccessShareLock);
    return found;
}

// OIDs of the table and the TOAST table with the indexes of both.
List *parts_of(Oid table, bool &locked) {
    List *parts = NIL;
    Oid toast = InvalidOid;
    for (const bool is_toast : {false, true}) {
        const Oid oid = is_toast ? toast : table;
        Relation relation = OidIsValid(oid) ? open_unlocked(oid, locked) : nullptr;
        if (relation == nullptr)
            return parts;
        parts = lappend_oid(parts, oid);
        parts = list_concat(parts, RelationGetIndexList(relation));
        toast = relation->rd_rel->reltoastrelid;
        relation_close(relation, AccessShareLock);
    }
    return parts;
}

} // namespace

std::map<Oid, std::int64_t> bytes_by_tablespace(Oid table) {
    bool locked = false;
    const StoredList list = pg::guard([&] {
        List *parts = parts_of(table, locked);
        StoredList found{
            list_length(parts),
            static_cast<Stored *>(palloc(sizeof(Stored) * static_cast<Size>(list_length(parts) + 1)))};
        for (int i = 0; i < found.count; i++)
            found.items[i] = stored_of(list_nth_oid(parts, i), locked);
        return found;
    });
    if (locked)
        return known_bytes_by_tablespace(table);
    std::map<Oid, std::int64_t> bytes;
    for (int i = 0; i < list.count; i++)
        bytes[list.items[i].tablespace] += list.items[i].bytes;
    return bytes;
}

std::map<Oid, std::int64_t> known_bytes_by_tablespace(Oid table) {
    const pg::PinnedSettings pinned;
    const pg::Result parts = pg::query(R"SQL(
        WITH heap (oid) AS (
            SELECT $1
            UNION ALL
            SELECT t.reltoastrelid FROM pg_class AS t WHERE t.oid = $1 AND t.reltoastrelid <> 0
        ), part (oid) AS (
            SELECT h.oid FROM heap AS h
            UNION ALL
            SELECT i.indexrelid FROM heap AS h JOIN pg_index AS i ON i.indrelid = h.oid
        )
        SELECT COALESCE(NULLIF(c.reltablespace, 0), d.dattablespace),
               sum(c.relpages) * current_setting('block_size')::bigint
        FROM part AS p
        JOIN pg_class AS c ON c.oid = p.oid
        JOIN pg_database AS d ON d.datname = current_database()
        GROUP BY 1
    )SQL",
                                       {table});
    std::map<Oid, std::int64_t> bytes;
    for (const pg::Row &part : parts.rows)
        bytes[part.oid(0)] = part.integer(1);
    return bytes;
}

namespace {

// The path is relative to the data directory, in which each process of the server runs. Links are
// followed.
std::optional<Volume> volume_at(const std::string &path) {
    struct stat status {};
    struct statvfs system {};
    if (stat(path.c_str(), &status) != 0 || statvfs(path.c_str(), &system) != 0)
        return std::nullopt;
    const auto block = static_cast<double>(system.f_frsize);
    return Volume{status.st_dev, block * static_cast<double>(system.f_blocks),
                  block * static_cast<double>(system.f_bavail)};
}

} // namespace

std::optional<Volume> volume_of(Oid tablespace) {
    return volume_at(tablespace == DEFAULTTABLESPACE_OID ? "base"
                                                         : "pg_tblspc/" + std::to_string(tablespace));
}

std::vector<Volume> volumes_of_log() {
    std::vector<Volume> volumes;
    for (const char *path : {"pg_wal", "pg_replslot"})
        if (const auto volume = volume_at(path))
            volumes.push_back(*volume);
    return volumes;
}

} // namespace partbackfill::catalog
