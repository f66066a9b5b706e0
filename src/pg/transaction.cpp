#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/transam.h"
#include "access/xlog.h"
#include "executor/instrument.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/search_path.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::pg {

Transaction::Transaction() {
    open_ = true;
    try {
        guard([] {
            SetCurrentStatementStartTimestamp();
            StartTransactionCommand();
            XactIsoLevel = XACT_READ_COMMITTED;
            XactReadOnly = false;
            pin_transaction_path();
            PushActiveSnapshot(GetTransactionSnapshot());
        });
    } catch (...) {
        guard_noexcept([](void *) { AbortCurrentTransaction(); }, nullptr);
        throw;
    }
}

Transaction::~Transaction() {
    if (open_)
        guard_noexcept(
            [](void *) {
                HOLD_INTERRUPTS();
                AbortCurrentTransaction();
                RESUME_INTERRUPTS();
            },
            nullptr);
}

void Transaction::commit() {
    guard([] {
        PopActiveSnapshot();
        CommitTransactionCommand();
        pgstat_report_stat(true);
    });
    open_ = false;
}

Subtransaction::Subtransaction() : memory_(CurrentMemoryContext), owner_(CurrentResourceOwner) {
    guard([&] {
        BeginInternalSubTransaction(nullptr);
        MemoryContextSwitchTo(static_cast<MemoryContext>(memory_));
    });
    open_ = true;
}

Subtransaction::~Subtransaction() {
    if (!open_)
        return;
    guard_noexcept(
        [](void *self) {
            auto *subtransaction = static_cast<Subtransaction *>(self);
            RollbackAndReleaseCurrentSubTransaction();
            MemoryContextSwitchTo(static_cast<MemoryContext>(subtransaction->memory_));
            CurrentResourceOwner = static_cast<ResourceOwner>(subtransaction->owner_);
        },
        this);
}

void Subtransaction::commit() {
    guard([&] {
        ReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(static_cast<MemoryContext>(memory_));
        CurrentResourceOwner = static_cast<ResourceOwner>(owner_);
    });
    open_ = false;
}

ReadOnlyScope::ReadOnlyScope() : before_(XactReadOnly) {
    XactReadOnly = true;
}
ReadOnlyScope::~ReadOnlyScope() {
    XactReadOnly = before_;
}

SnapshotScope::SnapshotScope() {
    guard([] { PushActiveSnapshot(GetLatestSnapshot()); });
}
SnapshotScope::~SnapshotScope() {
    guard_noexcept(
        [](void *) {
            if (ActiveSnapshotSet())
                PopActiveSnapshot();
        },
        nullptr);
}

void command_counter_increment() {
    guard([] { CommandCounterIncrement(); });
}

std::uint32_t current_xid() {
    return guard([] { return GetTopTransactionId(); });
}

bool is_of_current_transaction(std::uint32_t xid) {
    return guard([&] { return TransactionIdIsCurrentTransactionId(xid); });
}

void wait_for_transaction(std::uint32_t xid) {
    if (xid == InvalidTransactionId)
        return;
    guard([&] { XactLockTableWait(xid, nullptr, nullptr, XLTW_None); });
}

void prevent_if_read_only(const char *function_name) {
    guard([&] {
        PreventCommandDuringRecovery(function_name);
        PreventCommandIfReadOnly(function_name);
    });
}

std::uint64_t wal_bytes_written() {
    return pgWalUsage.wal_bytes;
}

} // namespace partbackfill::pg
