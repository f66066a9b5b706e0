// Which servers of a major version a library that was built for one of them can run on. Pure: the unit tests
// include it without the server's headers. docs/compatibility.md says what changed.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace partbackfill::pg {

struct ServerVersion {
    int number;            // as PG_VERSION_NUM: 150020
    std::string_view text; // as PG_VERSION: "15.20 (Debian 15.20-0+deb12u1)"
};

// Since these releases headers call a function that earlier servers do not have (heap_datum_check).
inline constexpr std::array kNeededSince{150020, 160016, 170012, 180007};

// In these releases, withdrawn a week later, ResultRelInfo was larger than before and after: the server
// clears more memory than a library of another release has reserved.
inline constexpr std::array kLargerResultRelInfo{150009, 160005, 170001};

// The part of the text that the server's authors gave: "19rc1".
constexpr std::string_view release(const ServerVersion &version) {
    return version.text.substr(0, version.text.find(' '));
}

// Development versions, betas and release candidates, between which anything may change.
constexpr bool is_preliminary(const ServerVersion &version) {
    return release(version).find_first_not_of("0123456789.") != std::string_view::npos;
}

// Whether a library that was built for one release of a major version works in another release of it, as far
// as is known. The server itself refuses another major version.
constexpr bool runs_on(const ServerVersion &built_for, const ServerVersion &running) {
    if (is_preliminary(built_for) || is_preliminary(running))
        return release(built_for) == release(running);
    if (built_for.number == running.number)
        return true;
    const auto lacks_function = [&](int since) {
        return since / 10000 == running.number / 10000 && built_for.number >= since && running.number < since;
    };
    return std::ranges::none_of(kNeededSince, lacks_function) &&
           std::ranges::find(kLargerResultRelInfo, running.number) == kLargerResultRelInfo.end();
}

} // namespace partbackfill::pg
