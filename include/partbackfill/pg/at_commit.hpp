// What shall happen once the current transaction has committed.
#pragma once

namespace partbackfill::pg {

// Cancels what that process runs (SIGINT), once this transaction has committed:
// by then the process sees what was committed. Nothing when it rolls back.
// The transaction cannot be prepared then.
void cancel_process_at_commit(int pid);

// The transaction cannot be prepared: a process waits for its end that would not be
// there after a restart of the server.
void refuse_to_prepare();

} // namespace partbackfill::pg
