// Noticing writes to a partition while it is rebuilt.
//
// The write capture is a pair of triggers on the live partition, AFTER each row and AFTER
// TRUNCATE, that fire under each session_replication_role. The triggers are internal, as
// those of foreign keys: no dump and no copy of the table has them. The first write of each
// transaction leaves a mark, a row (job, partition, xid) in backfill_write. A build records a
// baseline, above all its snapshot; the shadow lacks exactly the writes whose marks that
// snapshot does not see.
//
// Where the partition has a key log, a table with a column for each column of its row key, each
// written row leaves its keys, before and after the write, there; only TRUNCATE leaves a mark, and
// a write whose key the log does not take.
//
// While the old rows are kept after the swap, both tables stay captured: a revert asks what was written
// since. Nothing takes these marks away for a long time, so that only some thirty transactions leave
// one. They stand under the negative number of the job.
//
// A rewrite of the table fires no trigger. A rewrite either keeps the rows (VACUUM FULL,
// CLUSTER) or changes the definition (ALTER COLUMN ... TYPE, SET EXPRESSION, ADD COLUMN), which
// the definition digest shows. The storage method's own exchange is kept away from other jobs:
// a partition belongs to one job as long as that job could still swap it.
//
// Each of the functions needs a PinnedSettings scope.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "partbackfill/pg/query.hpp"

namespace partbackfill::writes {

// What a build saw of the write capture of the partition that it replaces.
struct WriteBaseline {
    std::string snapshot;         // pg_snapshot
    std::string trigger_versions; // of the enabled triggers; disabled and enabled again, they differ
    bool captured = false;        // whether both triggers are there and enabled
};
// The baseline of now, or by the active snapshot. No lock.
WriteBaseline write_baseline(std::int64_t job, Oid partition, pg::Read read);

// A table that takes the keys of written rows.
struct KeyLog {
    Oid table = kNoOid;
    std::vector<int> columns; // numbers of the key's columns in the partition
};

// Which transactions leave a mark: all that write, or the first ones, when it is enough to know that there
// were some.
enum class Marks { of_all, of_the_first };
inline constexpr int kEnoughMarks = 32;

// Triggers for each row, or for each statement: those do not notice writes by way of a parent. There are
// table access methods that have no triggers AFTER each row.
enum class Level { row, statement };

// The finest level that the table's access method allows, found by trying. The caller holds SHARE ROW
// EXCLUSIVE on the table.
Level finest_level(Oid table);

// Makes the write capture, in place of the remains of an earlier one. The caller holds SHARE
// ROW EXCLUSIVE on the partition, which is granted only when each transaction that has written
// to the partition has ended, and which makes new writers wait.
void create_write_capture(std::int64_t job, Oid partition, const KeyLog *log = nullptr,
                          Marks marks = Marks::of_all, Level level = Level::row);

// Whether the write capture logs keys in just that way.
bool logs_keys(std::int64_t job, Oid partition, const KeyLog &log);

// Drops the write capture. The caller holds SHARE ROW EXCLUSIVE or more: writers wait; readers,
// which never look at triggers, do not.
void drop_write_capture(std::int64_t job, Oid partition);
// Drops the write captures of all other jobs, which would not notice that the partition has the rows of
// another table. The same lock.
void drop_other_write_captures(std::int64_t job, Oid partition);

// Whether a trigger of the write capture is there.
bool has_write_capture(std::int64_t job, Oid partition);

// Tables that have a write capture of the job. Reads all of pg_trigger: for the end of a job.
std::vector<Oid> captured_tables(std::int64_t job);

} // namespace partbackfill::writes
