#include "partbackfill/swap/method.hpp"

#include <fmt/format.h>

#include "partbackfill/core/quoted_list.hpp"

namespace partbackfill::swap {

namespace {

const SwapMethod *find_method(const std::string &name) {
    for (const SwapMethod *method : swap_methods())
        if (name == method->name)
            return method;
    return nullptr;
}

[[noreturn]] void raise_unknown(const std::string &name) {
    std::vector<std::string> names{kAnyMethod};
    for (const SwapMethod *method : swap_methods())
        names.emplace_back(method->name);
    pg::raise(pg::sqlcode::kInvalidParameter, fmt::format("invalid value for swap: \"{}\"", name), "",
              fmt::format("Valid values are {}.", core::quoted_list(names)));
}

} // namespace

const std::vector<const SwapMethod *> &swap_methods() {
    static const std::vector<const SwapMethod *> methods{&kAttach, &kStorage};
    return methods;
}

const SwapMethod &swap_method(const std::string &name) {
    if (const SwapMethod *method = find_method(name))
        return *method;
    raise_unknown(name);
}

const std::string &checked_method(const std::string &name) {
    if (name != kAnyMethod && find_method(name) == nullptr)
        raise_unknown(name);
    return name;
}

} // namespace partbackfill::swap
