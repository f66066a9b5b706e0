#include "partbackfill/core/version.hpp"

#include <charconv>

namespace partbackfill::core {

namespace {

// Takes the first number off the text.
int take_number(std::string_view &text) {
    int number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    const auto dot = text.find('.');
    text.remove_prefix(dot == std::string_view::npos ? text.size() : dot + 1);
    return number;
}

} // namespace

bool precedes(std::string_view a, std::string_view b) {
    while (!a.empty() || !b.empty()) {
        const int of_a = take_number(a);
        const int of_b = take_number(b);
        if (of_a != of_b)
            return of_a < of_b;
    }
    return false;
}

} // namespace partbackfill::core
