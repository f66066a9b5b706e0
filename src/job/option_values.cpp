#include "partbackfill/job/option_values.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/core/quantity.hpp"
#include "partbackfill/core/quoted_list.hpp"
#include "partbackfill/load/error_position.hpp"
#include "partbackfill/load/statement.hpp"
#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::job {

namespace {

// A century: intervals that are far longer would overflow when they are stored.
constexpr double kLongestLag = 100 * 365.25 * 86400;

constexpr const char *kUnits = "valid units are \"B\", \"kB\", \"MB\", \"GB\" and \"TB\".";

[[noreturn]] void raise_invalid(const std::string &name, const std::string &text, const std::string &hint) {
    pg::raise(pg::sqlcode::kInvalidParameter, fmt::format("invalid value for {}: \"{}\"", name, text), "",
              hint);
}

} // namespace

int checked_count(const std::string &name, int count) {
    if (count < 1)
        pg::raise(pg::sqlcode::kInvalidParameter, fmt::format("{} must be at least 1", name));
    return count;
}

double checked_nice_ratio(double ratio) {
    constexpr double kMost = 1000;
    if (!(ratio >= 0 && ratio <= kMost))
        pg::raise(pg::sqlcode::kInvalidParameter,
                  fmt::format("nice_ratio must be between 0 and {:g}", kMost));
    return ratio;
}

const std::string &checked_choice(const std::string &name, const std::string &value,
                                  const std::vector<std::string> &names) {
    if (std::find(names.begin(), names.end(), value) == names.end())
        raise_invalid(name, value, fmt::format("Valid values are {}.", core::quoted_list(names)));
    return value;
}

std::int64_t parsed_wal_rate(const std::optional<std::string> &text) {
    if (!text || text->empty())
        return 0;
    const auto bytes = core::parse_bytes(*text);
    if (!bytes)
        raise_invalid("max_wal_rate", *text, fmt::format("Give a size such as \"16MB\"; {}", kUnits));
    return *bytes;
}

std::optional<double> checked_replica_lag(std::optional<double> seconds) {
    if (!seconds || *seconds <= 0)
        return std::nullopt;
    return std::min(*seconds, kLongestLag);
}

core::DiskReserve parsed_free_disk(const std::optional<std::string> &text) {
    if (!text || text->empty())
        return {};
    const auto reserve = core::parse_disk_reserve(*text);
    if (!reserve)
        raise_invalid("min_free_disk", *text,
                      fmt::format("Give a size such as \"20GB\" or a percentage such as \"5%\"; {}", kUnits));
    return *reserve;
}

std::optional<std::string> checked_throttle_query(const std::optional<std::string> &text) {
    if (!text || text->empty())
        return std::nullopt;
    const std::string query = load::single_select(*text, "throttle_query");
    const load::ParsedQuery parsed = load::parse_query(query, std::nullopt);
    // A WITH that writes is refused there.
    load::showing_position_in(
        query, [&] { return load::parse_query("SELECT * FROM (" + query + "\n) AS probe", std::nullopt); });
    if (!parsed.temporary.empty())
        pg::raise(pg::sqlcode::kFeatureNotSupported,
                  fmt::format("throttle_query depends on temporary {}", parsed.temporary),
                  "The job's workers cannot see the temporary objects of this session.");
    if (parsed.locks_rows)
        pg::raise(pg::sqlcode::kInvalidParameter, "throttle_query must be a query that only reads",
                  "The throttle_query locks rows with FOR UPDATE or FOR SHARE.");
    const bool usable =
        parsed.columns.size() == 1 &&
        pg::query_row("SELECT typcategory::pg_catalog.text OPERATOR(pg_catalog.=) ANY (ARRAY['B', 'N']) FROM "
                      "pg_catalog.pg_type WHERE oid OPERATOR(pg_catalog.=) $1",
                      {parsed.columns[0].type})
            .boolean(0);
    if (!usable)
        pg::raise(pg::sqlcode::kDatatypeMismatch, "throttle_query must give one column, boolean or numeric",
                  "The job waits while it is true or a number above 0.");
    return query;
}

std::vector<std::string> checked_audits(const std::vector<std::optional<std::string>> &texts) {
    std::vector<std::string> audits;
    audits.reserve(texts.size());
    for (const auto &text : texts) {
        if (!text)
            pg::raise(pg::sqlcode::kInvalidParameter,
                      fmt::format("audit {} must not be null", audits.size() + 1));
        audits.push_back(*text);
    }
    return audits;
}

std::optional<std::string> checked_label(const std::optional<std::string> &text) {
    constexpr std::size_t kLongest = 200;
    if (!text)
        return std::nullopt;
    if (text->empty() || text->size() > kLongest)
        pg::raise(pg::sqlcode::kInvalidParameter,
                  fmt::format("label must have at least one character and at most {} bytes", kLongest));
    const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
    if (std::any_of(text->begin(), text->end(), is_control))
        pg::raise(pg::sqlcode::kInvalidParameter, "label must not have control characters");
    return text;
}

} // namespace partbackfill::job
