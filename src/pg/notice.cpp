#include "partbackfill/pg/server.hpp"

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/notice.hpp"

namespace partbackfill::pg {

void notice(const std::string &message, const std::string &detail, const std::string &hint) {
    guard([&] {
        ereport(NOTICE, (errmsg("%s", message.c_str()), detail.empty() ? 0 : errdetail("%s", detail.c_str()),
                         hint.empty() ? 0 : errhint("%s", hint.c_str())));
    });
}

} // namespace partbackfill::pg
