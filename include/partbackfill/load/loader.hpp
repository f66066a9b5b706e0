// Filling a shadow from a query, and building its indexes.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "partbackfill/load/load_query.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::load {

struct LoadRequest {
    Oid shadow = kNoOid;
    LoadQuery query;
    pg::Params params;                     // $1 and $2 of the source
    std::set<std::string> key_columns;     // must come out with the keys' types
    std::set<std::string> row_key_columns; // those of the row key, too
    std::function<void()> delay_point;     // called after each bit of work, in the middle of the query
    int rows_per_delay_point = 1;          // at most; after a row that takes long there is always one
    bool serial = false;                   // not by parallel workers, beside which less is legal
    bool stays_undecoded = false;          // decoding passes over the shadow also after the load
    bool reads_ahead = false;              // by one parallel worker when the server would take none
};

// Takes ACCESS EXCLUSIVE on the shadow to the end of the transaction, as load() does: only
// the shadow's owner knows of it.
void lock_for_load(Oid shadow);

// Raises when the query's columns are not what the shadow takes. ACCESS SHARE on what
// the query names, as load() has it.
void check_query(const LoadRequest &request);

// Gives the table and its TOAST table new, empty files in this transaction. ACCESS EXCLUSIVE.
void set_new_files(Oid table);

// Fills the shadow anew with the rows of the query and returns their number.
// The shadow's former rows are gone.
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
// ACCESS EXCLUSIVE on the shadow, which no other session knows.
std::uint64_t load(const LoadRequest &request);

// Has logical decoding see again what is written to these tables and their TOAST tables, within the
// transaction that makes one of them live.
void decode_again(const std::vector<Oid> &tables);

// Builds every index of the shadow in bulk, constraints checked; calls
// `before(k, n)` before the k-th of n, or once before those that are built in
// parallel, if they may be. Progress is shown in
// pg_stat_progress_create_index, until end_progress().
void build_indexes(Oid shadow, bool in_parallel, const std::function<void(int, int)> &before);

// Ends the progress that load() and build_indexes() show.
void end_progress();

// ANALYZE: a partition without statistics is never shown to readers.
void analyze(Oid shadow);

} // namespace partbackfill::load
