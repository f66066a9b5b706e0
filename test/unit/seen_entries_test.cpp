#include <gtest/gtest.h>

#include "partbackfill/core/seen_entries.hpp"

namespace partbackfill::core {
namespace {

TEST(SeenEntries, HasWhatWasAddedAndNothingElse) {
    SeenEntries seen;
    EXPECT_FALSE(seen.has(7, 0, 1));
    seen.add(7, {{0, 1}, {0, 64}, {0, 291}, {900, 63}});
    EXPECT_TRUE(seen.has(7, 0, 1));
    EXPECT_TRUE(seen.has(7, 0, 64));
    EXPECT_TRUE(seen.has(7, 0, 291));
    EXPECT_TRUE(seen.has(7, 900, 63));
    for (std::uint16_t offset = 0; offset < 400; offset++) {
        EXPECT_EQ(seen.has(7, 0, offset), offset == 1 || offset == 64 || offset == 291) << offset;
        EXPECT_EQ(seen.has(7, 900, offset), offset == 63) << offset;
        EXPECT_FALSE(seen.has(7, 899, offset)) << offset;
    }
    EXPECT_FALSE(seen.has(7, 901, 63));
    EXPECT_FALSE(seen.has(7, 0xFFFFFFFE, 1));
}

TEST(SeenEntries, KeepsThemApartByFile) {
    SeenEntries seen;
    seen.add(7, {{0, 1}});
    EXPECT_FALSE(seen.has(8, 0, 1));
    seen.add(8, {{0, 2}});
    EXPECT_FALSE(seen.has(7, 0, 1));
    EXPECT_FALSE(seen.has(8, 0, 1));
    EXPECT_TRUE(seen.has(8, 0, 2));
    seen.add(8, {});
    EXPECT_TRUE(seen.has(8, 0, 2));
}

} // namespace
} // namespace partbackfill::core
