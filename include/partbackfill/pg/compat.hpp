// Every difference between the server's versions 15 to 18 that this extension
// meets. Nothing else tests PG_VERSION_NUM. To be included after server.hpp;
// the functions report errors by longjmp: call them under guard() or from C-style
// callbacks.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/attmap.h"
#include "access/tupdesc.h"
#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/relcache.h"
}

#include <cstdint>

#include "partbackfill/pg/latch.hpp"

namespace partbackfill::pg {

// Gives the relation a new, empty file in this transaction.
void set_new_file(Relation relation);

// Makes an index; `parse_name` of the statement is resolved already.
Oid define_index(Oid table, IndexStmt *statement);

// Builds the index anew from its table's rows, unique and exclusion
// constraints checked. ACCESS EXCLUSIVE on the index.
void rebuild_index(Oid index, char persistence);

// As the server builds indexes: expressions are computed as the table's owner, who
// cannot do anything to the session. An abort undoes it as well. C-style; see table_owner.hpp.
struct OwnerContext {
    Oid user;
    int security;
    int settings;
};
OwnerContext become_restricted_owner(Oid table);
void become_again(const OwnerContext &before);

// Whether the relation got its present file in the present subtransaction:
// only then may rows be written as frozen.
bool file_is_of_this_subtransaction(Relation relation);

// For each column of `to` the number of the column of that name in `from`.
AttrMap *column_map(TupleDesc from, TupleDesc to);

// Names (char *) of the settings that every role may make and that decide what a query
// means, rather than how fast it is: how statements behave, how values are read and
// written, compatibility, and those of extensions.
List *settings_of_meaning();

// Names (char *) of the placeholders ("app.x") that have a value, wherever it comes
// from; pg_settings does not show them.
List *session_placeholders();

bool lock_held_by_me(const LOCKTAG *tag, LOCKMODE mode);

// The process that runs that transaction; null when it has ended, or is prepared.
PGPROC *process_of(VirtualTransactionId transaction);

// application_name of a process as this transaction sees it; null when it has ended.
const char *application_name_of(int pid);

// The background workers that run in the whole server, and those of them of that type.
struct BackgroundProcesses {
    int all;
    int of_type;
};
BackgroundProcesses background_processes(const char *type);

// A CHECK constraint that is enforced (18 has others too).
void mark_enforced(Constraint *constraint);

// Whether every row of the table meets the CHECK.
bool holds_for_all_rows(const ConstrCheck &check);

// NOT NULL constraints (Constraint *) for a copy of the table that no row breaks;
// before 18 the columns' own mark is all there is.
List *not_null_constraints(Relation table);

// A copy of the table's descriptor forgets NOT NULL where rows may break it (18).
void leave_out_invalid_not_nulls(Relation table, TupleDesc copy);

// Stores the expression of a generated column.
void store_default(Relation relation, AttrNumber column, Node *expression);

// The two relations exchange pg_class.relallfrozen (18).
void exchange_all_frozen(Form_pg_class a, Form_pg_class b);

// The two relations have exchanged their files: what the relation cache knows of
// files made in this transaction is exchanged, too.
void exchange_file_history(Relation a, Relation b);

// What is counted of tables' rows is exchanged between them, and that the rows of `b`
// were analyzed is counted for `a`.
void exchange_row_counters(PgStat_StatTabEntry &a, PgStat_StatTabEntry &b);

// Tree walkers and mutators as the server's functions want them.
#if PG_VERSION_NUM >= 160000
inline tree_walker_callback as_walker(bool (*walker)(Node *, void *)) {
    return walker;
}
inline tree_mutator_callback as_mutator(Node *(*mutator)(Node *, void *)) {
    return mutator;
}
#else
using AnyWalker = bool (*)();
inline AnyWalker as_walker(bool (*walker)(Node *, void *)) {
    return reinterpret_cast<AnyWalker>(reinterpret_cast<void (*)()>(walker));
}
using AnyMutator = Node *(*)();
inline AnyMutator as_mutator(Node *(*mutator)(Node *, void *)) {
    return reinterpret_cast<AnyMutator>(reinterpret_cast<void (*)()>(mutator));
}
#endif

// Whether the role could SET ROLE to the other one; what membership asks for that is
// another matter from 16 on.
bool could_set_role(Oid member, Oid role);

// What a background worker passes to connect although its role has no LOGIN
// (0 where the server cannot).
std::uint32_t bypass_login_flag();
bool needs_login_role();

// Whether ATTACH takes an index for one of the parent only when both belong to
// the same kind of constraint (17); CREATE INDEX and ADD CONSTRAINT never ask.
bool attach_minds_kinds();

// The wait event that a sleep of this kind shows; named on 17 and later.
std::uint32_t wait_event(Wait why);

} // namespace partbackfill::pg
