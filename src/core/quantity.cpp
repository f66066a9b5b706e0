#include "partbackfill/core/quantity.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace partbackfill::core {

namespace {

constexpr std::array<const char *, 5> kUnits{"B", "kB", "MB", "GB", "TB"};
constexpr double kStep = 1024;

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\n");
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

bool same_letters(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](char x, char y) { return lower(x) == lower(y); });
}

// The number at the start of a text, and the text after it.
struct Split {
    double number;
    std::string_view rest;
};

std::optional<Split> split(std::string_view text) {
    const std::string_view all = trimmed(text);
    double number = 0;
    const auto [end, error] =
        std::from_chars(all.data(), all.data() + all.size(), number, std::chars_format::fixed);
    if (error != std::errc() || !std::isfinite(number) || std::signbit(number))
        return std::nullopt;
    return Split{number, trimmed(all.substr(static_cast<size_t>(end - all.data())))};
}

std::string rounded(double number, const char *unit) {
    if (number < 9.95 && std::abs(number - std::round(number)) >= 0.05)
        return fmt::format("{:.1f} {}", number, unit);
    return fmt::format("{:.0f} {}", number, unit);
}

} // namespace

std::optional<std::int64_t> parse_bytes(std::string_view text) {
    const auto found = split(text);
    if (!found)
        return std::nullopt;
    double bytes = found->number;
    if (!found->rest.empty()) {
        const auto unit = std::find_if(kUnits.begin(), kUnits.end(),
                                       [&](const char *name) { return same_letters(found->rest, name); });
        if (unit == kUnits.end())
            return std::nullopt;
        bytes *= std::pow(kStep, static_cast<double>(unit - kUnits.begin()));
    }
    constexpr double kMost = 9.2e18; // int64_t ends there
    if (bytes > kMost)
        return std::nullopt;
    return static_cast<std::int64_t>(std::ceil(bytes));
}

std::optional<DiskReserve> parse_disk_reserve(std::string_view text) {
    const auto found = split(text);
    if (found && found->rest == "%") {
        if (found->number > 100)
            return std::nullopt;
        return DiskReserve{found->number / 100, 0};
    }
    const auto bytes = parse_bytes(text);
    if (!bytes)
        return std::nullopt;
    return DiskReserve{0, *bytes};
}

std::string format_bytes(double bytes) {
    size_t unit = 0;
    while (unit + 1 < kUnits.size() && bytes >= kStep - 0.5) {
        bytes /= kStep;
        unit++;
    }
    return rounded(bytes, kUnits.at(unit));
}

std::string format_count(std::int64_t count) {
    std::string digits = fmt::format("{}", count);
    const size_t first = digits.starts_with('-') ? 1 : 0;
    for (size_t place = digits.size(); place > first + 3;) {
        place -= 3;
        digits.insert(place, 1, ',');
    }
    return digits;
}

std::string format_seconds(std::chrono::duration<double> seconds) {
    return rounded(seconds.count(), "s");
}

} // namespace partbackfill::core
