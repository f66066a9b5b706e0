#include "partbackfill/pg/server.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/tuplestore.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/results.hpp"

namespace partbackfill::pg {

Datum return_rows(FunctionCallInfo fcinfo, const std::vector<TextRow> &rows) {
    guard([&] { InitMaterializedSRF(fcinfo, 0); });
    const auto *info = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    AttInMetadata *metadata = guard([&] { return TupleDescGetAttInMetadata(info->setDesc); });
    for (const TextRow &row : rows) {
        std::vector<char *> values;
        values.reserve(row.size());
        for (const auto &value : row)
            values.push_back(value ? const_cast<char *>(value->c_str()) : nullptr);
        guard([&] { tuplestore_puttuple(info->setResult, BuildTupleFromCStrings(metadata, values.data())); });
    }
    return 0;
}

Datum return_text(const std::string &text) {
    return guard([&] { return CStringGetTextDatum(text.c_str()); });
}

} // namespace partbackfill::pg
