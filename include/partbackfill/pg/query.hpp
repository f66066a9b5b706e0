// SQL statements of the extension's own, through SPI: parameters in, text out.
//
// Values come back in their text form, as the settings of the moment write
// them: statements whose output is parsed run under pg::PinnedSettings.
#pragma once

#include <cstdint>
#include <memory>
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
    Param(std::string value);
    Param(std::string_view value);
    Param(const char *value);
    Param(const std::optional<std::string> &value);
    Param(std::vector<Oid> values);
    Param(std::vector<std::string> values);

    // Not inline, as most files make parameters: it takes the compiler a fifth of its time.
    Param(const Param &);
    Param(Param &&) noexcept;
    Param &operator=(const Param &);
    Param &operator=(Param &&) noexcept;
    ~Param();

    // A value of any type in its text form (ISO dates), NULL when there is none.
    static Param typed(Oid type, const std::optional<std::string> &text);

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

// A row of a result. Columns are named as the statement names them, and counted from 0. An
// unknown name is an internal error, and so is NULL where it is not field() or is_null() that asks.
class Row {
public:
    using Field = std::optional<std::string>;
    using Names = std::vector<std::string>;

    Row(std::shared_ptr<const Names> names, std::vector<Field> fields);
    Row(const Row &);
    Row(Row &&) noexcept;
    Row &operator=(const Row &);
    Row &operator=(Row &&) noexcept;
    ~Row();

    size_t size() const noexcept { return fields_.size(); }
    const std::string &name(size_t i) const { return names_->at(i); }
    const Field &field(size_t i) const { return fields_.at(i); }
    bool is_null(size_t i) const { return !field(i).has_value(); }
    const std::string &text(size_t i) const;
    std::int64_t integer(size_t i) const;
    double number(size_t i) const;
    bool boolean(size_t i) const { return text(i) == "t"; }
    Oid oid(size_t i) const { return static_cast<Oid>(integer(i)); }

    const Field &field(std::string_view name) const { return field(column(name)); }
    bool is_null(std::string_view name) const { return is_null(column(name)); }
    const std::string &text(std::string_view name) const { return text(column(name)); }
    std::int64_t integer(std::string_view name) const { return integer(column(name)); }
    double number(std::string_view name) const { return number(column(name)); }
    bool boolean(std::string_view name) const { return boolean(column(name)); }
    Oid oid(std::string_view name) const { return oid(column(name)); }

private:
    size_t column(std::string_view name) const;

    std::shared_ptr<const Names> names_; // of all rows of a result
    std::vector<Field> fields_;
};

struct Result {
    Result();
    Result(const Result &);
    Result(Result &&) noexcept;
    Result &operator=(const Result &);
    Result &operator=(Result &&) noexcept;
    ~Result();

    std::vector<Row> rows;
    std::uint64_t processed = 0;
    bool empty() const noexcept { return rows.empty(); }
    // The first column of each row, which holds no NULL.
    std::vector<Oid> oids() const;
    std::vector<std::string> texts() const;
};

// What a statement sees: a new snapshot for it (the transaction's, above READ
// COMMITTED), or the active one, which allows only reading.
enum class Read { newest, active_snapshot };

// Runs one statement.
Result query(const std::string &sql, const Params &params = {}, Read read = Read::newest);

// Runs one statement and returns its row; any other number of rows is an error.
Row query_row(const std::string &sql, const Params &params = {});

// Runs a utility statement or a statement whose result does not matter.
void execute(const std::string &sql, const Params &params = {});

// Runs each statement that the query gives in its first column.
void execute_each(const std::string &sql, const Params &params);

// Within its life the plans of statements that have parameters are kept for the session: from their
// first use on while others wait, and from their second where statements come whose text names one
// table.
class KeepPlans {
public:
    enum class From { first_use, second_use };
    explicit KeepPlans(From from = From::first_use) noexcept;
    ~KeepPlans();
    KeepPlans(const KeepPlans &) = delete;
    KeepPlans &operator=(const KeepPlans &) = delete;
    // Whether plans are kept now.
    static bool kept() noexcept;

private:
    int &count_;
};

// An identifier or a literal, quoted where that is needed. What is quoted here
// is safe whatever standard_conforming_strings says.
std::string quote_identifier(const std::string &name);
std::string quote_qualified(const std::string &schema, const std::string &name);
std::string quote_literal(const std::string &text);

} // namespace partbackfill::pg
