#include <gtest/gtest.h>

#include "partbackfill/core/placeholders.hpp"

namespace {

using partbackfill::core::fill_placeholders;
using partbackfill::core::Placeholders;

const Placeholders kValues{{"shadow", "new.t"}, {"live", "old.t"}, {"range_start", "NULL"}};

TEST(FillPlaceholders, ReplacesEachKnownName) {
    EXPECT_EQ(fill_placeholders("{shadow}", kValues), "new.t");
    EXPECT_EQ(fill_placeholders("SELECT FROM {live} EXCEPT SELECT FROM {shadow}, {live}", kValues),
              "SELECT FROM old.t EXCEPT SELECT FROM new.t, old.t");
    EXPECT_EQ(fill_placeholders("{live}{live}", kValues), "old.told.t");
}

TEST(FillPlaceholders, LeavesAllOtherBraces) {
    for (const char *text : {"", "no brace", "{", "}", "{}", "{{}}", "{other}", "{ live }", "{LIVE}",
                             R"({"a": {"b": [1]}})", "'{1,2}'::int[]", "{live", "live}", "x{3,4}y"})
        EXPECT_EQ(fill_placeholders(text, kValues), text);
}

TEST(FillPlaceholders, FindsANameWithinOtherBraces) {
    EXPECT_EQ(fill_placeholders("{{live}}", kValues), "{old.t}");
    EXPECT_EQ(fill_placeholders(R"({"a": {live}})", kValues), R"({"a": old.t})");
    EXPECT_EQ(fill_placeholders("{x{live}", kValues), "{xold.t");
}

TEST(FillPlaceholders, DoesNotLookAtWhatWasPutIn) {
    EXPECT_EQ(fill_placeholders("{a}{b}", {{"a", "{b}"}, {"b", "{a}"}}), "{b}{a}");
}

} // namespace
