#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

void raise(int code, std::string message, std::string detail, std::string hint) {
    throw Error({code, std::move(message), std::move(detail), std::move(hint), {}});
}

std::string sqlstate_text(int code) {
    std::string text(5, '0');
    for (int i = 0; i < 5; i++)
        text[static_cast<size_t>(i)] = static_cast<char>(((code >> (6 * i)) & 0x3F) + '0');
    return text;
}

} // namespace partbackfill::pg
