#include <gtest/gtest.h>

#include "partbackfill/core/json.hpp"

namespace {

using partbackfill::core::json_string;

TEST(Json, EscapesWhatAStringDoesNotTake) {
    EXPECT_EQ(json_string(""), R"("")");
    EXPECT_EQ(json_string(R"(public."odd \ name")"), R"("public.\"odd \\ name\"")");
    EXPECT_EQ(json_string("a\nb\x01"), R"("a\u000ab\u0001")");
    EXPECT_EQ(json_string("größe"), "\"größe\"");
}

} // namespace
