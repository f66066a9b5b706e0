#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
}

#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

bool Arguments::is_null(int i) const {
    return fcinfo_->args[i].isnull;
}

void Arguments::require(int i, const char *name) const {
    if (is_null(i))
        raise(sqlcode::kInvalidParameter, std::string(name) + " must not be null");
}

Oid Arguments::oid(int i, const char *name) const {
    require(i, name);
    return DatumGetObjectId(fcinfo_->args[i].value);
}

std::int64_t Arguments::bigint(int i, const char *name) const {
    require(i, name);
    return DatumGetInt64(fcinfo_->args[i].value);
}

int Arguments::integer(int i, const char *name) const {
    require(i, name);
    return DatumGetInt32(fcinfo_->args[i].value);
}

double Arguments::number(int i, const char *name) const {
    require(i, name);
    return DatumGetFloat8(fcinfo_->args[i].value);
}

bool Arguments::boolean(int i, const char *name) const {
    require(i, name);
    return DatumGetBool(fcinfo_->args[i].value);
}

std::string Arguments::string(int i, const char *name) const {
    require(i, name);
    return *optional_text(i, name);
}

double Arguments::seconds(int i, const char *name) const {
    require(i, name);
    return *optional_seconds(i, name);
}

std::optional<std::string> Arguments::optional_text(int i, const char *name) const {
    if (is_null(i))
        return std::nullopt;
    // Asked of the value as it is stored: one that is too long is never taken apart.
    if (guard([&] { return toast_raw_datum_size(fcinfo_->args[i].value); }) - VARHDRSZ > kLongestText)
        raise(sqlcode::kProgramLimit, std::string(name) + " must not be longer than 1 MB");
    return guard([&] { return TextDatumGetCString(fcinfo_->args[i].value); });
}

std::optional<double> Arguments::optional_seconds(int i, const char *name) const {
    if (is_null(i))
        return std::nullopt;
    const bool endless =
        name != nullptr &&
        guard([&] { return !DatumGetBool(DirectFunctionCall1(interval_finite, fcinfo_->args[i].value)); });
    if (endless)
        raise(sqlcode::kInvalidParameter, std::string(name) + " must be finite");
    const bool negative =
        name != nullptr && guard([&] {
            const Datum zero = DirectFunctionCall3(interval_in, CStringGetDatum("0"),
                                                   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
            return DatumGetBool(DirectFunctionCall2(interval_lt, fcinfo_->args[i].value, zero));
        });
    const double seconds = guard([&] {
        const Datum unit = CStringGetTextDatum("epoch");
        return DatumGetFloat8(DirectFunctionCall2(interval_part, unit, fcinfo_->args[i].value));
    });
    // A year has 360 days in comparisons and 365.25 here.
    if (negative || (name != nullptr && seconds < 0))
        raise(sqlcode::kInvalidParameter, std::string(name) + " must not be negative");
    return seconds;
}

std::optional<std::vector<Oid>> Arguments::optional_oids(int i) const {
    if (is_null(i))
        return std::nullopt;
    const int count = guard([&] {
        const ArrayType *array = DatumGetArrayTypeP(fcinfo_->args[i].value);
        return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    });
    if (count > kMostElements)
        raise(sqlcode::kProgramLimit, "an array of partitions must not have more than " +
                                          std::to_string(kMostElements) + " elements");
    struct Elements {
        Datum *values;
        bool *nulls;
        int count;
    };
    const Elements elements = guard([&] {
        Elements found{};
        deconstruct_array(DatumGetArrayTypeP(fcinfo_->args[i].value), REGCLASSOID, sizeof(Oid), true,
                          TYPALIGN_INT, &found.values, &found.nulls, &found.count);
        return found;
    });
    std::vector<Oid> oids;
    for (int k = 0; k < elements.count; k++) {
        if (elements.nulls[k])
            raise(sqlcode::kInvalidParameter, "an array of partitions must not contain null");
        oids.push_back(DatumGetObjectId(elements.values[k]));
    }
    return oids;
}

std::vector<std::optional<std::string>> Arguments::texts(int i, const char *name) const {
    require(i, name);
    if (guard([&] { return toast_raw_datum_size(fcinfo_->args[i].value); }) - VARHDRSZ > kLongestText)
        raise(sqlcode::kProgramLimit, std::string(name) + " must not be longer than 1 MB in all");
    struct Elements {
        char **values;
        int count;
    };
    const Elements elements = guard([&] {
        Elements found{};
        Datum *datums = nullptr;
        bool *nulls = nullptr;
        deconstruct_array(DatumGetArrayTypeP(fcinfo_->args[i].value), TEXTOID, -1, false, TYPALIGN_INT,
                          &datums, &nulls, &found.count);
        found.values = static_cast<char **>(palloc(sizeof(char *) * static_cast<Size>(found.count + 1)));
        for (int k = 0; k < found.count; k++)
            found.values[k] = nulls[k] ? nullptr : TextDatumGetCString(datums[k]);
        return found;
    });
    std::vector<std::optional<std::string>> texts;
    texts.reserve(static_cast<size_t>(elements.count));
    for (int k = 0; k < elements.count; k++)
        texts.push_back(elements.values[k] != nullptr ? std::optional<std::string>(elements.values[k])
                                                      : std::nullopt);
    return texts;
}

} // namespace partbackfill::pg
