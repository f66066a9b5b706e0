#include "partbackfill/swap/method.hpp"

#include <fmt/format.h>

#include "partbackfill/core/quoted_list.hpp"

namespace partbackfill::swap {

const std::vector<const SwapMethod *> &swap_methods() {
    static const std::vector<const SwapMethod *> methods{&kAttach, &kStorage};
    return methods;
}

const SwapMethod &swap_method(const std::string &name) {
    std::vector<std::string> names;
    for (const SwapMethod *method : swap_methods()) {
        if (name == method->name)
            return *method;
        names.emplace_back(method->name);
    }
    pg::raise(pg::sqlcode::kInvalidParameter, fmt::format("invalid value for swap: \"{}\"", name), "",
              fmt::format("Valid values are {}.", core::quoted_list(names)));
}

} // namespace partbackfill::swap
