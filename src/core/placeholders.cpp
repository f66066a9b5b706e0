#include "partbackfill/core/placeholders.hpp"

namespace partbackfill::core {

std::string fill_placeholders(std::string_view text, const Placeholders &values) {
    std::string filled;
    std::size_t from = 0;
    for (;;) {
        const std::size_t open = text.find('{', from);
        filled += text.substr(from, open - from);
        if (open == std::string_view::npos)
            return filled;
        const std::size_t close = text.find('}', open);
        const auto value = close != std::string_view::npos
                               ? values.find(text.substr(open + 1, close - open - 1))
                               : values.end();
        if (value != values.end())
            filled += value->second;
        else
            filled += '{';
        from = value != values.end() ? close + 1 : open + 1;
    }
}

} // namespace partbackfill::core
