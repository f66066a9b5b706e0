// Noticing writes to a partition while it is rebuilt.
//
// The guard is a pair of triggers on the live partition, AFTER each row and
// AFTER TRUNCATE, that fire whatever session_replication_role says. They are
// internal ones, as those of foreign keys: no dump and no copy of the table has
// them. The first write of each transaction leaves a mark, a row (job, partition,
// xid) in backfill_write. A build keeps what it saw, its snapshot first of all;
// the rows that it lacks are exactly those of marks that its snapshot does not see.
//
// A rewrite of the table fires no trigger. It leaves the rows as they are (VACUUM FULL,
// CLUSTER), or it comes with a change of the definition, which the
// fingerprint tells (ALTER COLUMN ... TYPE, SET EXPRESSION, ADD COLUMN). The storage
// method's own exchange is kept away from other jobs: a partition is one job's as long
// as that job could still swap it.
//
// Each of the functions needs a PinnedSettings scope.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

// What a build saw of the partition that it replaces.
struct Sight {
    std::string snapshot; // pg_snapshot
    std::string guard;    // versions of its enabled triggers: switched off and on again they are others
    bool guarded = false; // whether both triggers are there and enabled
};
Sight look(std::int64_t job, Oid partition, pg::Read read);

// Makes the guard, in the place of what is left of it. The caller holds SHARE ROW
// EXCLUSIVE on the partition, for which every transaction that has written to it
// and every one that is about to must wait: whoever wrote before the guard has
// ended when it is there.
void create_guard(std::int64_t job, Oid partition);

// Drops it. The caller holds SHARE ROW EXCLUSIVE or more: writers wait, readers
// need not, since they never look at triggers.
void drop_guard(std::int64_t job, Oid partition);
// Whether there is anything of it to drop.
bool is_guarded(std::int64_t job, Oid partition);

// The tables that have a guard of the job. Reads all of pg_trigger: for the end of a job.
std::vector<Oid> guarded(std::int64_t job);

} // namespace partbackfill::engine
