#include <gtest/gtest.h>

#include "partbackfill/core/quoted_list.hpp"

namespace {

using partbackfill::core::quoted_list;

TEST(QuotedList, HasAnAndBeforeTheLastName) {
    EXPECT_EQ(quoted_list({}), "");
    EXPECT_EQ(quoted_list({"a"}), R"("a")");
    EXPECT_EQ(quoted_list({"a", "b"}), R"("a" and "b")");
    EXPECT_EQ(quoted_list({"a", "b", "c"}), R"("a", "b" and "c")");
}

} // namespace
