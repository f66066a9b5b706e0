// Words in braces in a text that a user wrote: {shadow}, {live}.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace partbackfill::core {

// Values of placeholders by their names, which stand in braces in a text.
using Placeholders = std::map<std::string, std::string, std::less<>>;

// The text with each {name} that is in `values` replaced. All other braces stay as they are, and what
// was put in is not looked at again.
std::string fill_placeholders(std::string_view text, const Placeholders &values);

} // namespace partbackfill::core
