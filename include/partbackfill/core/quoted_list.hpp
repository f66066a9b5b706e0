// Names as an error lists them.
#pragma once

#include <string>
#include <vector>

namespace partbackfill::core {

// "a"; "a" and "b"; "a", "b" and "c". Empty for no names.
std::string quoted_list(const std::vector<std::string> &names);

} // namespace partbackfill::core
