#include "partbackfill/pg/server.hpp"

extern "C" {
#include "catalog/index.h"
#include "commands/defrem.h"
#include "parser/parse_node.h"
#include "utils/relcache.h"
}

#include "partbackfill/pg/indexes.hpp"

namespace partbackfill::pg {

Oid define_index(Oid table, IndexStmt *statement) {
    const bool is_alter_table = false;
    const bool check_rights = true;
    const bool check_not_in_use = false;
    const bool skip_build = false;
    const bool quiet = true;
#if PG_VERSION_NUM >= 190000
    // For the position of an error in the text of a statement, and there is none.
    ParseState *state = make_parsestate(nullptr);
    const ObjectAddress address =
        DefineIndex(state, table, statement, InvalidOid, InvalidOid, InvalidOid, -1, is_alter_table,
                    check_rights, check_not_in_use, skip_build, quiet);
    free_parsestate(state);
#elif PG_VERSION_NUM >= 160000
    const ObjectAddress address =
        DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid, -1, is_alter_table, check_rights,
                    check_not_in_use, skip_build, quiet);
#else
    const ObjectAddress address =
        DefineIndex(table, statement, InvalidOid, InvalidOid, InvalidOid, is_alter_table, check_rights,
                    check_not_in_use, skip_build, quiet);
#endif
    return address.objectId;
}

void rebuild_index(Oid index, char persistence) {
    ReindexParams
        params{}; // none reported: it would end with this index, and with it what the caller reports
    const bool skip_constraint_checks = false;
#if PG_VERSION_NUM >= 170000
    reindex_index(nullptr, index, skip_constraint_checks, persistence, &params);
#else
    reindex_index(index, skip_constraint_checks, persistence, &params);
#endif
}

Oid primary_key_index(Relation table) {
#if PG_VERSION_NUM >= 180000
    const bool deferrable_too = false;
    return RelationGetPrimaryKeyIndex(table, deferrable_too);
#else
    return RelationGetPrimaryKeyIndex(table);
#endif
}

bool attach_minds_kinds() {
    return PG_VERSION_NUM >= 170000;
}

} // namespace partbackfill::pg
