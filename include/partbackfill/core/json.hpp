// Text as a JSON string.
#pragma once

#include <string>
#include <string_view>

namespace partbackfill::core {

// The text in quotes, with what JSON does not take in a string escaped. The text's encoding
// does not matter.
std::string json_string(std::string_view text);

} // namespace partbackfill::core
