// Effects that happen when the current transaction commits, and do not when it, or the
// subtransaction that asked for them, rolls back. Such a transaction cannot be prepared.
#pragma once

struct BackgroundWorker;
struct LOCKTAG;

namespace partbackfill::pg {

// Cancels (SIGINT), once the transaction has committed, what the processes run that held
// the lock as the commit began: by then they see what was committed. Only background
// workers of that type, in this database; `type` has to last as long as the transaction.
void cancel_holders_at_commit(const LOCKTAG &lock, const char *type);

// What happens when there is no slot for a process.
enum class Needed {
    no,     // nothing
    warned, // a WARNING
    yes,    // the transaction fails
};

// Registers the process as the commit begins: the process waits for no more than the rest
// of the commit, and a transaction that is rolled back takes no slot.
void start_at_commit(const BackgroundWorker &worker, Needed needed);
// How many processes start_at_commit() is to register in this transaction.
int starting_at_commit();

} // namespace partbackfill::pg
