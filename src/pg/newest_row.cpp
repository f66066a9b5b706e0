#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
}

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/newest_row.hpp"
#include "partbackfill/pg/trusted.hpp"

namespace partbackfill::pg {

namespace {

constexpr AttrNumber kKey = 1;

// The field's text, in the current memory context. Types whose output depends on settings
// are written here, not by their own output functions.
char *field_text(HeapTuple tuple, TupleDesc desc, AttrNumber number) {
    bool is_null = false;
    const Datum value = heap_getattr(tuple, number, desc, &is_null);
    if (is_null)
        return nullptr;
    const Oid type = TupleDescAttr(desc, number - 1)->atttypid;
    if (type == FLOAT8OID)
        return psprintf("%.17g", DatumGetFloat8(value));
    if (type == INTERVALOID) {
        const Interval *interval = DatumGetIntervalP(value);
        constexpr double kDay = SECS_PER_DAY;
        return psprintf("%.6f", static_cast<double>(interval->time) / 1e6 + interval->day * kDay +
                                    interval->month * DAYS_PER_MONTH * kDay);
    }
    Oid output = InvalidOid;
    bool is_varlena = false;
    getTypeOutputInfo(type, &output, &is_varlena);
    return OidOutputFunctionCall(output, value);
}

} // namespace

KeyedTable::KeyedTable(Oid table, Oid index, Row::Names columns)
    : table_(table), index_(index), names_(std::make_shared<const Row::Names>(std::move(columns))) {
    for (const std::string &column : *names_) {
        const AttrNumber number = guard([&] { return get_attnum(table_, column.c_str()); });
        if (number == InvalidAttrNumber)
            raise(sqlcode::kInternal, "column \"" + column + "\" is missing");
        numbers_.push_back(number);
    }
}

std::optional<Row> KeyedTable::find(std::int64_t key) const {
    char **texts = guard([&]() -> char ** {
        Relation table = table_open(table_, AccessShareLock);
        require_superusers_table(table->rd_rel->relowner);
        ScanKeyData wanted;
        ScanKeyInit(&wanted, kKey, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
        SysScanDesc scan = systable_beginscan(table, index_, true, nullptr, 1, &wanted);
        const HeapTuple tuple = systable_getnext(scan);
        char **found = nullptr;
        if (HeapTupleIsValid(tuple)) {
            found = static_cast<char **>(palloc0(sizeof(char *) * (numbers_.size() + 1)));
            for (size_t i = 0; i < numbers_.size(); i++)
                found[i] = field_text(tuple, RelationGetDescr(table), numbers_[i]);
        }
        systable_endscan(scan);
        table_close(table, AccessShareLock);
        return found;
    });
    if (texts == nullptr)
        return std::nullopt;
    std::vector<Row::Field> fields;
    fields.reserve(numbers_.size());
    for (size_t i = 0; i < numbers_.size(); i++)
        fields.push_back(texts[i] != nullptr ? Row::Field(texts[i]) : std::nullopt);
    return Row(names_, std::move(fields));
}

} // namespace partbackfill::pg
