#include <gtest/gtest.h>

#include "partbackfill/core/version.hpp"

namespace {

using partbackfill::core::precedes;

TEST(Version, NumbersAreCompared) {
    EXPECT_TRUE(precedes("1.0", "1.1"));
    EXPECT_FALSE(precedes("1.1", "1.0"));
    EXPECT_TRUE(precedes("1.9", "1.10"));
    EXPECT_TRUE(precedes("1.10", "2.0"));
    EXPECT_FALSE(precedes("1.1", "1.1"));
}

TEST(Version, WhatIsMissingIsZero) {
    EXPECT_FALSE(precedes("1", "1.0"));
    EXPECT_FALSE(precedes("1.0", "1"));
    EXPECT_TRUE(precedes("1", "1.0.1"));
    EXPECT_TRUE(precedes("", "1"));
    EXPECT_TRUE(precedes("unpackaged", "0.1"));
}

} // namespace
