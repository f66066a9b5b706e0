// What shall happen when the current transaction commits; nothing when it, or the
// subtransaction that asked for it, rolls back. The transaction cannot be prepared then.
#pragma once

struct BackgroundWorker;
struct LOCKTAG;

namespace partbackfill::pg {

// Cancels (SIGINT), once the transaction has committed, what the processes run that hold
// the lock as the commit begins: by then they see what was committed. Only background
// workers of that type, in this database; the text has to last.
void cancel_holders_at_commit(const LOCKTAG &lock, const char *type);

// When there is no slot for a process.
enum class Needed {
    no,     // nothing
    warned, // a WARNING
    yes,    // the transaction fails
};

// Registers the process as the commit begins, so that it waits for no more than the rest
// of it, and one that is rolled back takes no slot.
void start_at_commit(const BackgroundWorker &worker, Needed needed);
// How many will be.
int starting_at_commit();

} // namespace partbackfill::pg
