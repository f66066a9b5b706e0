#include <gtest/gtest.h>

#include "partbackfill/core/catch_up_pace.hpp"

namespace {

using partbackfill::core::CatchUpPace;

CatchUpPace::TimePoint at(double seconds) {
    return CatchUpPace::TimePoint{} +
           std::chrono::duration_cast<CatchUpPace::TimePoint::duration>(CatchUpPace::Seconds(seconds));
}

double left(const CatchUpPace &pace, double now) {
    const auto time = pace.time_left(at(now));
    return time ? time->count() : -1;
}

TEST(CatchUpPace, KnowsNoTimeBeforeAKeyIsDone) {
    CatchUpPace pace;
    pace.begin_pass(1000, at(10));
    EXPECT_EQ(left(pace, 12), -1);
    EXPECT_EQ(pace.text(), "1,000 keys behind");
    EXPECT_FALSE(pace.is_too_slow());
}

TEST(CatchUpPace, TakesTheTimeOfTheKeysThatAreLeft) {
    CatchUpPace pace;
    pace.begin_pass(1000, at(10));
    pace.add_done(200);
    EXPECT_EQ(pace.behind(), 800);
    EXPECT_NEAR(left(pace, 12), 8, 1e-6); // 100 keys a second
}

TEST(CatchUpPace, CountsWhatWritersAddMeanwhile) {
    CatchUpPace pace;
    pace.begin_pass(1000, at(0));
    pace.add_done(1000);
    pace.begin_pass(500, at(10)); // 50 keys a second in, 100 out
    EXPECT_EQ(pace.text(), "500 keys behind, 50 keys/s in, 100 keys/s out");
    EXPECT_NEAR(left(pace, 10), 10, 1e-6);
    pace.add_done(100);
    EXPECT_NEAR(left(pace, 11), (400 + 50) / 50.0, 1e-6);
    EXPECT_FALSE(pace.is_too_slow());
}

TEST(CatchUpPace, HasNoEndWhenWritersAreFaster) {
    CatchUpPace pace;
    pace.begin_pass(1000, at(0));
    pace.add_done(1000);
    pace.begin_pass(1200, at(10));
    EXPECT_TRUE(pace.is_too_slow());
    EXPECT_EQ(left(pace, 10), -1);
    EXPECT_EQ(pace.text(), "1,200 keys behind, 120 keys/s in, 100 keys/s out");
}

TEST(CatchUpPace, IsTooSlowUnlessPassesShrink) {
    CatchUpPace pace;
    pace.begin_pass(1000, at(0));
    pace.add_done(1000);
    pace.begin_pass(899, at(10));
    EXPECT_FALSE(pace.is_too_slow());
    pace.add_done(899);
    pace.begin_pass(850, at(20));
    EXPECT_TRUE(pace.is_too_slow());
    pace.add_done(850);
    pace.begin_pass(0, at(30));
    EXPECT_FALSE(pace.is_too_slow());
    pace.begin_pass(10, at(31)); // after none, the first again
    EXPECT_FALSE(pace.is_too_slow());
}

TEST(CatchUpPace, IsNeverLessThanNothingBehind) {
    CatchUpPace pace;
    pace.begin_pass(10, at(0));
    pace.add_done(12);
    EXPECT_EQ(pace.behind(), 0);
    EXPECT_EQ(left(pace, 1), 0);
}

} // namespace
