// The two schemas of a job: backfill_<job>_new has the shadows, backfill_<job>_old the tables with
// the old rows.
#pragma once

#include <cstdint>
#include <string>

#include "partbackfill/catalog/partitions.hpp"

namespace partbackfill::shadow {

std::string new_schema(std::int64_t job); // not quoted
std::string old_schema(std::int64_t job);

// Makes the job's two schemas unless they are there, as the extension's owner: the job's owner
// needs no CREATE on the database. Raises when a schema of that name belongs to another role,
// which could drop or replace what is built in it. The schemas are made when a job starts or goes
// on, so that roles that may create schemas cannot take the names.
void make_schemas(std::int64_t job);

// As make_schemas. False when another role has a schema of that name, or is about to.
bool try_make_schemas(std::int64_t job);

// Makes the schemas if they were dropped, and lets the current role, the owner of the leaf and the
// owners of its statistics objects create in them. No lock that other sessions can feel.
void ensure_schemas(std::int64_t job, const catalog::Leaf &leaf);

// Whether a schema of the job is there.
bool has_schemas(std::int64_t job);

// Drops the schemas of the job that are empty.
void drop_empty_schemas(std::int64_t job);

} // namespace partbackfill::shadow
