// Arguments of SQL functions as C++ values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "partbackfill/pg/error.hpp"

struct FunctionCallInfoBaseData;

namespace partbackfill::pg {

// What workers load, and tables and logs keep: 1 MB.
inline constexpr std::size_t kLongestText = std::size_t{1} << 20;
inline constexpr int kMostElements = 100000;

class Arguments {
public:
    explicit Arguments(FunctionCallInfoBaseData *fcinfo) : fcinfo_(fcinfo) {}

    bool is_null(int i) const;
    // Raise when the argument is NULL, naming it.
    Oid oid(int i, const char *name) const;
    std::int64_t bigint(int i, const char *name) const;
    int integer(int i, const char *name) const;
    double number(int i, const char *name) const;
    bool boolean(int i, const char *name) const;
    std::string string(int i, const char *name) const;
    double seconds(int i, const char *name) const; // of an interval that is finite and not negative

    // An error when it is longer than kLongestText.
    std::optional<std::string> optional_text(int i, const char *name) const;
    // Seconds of an interval. With a name, an error when it is infinite or negative.
    std::optional<double> optional_seconds(int i, const char *name = nullptr) const;
    std::optional<std::vector<Oid>> optional_oids(int i) const;
    // Elements of an array of texts, NULL or not, in order. Raises when the array is NULL, or longer than
    // kLongestText as a whole.
    std::vector<std::optional<std::string>> texts(int i, const char *name) const;

private:
    void require(int i, const char *name) const;
    FunctionCallInfoBaseData *fcinfo_;
};

} // namespace partbackfill::pg
