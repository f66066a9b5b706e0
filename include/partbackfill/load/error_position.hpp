// Errors in what a caller wrote show where in it.
#pragma once

#include <string>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::load {

// The character, counted from 1, that begins at that byte of the text; 0 for a byte that
// is not in the text, as the parser's -1.
int character_at(const std::string &text, int byte);

// The error with its position as one in `text`, when it was found in `text` itself, or in a
// statement that contains `text`.
pg::ErrorFields with_position_in(const std::string &text, pg::ErrorFields error);

// An error at that character of the text that the caller of the step shows (below); 0 is
// nowhere.
[[noreturn]] void raise_at(int position, int code, std::string message, std::string detail = {},
                           std::string hint = {});

// Runs a step that parses `text`, or statements that contain it.
template <class F>
auto showing_position_in(const std::string &text, F &&step) {
    try {
        return step();
    } catch (const pg::Error &error) {
        throw pg::Error(with_position_in(text, error.fields()));
    }
}

} // namespace partbackfill::load
