#include <gtest/gtest.h>

#include "partbackfill/core/backoff.hpp"

namespace partbackfill::core {
namespace {

using namespace std::chrono_literals;

TEST(Backoff, DoublesUpToTheCap) {
    EXPECT_EQ(backoff(0, 0, 200ms, 5s), 100ms);
    EXPECT_EQ(backoff(1, 0, 200ms, 5s), 200ms);
    EXPECT_EQ(backoff(2, 0, 200ms, 5s), 400ms);
    EXPECT_EQ(backoff(10, 0, 200ms, 5s), 2500ms);
}

TEST(Backoff, JitterTakesUpToTheOtherHalf) {
    EXPECT_EQ(backoff(0, 0.5, 200ms, 5s), 150ms);
    EXPECT_EQ(backoff(0, 1, 200ms, 5s), 200ms);
    for (double jitter = 0; jitter <= 1; jitter += 0.1) {
        EXPECT_GE(backoff(3, jitter, 200ms, 5s), 800ms);
        EXPECT_LE(backoff(3, jitter, 200ms, 5s), 1600ms);
    }
}

TEST(Backoff, StandsWhatIsOutOfRange) {
    EXPECT_EQ(backoff(-5, 0, 200ms, 5s), 100ms);
    EXPECT_EQ(backoff(1000000, 0, 200ms, 5s), 2500ms);
    EXPECT_EQ(backoff(0, 7, 200ms, 5s), 200ms);
    EXPECT_EQ(backoff(0, 0, 0ms, 5s), 0ms);
}

TEST(Backoff, PausesAfterACrashGrow) {
    EXPECT_EQ(crash_pause(30s, 1), 30s);
    EXPECT_EQ(crash_pause(30s, 2), 60s);
    EXPECT_EQ(crash_pause(30s, 0), 30s);
}

} // namespace
} // namespace partbackfill::core
