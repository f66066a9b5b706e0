// Text as a JSON string.
#pragma once

#include <string>
#include <string_view>

namespace partbackfill::core {

// In quotes, with what JSON does not take in a string escaped. UTF-8, or whatever
// the text is in, stays as it is.
std::string json_string(std::string_view text);

} // namespace partbackfill::core
