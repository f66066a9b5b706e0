#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

void raise(int code, std::string message, std::string detail, std::string hint) {
    ErrorFields fields;
    fields.code = code;
    fields.message = std::move(message);
    fields.detail = std::move(detail);
    fields.hint = std::move(hint);
    throw Error(std::move(fields));
}

std::string error_text(const ErrorFields &error) {
    std::string text = error.message;
    if (!error.detail.empty())
        text += "\nDetail: " + error.detail;
    if (!error.hint.empty())
        text += "\nHint: " + error.hint;
    if (!error.context.empty())
        text += "\nContext: " + error.context;
    return text;
}

std::string sqlstate_text(int code) {
    std::string text(5, '0');
    for (int i = 0; i < 5; i++)
        text[static_cast<size_t>(i)] = static_cast<char>(((code >> (6 * i)) & 0x3F) + '0');
    return text;
}

} // namespace partbackfill::pg
