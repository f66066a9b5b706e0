// What the classes of the control tables have in common: how a statement is run.
#pragma once

#include <string>

#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::job {

// Base of the classes whose statements read and change the control tables, on which only the
// extension's owner has privileges. Each object is made with the AsExtensionOwner under which
// its statements run; both stay within one transaction, and around these statements only.
class ControlTable {
protected:
    explicit ControlTable(const pg::AsExtensionOwner &owner) : owner_(owner) {}

    // Quoted where needed.
    const std::string &schema() const noexcept { return owner_.extension().schema; }

    // Runs one statement, in which {s} stands for the extension's schema; other braces are doubled.
    pg::Result run(const std::string &sql, const pg::Params &params = {},
                   pg::Read read = pg::Read::newest) const;

private:
    const pg::AsExtensionOwner &owner_;
};

// Sets the mark that keeps the control tables out of logical decoding where it was lost, as
// pg_upgrade loses it. To be called before rows are written.
class UndecodedMark : ControlTable {
public:
    explicit UndecodedMark(const pg::AsExtensionOwner &owner) : ControlTable(owner) {}
    void restore() const;
};

} // namespace partbackfill::job
