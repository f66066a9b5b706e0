// Arguments and results of SQL functions as C++ values. To be included after
// server.hpp.
#pragma once

#include "partbackfill/pg/server.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

// What workers load, and tables and logs keep: 1 MB.
inline constexpr std::size_t kLongestText = std::size_t{1} << 20;
inline constexpr int kMostElements = 100000;

class Arguments {
public:
    explicit Arguments(FunctionCallInfo fcinfo) : fcinfo_(fcinfo) {}

    bool is_null(int i) const { return fcinfo_->args[i].isnull; }
    // Raise when the argument is NULL, naming it.
    Oid oid(int i, const char *name) const;
    std::int64_t bigint(int i, const char *name) const;
    int integer(int i, const char *name) const;
    double number(int i, const char *name) const;
    bool boolean(int i, const char *name) const;
    std::string string(int i, const char *name) const;
    std::string interval(int i, const char *name) const; // in postgres style; not negative

    // An error when it is longer than kLongestText.
    std::optional<std::string> optional_text(int i, const char *name) const;
    std::optional<std::string> optional_interval(int i,
                                                 const char *name = nullptr) const; // not negative, if named
    std::optional<std::vector<Oid>> optional_oids(int i) const;

private:
    void require(int i, const char *name) const;
    FunctionCallInfo fcinfo_;
};

// Gives the caller a set of rows, their columns in text form.
using TextRow = std::vector<std::optional<std::string>>;
Datum return_rows(FunctionCallInfo fcinfo, const std::vector<TextRow> &rows);

Datum return_text(const std::string &text);

} // namespace partbackfill::pg
