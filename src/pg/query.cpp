#include "partbackfill/pg/server.hpp"

extern "C" {
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/hsearch.h"
}

#include <algorithm>
#include <charconv>

#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/param_datum.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::pg {

Param::Param(std::string value) : type_(Type::text), text_(std::move(value)) {}
Param::Param(std::string_view value) : type_(Type::text), text_(value) {}
Param::Param(const char *value) : type_(Type::text), text_(value) {}
Param::Param(const std::optional<std::string> &value)
    : type_(Type::text), null_(!value.has_value()), text_(value.value_or("")) {}
Param::Param(std::vector<Oid> values) : type_(Type::oid_array), oids_(std::move(values)) {}
Param::Param(std::vector<std::string> values) : type_(Type::text_array), texts_(std::move(values)) {}
Param::Param(const Param &) = default;
Param::Param(Param &&) noexcept = default;
Param &Param::operator=(const Param &) = default;
Param &Param::operator=(Param &&) noexcept = default;
Param::~Param() = default;

Param Param::typed(Oid type, const std::optional<std::string> &text) {
    Param param(text);
    param.type_ = Type::typed;
    param.integer_ = type;
    return param;
}

Row::Row(std::shared_ptr<const Names> names, std::vector<Field> fields)
    : names_(std::move(names)), fields_(std::move(fields)) {}
Row::Row(const Row &) = default;
Row::Row(Row &&) noexcept = default;
Row &Row::operator=(const Row &) = default;
Row &Row::operator=(Row &&) noexcept = default;
Row::~Row() = default;

Result::Result() = default;
Result::Result(const Result &) = default;
Result::Result(Result &&) noexcept = default;
Result &Result::operator=(const Result &) = default;
Result &Result::operator=(Result &&) noexcept = default;
Result::~Result() = default;

namespace {

// What a statement gave, still in the server's memory.
struct RawResult {
    uint64 processed;
    uint64 rows;
    int columns;
    char **names;
    char **fields; // rows x columns, nullptr is NULL
};

// Copies SPI's tuple table into `keep`, which survives SPI_finish.
RawResult copy_tuples(MemoryContext keep) {
    RawResult raw{SPI_processed, 0, 0, nullptr, nullptr};
    if (SPI_tuptable == nullptr)
        return raw;
    const TupleDesc desc = SPI_tuptable->tupdesc;
    raw.rows = SPI_tuptable->numvals;
    raw.columns = desc->natts;
    raw.names = static_cast<char **>(
        MemoryContextAlloc(keep, sizeof(char *) * (static_cast<size_t>(raw.columns) + 1)));
    for (int column = 0; column < raw.columns; column++)
        raw.names[column] = MemoryContextStrdup(keep, NameStr(TupleDescAttr(desc, column)->attname));
    raw.fields = static_cast<char **>(
        MemoryContextAllocZero(keep, sizeof(char *) * (raw.rows * static_cast<uint64>(raw.columns) + 1)));
    for (uint64 row = 0; row < raw.rows; row++)
        for (int column = 0; column < raw.columns; column++) {
            const char *value = SPI_getvalue(SPI_tuptable->vals[row], desc, column + 1);
            if (value != nullptr)
                raw.fields[row * static_cast<uint64>(raw.columns) + static_cast<uint64>(column)] =
                    MemoryContextStrdup(keep, value);
        }
    return raw;
}

// KeepPlans objects alive.
int keepers = 0;
int patient_keepers = 0;

struct KeptPlan {
    uint64 key; // must be first: a hash of the text and the parameters' types
    char *text;
    SPIPlanPtr plan;
};

// Whether the statement is one of the latest that were run before.
bool seen_before(uint64 key) {
    static uint64 latest[1024];
    uint64 &slot = latest[key % lengthof(latest)];
    const bool seen = slot == key;
    slot = key;
    return seen;
}

// The kept plan, made when there is none. A generic one: with the tables at hand
// its estimates do not matter, and it is made once. nullptr when another
// statement has the same hash, or when the statement has to come again first.
SPIPlanPtr kept_plan(const char *sql, int count, Oid *types) {
    static HTAB *plans = nullptr;
    if (plans == nullptr) {
        HASHCTL control{};
        control.keysize = sizeof(uint64);
        control.entrysize = sizeof(KeptPlan);
        plans = hash_create("partbackfill plans", 64, &control, HASH_ELEM | HASH_BLOBS);
    }
    const auto *bytes = reinterpret_cast<const unsigned char *>(sql);
    const uint64 seed = hash_bytes_extended(reinterpret_cast<unsigned char *>(types),
                                            count * static_cast<int>(sizeof(Oid)), 0);
    const uint64 key = hash_bytes_extended(bytes, static_cast<int>(strlen(sql)), seed);
    const auto *found = static_cast<KeptPlan *>(hash_search(plans, &key, HASH_FIND, nullptr));
    if (found != nullptr)
        return strcmp(found->text, sql) == 0 ? found->plan : nullptr;
    if (keepers == 0 && !seen_before(key))
        return nullptr;
    SPIPlanPtr plan = SPI_prepare_cursor(sql, count, types, CURSOR_OPT_GENERIC_PLAN);
    if (plan == nullptr)
        elog(ERROR, "SPI_prepare_cursor failed: %s", SPI_result_code_string(SPI_result));
    char *text = MemoryContextStrdup(TopMemoryContext, sql);
    SPI_keepplan(plan);
    auto *entry = static_cast<KeptPlan *>(hash_search(plans, &key, HASH_ENTER, nullptr));
    entry->text = text;
    entry->plan = plan;
    return plan;
}

RawResult run(const char *sql, const Params &params, bool read_only, MemoryContext keep) {
    const int count = static_cast<int>(params.size());
    SPI_connect();
    auto *types = static_cast<Oid *>(palloc(sizeof(Oid) * (params.size() + 1)));
    auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * (params.size() + 1)));
    auto *nulls = static_cast<char *>(palloc(params.size() + 1));
    for (int i = 0; i < count; i++) {
        const Param &param = params[static_cast<size_t>(i)];
        types[i] = type_oid(param);
        nulls[i] = param.null() ? 'n' : ' ';
        values[i] = param.null() ? 0 : to_datum(param);
    }
    SPIPlanPtr plan = KeepPlans::kept() && count > 0 ? kept_plan(sql, count, types) : nullptr;
    const int code = plan != nullptr ? SPI_execute_plan(plan, values, nulls, read_only, 0)
                                     : SPI_execute_with_args(sql, count, types, values, nulls, read_only, 0);
    if (code < 0)
        elog(ERROR, "could not run a statement: %s", SPI_result_code_string(code));
    const RawResult raw = copy_tuples(keep);
    SPI_finish();
    return raw;
}

} // namespace

Result query(const std::string &sql, const Params &params, Read read) {
    const auto keep = guard([] {
        return AllocSetContextCreate(CurrentMemoryContext, "partbackfill query", ALLOCSET_DEFAULT_SIZES);
    });
    const RawResult raw =
        guard([&] { return run(sql.c_str(), params, read == Read::active_snapshot, keep); });

    Result result;
    result.processed = raw.processed;
    result.rows.reserve(raw.rows);
    const auto names = std::make_shared<const Row::Names>(raw.names, raw.names + raw.columns);
    for (uint64 row = 0; row < raw.rows; row++) {
        std::vector<Row::Field> fields;
        fields.reserve(static_cast<size_t>(raw.columns));
        for (int column = 0; column < raw.columns; column++) {
            const char *value =
                raw.fields[row * static_cast<uint64>(raw.columns) + static_cast<uint64>(column)];
            fields.push_back(value != nullptr ? Row::Field(value) : std::nullopt);
        }
        result.rows.emplace_back(names, std::move(fields));
    }
    guard([&] { MemoryContextDelete(keep); });
    return result;
}

KeepPlans::KeepPlans(From from) noexcept : count_(from == From::first_use ? keepers : patient_keepers) {
    count_++;
}
KeepPlans::~KeepPlans() {
    count_--;
}
bool KeepPlans::kept() noexcept {
    return keepers + patient_keepers > 0;
}

Row query_row(const std::string &sql, const Params &params) {
    Result result = query(sql, params);
    if (result.rows.size() != 1)
        raise(sqlcode::kInternal, "a statement gave " + std::to_string(result.rows.size()) + " rows, not one",
              "The statement is: " + sql);
    return std::move(result.rows.front());
}

void execute(const std::string &sql, const Params &params) {
    query(sql, params);
}

void execute_each(const std::string &sql, const Params &params) {
    for (const std::string &statement : query(sql, params).texts())
        execute(statement);
}

std::vector<Oid> Result::oids() const {
    std::vector<Oid> values;
    values.reserve(rows.size());
    for (const Row &row : rows)
        values.push_back(row.oid(0));
    return values;
}

std::vector<std::string> Result::texts() const {
    std::vector<std::string> values;
    values.reserve(rows.size());
    for (const Row &row : rows)
        values.push_back(row.text(0));
    return values;
}

size_t Row::column(std::string_view name) const {
    const auto found = std::find(names_->begin(), names_->end(), name);
    if (found == names_->end())
        raise(sqlcode::kInternal, "an internal query has no column \"" + std::string(name) + "\"");
    return static_cast<size_t>(found - names_->begin());
}

const std::string &Row::text(size_t i) const {
    const Field &value = fields_.at(i);
    if (!value)
        raise(sqlcode::kInternal, "column \"" + names_->at(i) + "\" of an internal query is null");
    return *value;
}

std::int64_t Row::integer(size_t i) const {
    const std::string &value = text(i);
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size())
        raise(sqlcode::kInternal, "\"" + value + "\" from an internal query is not an integer");
    return number;
}

double Row::number(size_t i) const {
    const std::string &value = text(i);
    double number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size())
        raise(sqlcode::kInternal, "\"" + value + "\" from an internal query is not a number");
    return number;
}

std::string quote_identifier(const std::string &name) {
    return guard([&] { return ::quote_identifier(name.c_str()); });
}

std::string quote_qualified(const std::string &schema, const std::string &name) {
    return pg::quote_identifier(schema) + "." + pg::quote_identifier(name);
}

std::string quote_literal(const std::string &text) {
    return guard([&] { return quote_literal_cstr(text.c_str()); });
}

} // namespace partbackfill::pg
