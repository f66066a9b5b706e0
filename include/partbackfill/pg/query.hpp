// SQL statements of the extension's own, through SPI: parameters in, text out.
//
// Values come back in their text form, as the settings of the moment write
// them: statements whose output is parsed run under pg::PinnedSettings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

// A parameter of a statement ($1, $2, ...). Intervals, timestamps and the like
// travel as text and are cast in the statement.
class Param {
public:
    enum class Type { boolean, int8, float8, oid, text, oid_array, text_array, typed };

    Param(bool value) : type_(Type::boolean), integer_(value) {}
    Param(int value) : type_(Type::int8), integer_(value) {}
    Param(std::int64_t value) : type_(Type::int8), integer_(value) {}
    Param(Oid value) : type_(Type::oid), integer_(value) {}
    Param(double value) : type_(Type::float8), number_(value) {}
    Param(std::string value) : type_(Type::text), text_(std::move(value)) {}
    Param(std::string_view value) : type_(Type::text), text_(value) {}
    Param(const char *value) : type_(Type::text), text_(value) {}
    Param(const std::optional<std::string> &value)
        : type_(Type::text), null_(!value.has_value()), text_(value.value_or("")) {}
    Param(std::vector<Oid> values) : type_(Type::oid_array), oids_(std::move(values)) {}
    Param(std::vector<std::string> values) : type_(Type::text_array), texts_(std::move(values)) {}

    // A value of any type in its text form (ISO dates), NULL when there is none.
    static Param typed(Oid type, const std::optional<std::string> &text) {
        Param param(text);
        param.type_ = Type::typed;
        param.integer_ = type;
        return param;
    }

    Type type() const noexcept { return type_; }
    bool null() const noexcept { return null_; }
    std::int64_t integer() const noexcept { return integer_; }
    double number() const noexcept { return number_; }
    const std::string &text() const noexcept { return text_; }
    const std::vector<Oid> &oids() const noexcept { return oids_; }
    const std::vector<std::string> &texts() const noexcept { return texts_; }

private:
    Type type_;
    bool null_ = false;
    std::int64_t integer_ = 0;
    double number_ = 0;
    std::string text_;
    std::vector<Oid> oids_;
    std::vector<std::string> texts_;
};

using Params = std::vector<Param>;

class Row {
public:
    using Field = std::optional<std::string>;

    explicit Row(std::vector<Field> fields) : fields_(std::move(fields)) {}
    bool is_null(size_t i) const { return !fields_.at(i).has_value(); }
    const Field &field(size_t i) const { return fields_.at(i); }
    // The accessors below raise an internal error on NULL.
    const std::string &text(size_t i) const;
    std::int64_t integer(size_t i) const;
    double number(size_t i) const;
    bool boolean(size_t i) const { return text(i) == "t"; }
    Oid oid(size_t i) const { return static_cast<Oid>(integer(i)); }

private:
    std::vector<Field> fields_;
};

struct Result {
    std::vector<Row> rows;
    std::uint64_t processed = 0;
    bool empty() const noexcept { return rows.empty(); }
};

// What a statement sees: a new snapshot for it (the transaction's, above READ
// COMMITTED), or the active one, which allows only reading.
enum class Read { newest, active_snapshot };

// Runs one statement.
Result query(const std::string &sql, const Params &params = {}, Read read = Read::newest);

// The same for a statement that must give exactly one row.
Row query_row(const std::string &sql, const Params &params = {});

// Runs a utility statement or a statement whose result does not matter.
void execute(const std::string &sql, const Params &params = {});

// Within its life the plans of statements that have parameters are kept for the
// session: for what is run again and again with the same text, while others wait.
class KeepPlans {
public:
    KeepPlans() noexcept;
    ~KeepPlans();
    KeepPlans(const KeepPlans &) = delete;
    KeepPlans &operator=(const KeepPlans &) = delete;
};

// An identifier or a literal, quoted where that is needed. What is quoted here
// is safe whatever standard_conforming_strings says.
std::string quote_identifier(const std::string &name);
std::string quote_qualified(const std::string &schema, const std::string &name);
std::string quote_literal(const std::string &text);

} // namespace partbackfill::pg
