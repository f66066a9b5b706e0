// Acting as the owner of a table around what calls the functions in its indexes and
// statistics: the table's owner decides what they do, and must not do it as a role that has
// more rights. The server looks at these expressions whenever it plans a query on the
// table, and calls the functions in them then.
#pragma once

#include <vector>

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

namespace partbackfill::pg {

// The role, the security context and the settings level to go back to.
struct OwnerContext {
    Oid user;
    int security;
    int settings;
};

// Becomes the table's owner without a way to change the session, as the server does to build
// indexes; become_again() or an abort ends it. C-style.
OwnerContext become_restricted_owner(Oid table);
void become_again(const OwnerContext &before);

// Within its life the process acts as the table's owner, as REINDEX does: without a way
// to change the session, by the search_path of maintenance (17), and held by no row
// security of the owner's own.
class AsTableOwner {
public:
    explicit AsTableOwner(Oid table);
    ~AsTableOwner();
    AsTableOwner(const AsTableOwner &) = delete;
    AsTableOwner &operator=(const AsTableOwner &) = delete;

private:
    OwnerContext before_;
};

// Within its life the server has the expressions of the tables' indexes at hand, looked at
// as each table's owner, and does not look at them again: for commands that the owner may
// be unable to give. Takes ACCESS SHARE on the indexes, which stays.
class KnownIndexes {
public:
    explicit KnownIndexes(const std::vector<Oid> &tables);
    ~KnownIndexes();
    KnownIndexes(const KnownIndexes &) = delete;
    KnownIndexes &operator=(const KnownIndexes &) = delete;

private:
    List *open_ = nullptr; // of Relation
};

} // namespace partbackfill::pg
