#include "partbackfill/core/quoted_list.hpp"

#include <fmt/format.h>

namespace partbackfill::core {

std::string quoted_list(const std::vector<std::string> &names) {
    std::string text;
    for (std::size_t i = 0; i < names.size(); i++) {
        if (i > 0)
            text += i + 1 == names.size() ? " and " : ", ";
        text += fmt::format("\"{}\"", names[i]);
    }
    return text;
}

} // namespace partbackfill::core
