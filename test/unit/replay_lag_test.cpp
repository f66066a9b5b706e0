#include <gtest/gtest.h>

#include "partbackfill/core/replay_lag.hpp"

namespace {

using partbackfill::core::ReplayLag;

ReplayLag::TimePoint at(double seconds) {
    return ReplayLag::TimePoint{} +
           std::chrono::duration_cast<ReplayLag::TimePoint::duration>(ReplayLag::Seconds(seconds));
}

TEST(ReplayLag, IsTheAgeOfWhatIsLacking) {
    ReplayLag lag;
    EXPECT_EQ(lag.behind(0, at(0)).count(), 0);
    lag.written(100, at(0));
    lag.written(200, at(1));
    lag.written(300, at(2));
    EXPECT_NEAR(lag.behind(100, at(5)).count(), 4, 1e-6); // lacks what was there at 1
    EXPECT_NEAR(lag.behind(250, at(5)).count(), 3, 1e-6);
    EXPECT_EQ(lag.behind(300, at(5)).count(), 0);
    EXPECT_TRUE(lag.older_than_known(99));
    EXPECT_FALSE(lag.older_than_known(100));
}

TEST(ReplayLag, GrowsWhileNothingIsWrittenNorReplayed) {
    ReplayLag lag;
    lag.written(100, at(0));
    lag.written(100, at(50));
    EXPECT_NEAR(lag.behind(50, at(60)).count(), 60, 1e-6);
}

TEST(ReplayLag, AWeekOfLooksStaysSmallAndNearlyRight) {
    ReplayLag lag;
    for (int i = 0; i < 600000; i++)
        lag.written(static_cast<std::uint64_t>(i) + 1, at(i));
    EXPECT_NEAR(lag.behind(0, at(600000)).count(), 600000, 1);
    EXPECT_NEAR(lag.behind(599990, at(600000)).count(), 10, 4);
}

} // namespace
