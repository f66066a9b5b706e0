// Filling a shadow from a query, and building its indexes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "partbackfill/engine/source.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::engine {

struct LoadRequest {
    Oid shadow = kNoOid;
    LoadQuery query;
    pg::Params params;                 // $1 and $2 of the source
    std::set<std::string> key_columns; // must come out with the keys' types
    std::function<void()> pace;        // called after each bit of work, in the middle of the query
    bool serial = false;               // not by parallel workers, beside which less is legal
    bool reads_ahead = false;          // by one parallel worker when the server would take none
};

// ACCESS EXCLUSIVE on the shadow to the end of the transaction, as load() takes it
// itself: nobody but its owner knows of it.
void lock_for_load(Oid shadow);

// Raises when the query's columns are not what the shadow takes. ACCESS SHARE on what
// the query names, as load() has it.
void check_source(const LoadRequest &request);

// Fills the shadow anew with the rows of the query and returns their number.
// What it held before is gone.
//
// The shadow gets a new file, written only by this transaction: rows go from the
// executor straight into multi-inserts. Those of a plain heap are frozen from birth,
// so every snapshot sees them as soon as the swap shows the table, and no vacuum has
// to freeze them; another access method writes them as COPY has it do. Indexes are
// left stale: build_indexes() must follow in the same transaction.
//
// Rows are checked as INSERT checks them (types by assignment cast, NOT NULL,
// CHECK, the partition's bounds); generated columns are computed; no trigger
// fires. The query is read with the active snapshot, in a transaction that is
// read-only for it, by parallel workers where the server sees fit. Progress is
// shown as a COPY in pg_stat_progress_copy, until end_progress().
// ACCESS EXCLUSIVE on the shadow, which nobody else knows.
std::uint64_t load(const LoadRequest &request);

// Builds every index of the shadow in bulk, constraints checked; calls
// `before(k, n)` before the k-th of n, or once before those that are built side by
// side, if they may be. Progress is shown in
// pg_stat_progress_create_index, until end_progress().
void build_indexes(Oid shadow, bool side_by_side, const std::function<void(int, int)> &before);

// What the caller shows otherwise from now on.
void end_progress();

// ANALYZE: a partition without statistics is never shown to readers.
void analyze(Oid shadow);

} // namespace partbackfill::engine
