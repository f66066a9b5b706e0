#include "partbackfill/pg/server.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
}

#include "partbackfill/pg/param_datum.hpp"

namespace partbackfill::pg {

namespace {

Datum array_of_oids(const std::vector<Oid> &values) {
    auto *datums = static_cast<Datum *>(palloc(sizeof(Datum) * (values.size() + 1)));
    for (size_t i = 0; i < values.size(); i++)
        datums[i] = ObjectIdGetDatum(values[i]);
    return PointerGetDatum(
        construct_array(datums, static_cast<int>(values.size()), OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

Datum array_of_texts(const std::vector<std::string> &values) {
    auto *datums = static_cast<Datum *>(palloc(sizeof(Datum) * (values.size() + 1)));
    for (size_t i = 0; i < values.size(); i++)
        datums[i] = CStringGetTextDatum(values[i].c_str());
    return PointerGetDatum(
        construct_array(datums, static_cast<int>(values.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

Datum typed_datum(const Param &param) {
    Oid input = InvalidOid;
    Oid parameter = InvalidOid;
    getTypeInputInfo(static_cast<Oid>(param.integer()), &input, &parameter);
    return OidInputFunctionCall(input, const_cast<char *>(param.text().c_str()), parameter, -1);
}

} // namespace

Oid type_oid(const Param &param) {
    switch (param.type()) {
    case Param::Type::boolean:
        return BOOLOID;
    case Param::Type::int8:
        return INT8OID;
    case Param::Type::float8:
        return FLOAT8OID;
    case Param::Type::oid:
        return OIDOID;
    case Param::Type::text:
        return TEXTOID;
    case Param::Type::oid_array:
        return OIDARRAYOID;
    case Param::Type::text_array:
        return TEXTARRAYOID;
    case Param::Type::typed:
        return static_cast<Oid>(param.integer());
    }
    return InvalidOid;
}

Datum to_datum(const Param &param) {
    switch (param.type()) {
    case Param::Type::boolean:
        return BoolGetDatum(param.integer() != 0);
    case Param::Type::int8:
        return Int64GetDatum(param.integer());
    case Param::Type::float8:
        return Float8GetDatum(param.number());
    case Param::Type::oid:
        return ObjectIdGetDatum(static_cast<Oid>(param.integer()));
    case Param::Type::text:
        return CStringGetTextDatum(param.text().c_str());
    case Param::Type::oid_array:
        return array_of_oids(param.oids());
    case Param::Type::text_array:
        return array_of_texts(param.texts());
    case Param::Type::typed:
        return typed_datum(param);
    }
    return 0;
}

ParamListInfo param_list(const Params &params) {
    ParamListInfo list = makeParamList(static_cast<int>(params.size()));
    for (size_t i = 0; i < params.size(); i++) {
        list->params[i].ptype = type_oid(params[i]);
        list->params[i].isnull = params[i].null();
        list->params[i].value = params[i].null() ? 0 : to_datum(params[i]);
        list->params[i].pflags = PARAM_FLAG_CONST;
    }
    return list;
}

} // namespace partbackfill::pg
