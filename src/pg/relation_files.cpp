#include "partbackfill/pg/server.hpp"

extern "C" {
#include "utils/rel.h"
}

#include <utility>

#include "partbackfill/pg/relation_files.hpp"

namespace partbackfill::pg {

void set_new_file(Relation relation) {
#if PG_VERSION_NUM >= 160000
    RelationSetNewRelfilenumber(relation, relation->rd_rel->relpersistence);
#else
    RelationSetNewRelfilenode(relation, relation->rd_rel->relpersistence);
#endif
}

bool file_is_of_this_subtransaction(Relation relation) {
#if PG_VERSION_NUM >= 160000
    return relation->rd_newRelfilelocatorSubid == GetCurrentSubTransactionId();
#else
    return relation->rd_newRelfilenodeSubid == GetCurrentSubTransactionId();
#endif
}

void exchange_all_frozen([[maybe_unused]] Form_pg_class a, [[maybe_unused]] Form_pg_class b) {
#if PG_VERSION_NUM >= 180000
    std::swap(a->relallfrozen, b->relallfrozen);
#endif
}

void exchange_file_history(Relation a, Relation b) {
#if PG_VERSION_NUM >= 160000
    const bool is_new = b->rd_firstRelfilelocatorSubid != InvalidSubTransactionId;
    b->rd_newRelfilelocatorSubid = a->rd_newRelfilelocatorSubid;
    b->rd_firstRelfilelocatorSubid = a->rd_firstRelfilelocatorSubid;
    if (is_new)
        RelationAssumeNewRelfilelocator(a);
#else
    const bool is_new = b->rd_firstRelfilenodeSubid != InvalidSubTransactionId;
    b->rd_newRelfilenodeSubid = a->rd_newRelfilenodeSubid;
    b->rd_firstRelfilenodeSubid = a->rd_firstRelfilenodeSubid;
    if (is_new)
        RelationAssumeNewRelfilenode(a);
#endif
}

} // namespace partbackfill::pg
