// Versions of the extension.
#pragma once

#include <string_view>

namespace partbackfill::core {

// Whether version a comes before version b: "1.9" before "1.10". What is no number counts as 0.
bool precedes(std::string_view a, std::string_view b);

} // namespace partbackfill::core
