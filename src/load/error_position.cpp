#include "partbackfill/pg/server.hpp"

extern "C" {
#include "mb/pg_wchar.h"
}

#include "partbackfill/load/error_position.hpp"
#include "partbackfill/pg/guard.hpp"

namespace partbackfill::load {

namespace {

int characters(const std::string &text) {
    return pg::guard([&] { return pg_mbstrlen_with_len(text.data(), static_cast<int>(text.size())); });
}

} // namespace

int character_at(const std::string &text, int byte) {
    if (byte < 0 || static_cast<size_t>(byte) > text.size())
        return 0;
    return characters(text.substr(0, static_cast<size_t>(byte))) + 1;
}

pg::ErrorFields with_position_in(const std::string &text, pg::ErrorFields error) {
    if (error.position > 0 && error.internal_query.empty()) {
        error.internal_position = error.position;
        error.internal_query = text;
        return error;
    }
    const size_t start = error.internal_query.find(text);
    if (text.empty() || error.internal_position <= 0 || start == std::string::npos)
        return error;
    const int position = error.internal_position - characters(error.internal_query.substr(0, start));
    if (position < 1 || position > characters(text) + 1)
        return error;
    error.internal_position = position;
    error.internal_query = text;
    return error;
}

void raise_at(int position, int code, std::string message, std::string detail, std::string hint) {
    pg::ErrorFields error;
    error.code = code;
    error.message = std::move(message);
    error.detail = std::move(detail);
    error.hint = std::move(hint);
    error.position = position;
    throw pg::Error(std::move(error));
}

} // namespace partbackfill::load
