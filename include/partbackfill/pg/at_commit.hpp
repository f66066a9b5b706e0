// What shall happen once the current transaction has committed.
#pragma once

namespace partbackfill::pg {

// Cancels what that process runs (SIGINT), once this transaction has committed:
// by then the process sees what was committed. Nothing when it rolls back.
void cancel_process_at_commit(int pid);

} // namespace partbackfill::pg
