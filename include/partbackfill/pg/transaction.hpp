// Transactions of a background worker.
#pragma once

#include <cstdint>

namespace partbackfill::pg {

// A top-level transaction with an active snapshot and the pinned search_path, READ
// COMMITTED and read-write whatever the role's defaults are: a swap has to see what was
// committed while it waited for its locks. The destructor aborts: commit() is explicit.
// Nothing that the server allocated in the transaction may outlive it.
class Transaction {
public:
    Transaction();
    ~Transaction();
    Transaction(const Transaction &) = delete;
    Transaction &operator=(const Transaction &) = delete;
    void commit();

private:
    bool open_ = false;
};

// A subtransaction of the current transaction. The destructor rolls back and gives back the
// locks that were taken in it; commit() keeps them. An error of the server in it is over
// when it has ended.
class Subtransaction {
public:
    Subtransaction();
    ~Subtransaction();
    Subtransaction(const Subtransaction &) = delete;
    Subtransaction &operator=(const Subtransaction &) = delete;
    void commit();

private:
    void *memory_; // the memory context and the resource owner outside
    void *owner_;
    bool open_ = false;
};

// Within its life the transaction is read-only for the user's query and the functions that
// it calls.
class ReadOnlyScope {
public:
    ReadOnlyScope();
    ~ReadOnlyScope();
    ReadOnlyScope(const ReadOnlyScope &) = delete;
    ReadOnlyScope &operator=(const ReadOnlyScope &) = delete;

private:
    bool before_;
};

// A snapshot taken now, registered and active for its life: all that runs within it
// reads the same state of the database.
class SnapshotScope {
public:
    SnapshotScope();
    ~SnapshotScope();
    SnapshotScope(const SnapshotScope &) = delete;
    SnapshotScope &operator=(const SnapshotScope &) = delete;
};

// Makes what was done so far in this transaction visible to what follows.
void command_counter_increment();

// The id of the top transaction, which is given one if it has none.
std::uint32_t current_xid();

// Whether the id is that of the current transaction or of a live subtransaction of it.
bool is_of_current_transaction(std::uint32_t xid);

// Waits until the transaction is over, however it ends.
void wait_for_transaction(std::uint32_t xid);

// Raises an error that names the function unless the transaction may write.
void prevent_if_read_only(const char *function_name);

// WAL bytes that this process has written since it began, its parallel workers'
// included once they have ended.
std::uint64_t wal_bytes_written();

} // namespace partbackfill::pg
