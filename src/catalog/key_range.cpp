#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/table.h"
#include "nodes/pg_list.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
}

#include "partbackfill/catalog/bound.hpp"
#include "partbackfill/catalog/key_range.hpp"
#include "partbackfill/pg/search_path.hpp"

namespace partbackfill::catalog {

namespace {

int compare(PartitionKey key, Datum a, Datum b) {
    const int level = pg::use_callers_path();
    const int order = DatumGetInt32(FunctionCall2Coll(&key->partsupfunc[0], key->partcollation[0], a, b));
    pg::end_callers_path(level);
    return order;
}

// The finite end of a range in *value; false when it is MINVALUE or MAXVALUE.
bool finite(List *datums, Datum *value) {
    auto *datum = static_cast<PartitionRangeDatum *>(linitial(datums));
    if (datum->kind != PARTITION_RANGE_DATUM_VALUE)
        return false;
    *value = reinterpret_cast<Const *>(datum->value)->constvalue;
    return true;
}

char *text_of(Oid type, Datum value) {
    Oid output = InvalidOid;
    bool varlena = false;
    getTypeOutputInfo(type, &output, &varlena);
    return OidOutputFunctionCall(output, value);
}

} // namespace

bool has_range_key(PartitionKey key) {
    return key->strategy == PARTITION_STRATEGY_RANGE && key->partnatts == 1;
}

bool parse_range(Oid target, const char *start, const char *end, RequestedRange *range) {
    Relation relation = table_open(target, AccessShareLock);
    const PartitionKey key = key_of(relation);
    if (!has_range_key(key))
        ereport(
            ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
             errmsg("cannot select partitions of \"%s\" by range", RelationGetRelationName(relation)),
             errdetail("range_start and range_end need a table that is partitioned by RANGE on one column."),
             errhint("Name the partitions in the parameter partitions instead.")));
    Oid input = InvalidOid;
    Oid parameter = InvalidOid;
    getTypeInputInfo(key->parttypid[0], &input, &parameter);
    const auto value_of = [&](const char *text) {
        return OidInputFunctionCall(input, const_cast<char *>(text), parameter, key->parttypmod[0]);
    };
    *range = {true, start != nullptr, end != nullptr, 0, 0};
    if (start != nullptr)
        range->start = value_of(start);
    if (end != nullptr)
        range->end = value_of(end);
    const bool ordered = start == nullptr || end == nullptr || compare(key, range->start, range->end) < 0;
    table_close(relation, NoLock);
    return ordered;
}

KeyRange key_range(PartitionKey key, Oid child, const RequestedRange *requested) {
    if (!has_range_key(key))
        return {!requested->given, nullptr, nullptr};
    const PartitionBoundSpec *spec = bound_of(child);
    if (spec->is_default)
        return {!requested->given, nullptr, nullptr};
    Datum lower = 0;
    Datum upper = 0;
    const bool has_lower = finite(spec->lowerdatums, &lower);
    const bool has_upper = finite(spec->upperdatums, &upper);
    const bool before = requested->has_start && has_upper && compare(key, upper, requested->start) <= 0;
    const bool after = requested->has_end && has_lower && compare(key, lower, requested->end) >= 0;
    return {!before && !after, has_lower ? text_of(key->parttypid[0], lower) : nullptr,
            has_upper ? text_of(key->parttypid[0], upper) : nullptr};
}

} // namespace partbackfill::catalog
