#include <gtest/gtest.h>

#include "partbackfill/core/throttle.hpp"

namespace {

using namespace partbackfill::core;

// A clock that stands still until it is moved.
struct Clock {
    TimePoint now{};
    void advance(double seconds) { now += std::chrono::duration_cast<TimePoint::duration>(Seconds(seconds)); }
};

TEST(TokenBucket, DebtIsWhatWasSpentTooMuch) {
    Clock clock;
    TokenBucket bucket(clock.now);
    bucket.set_rate(100, clock.now);
    bucket.spend(50, clock.now);
    EXPECT_NEAR(bucket.debt(clock.now).count(), 0.5, 1e-9);
    clock.advance(0.2);
    EXPECT_NEAR(bucket.debt(clock.now).count(), 0.3, 1e-9);
    clock.advance(0.3);
    EXPECT_NEAR(bucket.debt(clock.now).count(), 0, 1e-9);
}

TEST(TokenBucket, AnIdleTimeGivesNoBurst) {
    Clock clock;
    TokenBucket bucket(clock.now);
    bucket.set_rate(100, clock.now);
    clock.advance(60);
    EXPECT_EQ(bucket.debt(clock.now).count(), 0);
    bucket.spend(150, clock.now);
    EXPECT_NEAR(bucket.debt(clock.now).count(), 1.0, 1e-9);
}

TEST(TokenBucket, ALongStepBelowTheRateOwesNothing) {
    Clock clock;
    TokenBucket bucket(clock.now);
    bucket.set_rate(100, clock.now);
    for (int i = 0; i < 10; i++) {
        clock.advance(10);
        bucket.spend(900, clock.now);
        EXPECT_EQ(bucket.debt(clock.now).count(), 0);
    }
    clock.advance(10);
    bucket.spend(1150, clock.now); // half a second is saved
    EXPECT_NEAR(bucket.debt(clock.now).count(), 1.0, 1e-9);
}

TEST(TokenBucket, KeepsTheRateWhateverTheStepsAre) {
    Clock clock;
    TokenBucket bucket(clock.now);
    bucket.set_rate(8, clock.now);
    double spent = 0;
    for (int i = 0; i < 1000; i++) {
        clock.advance(0.001 * (i % 7));
        bucket.spend(i % 5, clock.now);
        spent += i % 5;
        clock.advance(bucket.debt(clock.now).count());
    }
    EXPECT_NEAR(spent / Seconds(clock.now - TimePoint{}).count(), 8, 0.1);
}

TEST(TokenBucket, ANewRateHoldsForTheDebt) {
    Clock clock;
    TokenBucket bucket(clock.now);
    bucket.set_rate(10, clock.now);
    bucket.spend(100, clock.now);
    bucket.set_rate(100, clock.now);
    EXPECT_NEAR(bucket.debt(clock.now).count(), 1, 1e-9);
    bucket.set_rate(0, clock.now);
    EXPECT_EQ(bucket.debt(clock.now).count(), 0);
    bucket.spend(1000, clock.now); // without a limit nothing is owed, later either
    bucket.set_rate(10, clock.now);
    EXPECT_EQ(bucket.debt(clock.now).count(), 0);
}

TEST(NiceRatio, SleepsInProportion) {
    NiceRatio nice;
    nice.worked(Seconds(10));
    EXPECT_EQ(nice.owed().count(), 0);
    nice.set(4);
    nice.worked(Seconds(0.5));
    EXPECT_NEAR(nice.owed().count(), 2, 1e-9);
    nice.slept(Seconds(1.5));
    EXPECT_NEAR(nice.owed().count(), 0.5, 1e-9);
    nice.slept(Seconds(100)); // slept for another reason: no credit
    EXPECT_NEAR(nice.owed().count(), 0, 0.0101);
    nice.worked(Seconds(1));
    nice.set(0);
    EXPECT_EQ(nice.owed().count(), 0);
    nice.slept(Seconds(1));
    EXPECT_EQ(nice.owed().count(), 0);
}

TEST(NiceRatio, MakesUpForLateWakeUps) {
    NiceRatio nice;
    nice.set(1);
    double worked = 0;
    double slept = 0;
    for (int i = 0; i < 1000; i++) {
        nice.worked(Seconds(0.002));
        worked += 0.002;
        if (nice.owed() < Seconds(0.002))
            continue;
        const Seconds took = nice.owed() + Seconds(0.001);
        nice.slept(took);
        slept += took.count();
    }
    EXPECT_NEAR(slept / worked, 1, 0.01);
}

TEST(NiceRatio, ALowerRatioHoldsForWhatIsOwed) {
    NiceRatio nice;
    nice.set(100);
    nice.worked(Seconds(1));
    nice.set(1);
    EXPECT_NEAR(nice.owed().count(), 1, 1e-9);
    nice.set(100);
    EXPECT_NEAR(nice.owed().count(), 1, 1e-9);
}

TEST(NiceRatio, InterruptsWorkOnlyForSomeTime) {
    NiceRatio nice;
    nice.set(4);
    nice.worked(Seconds(0.12));
    EXPECT_FALSE(nice.is_due());
    nice.worked(Seconds(0.01));
    EXPECT_TRUE(nice.is_due());
    nice.slept(nice.owed());
    EXPECT_FALSE(nice.is_due());
}

TEST(Hysteresis, HoldsUntilItStaysClear) {
    Clock clock;
    Hysteresis signal;
    EXPECT_FALSE(signal.update(false, clock.now));
    EXPECT_TRUE(signal.update(true, clock.now));
    clock.advance(4.9);
    EXPECT_TRUE(signal.update(false, clock.now));
    EXPECT_NEAR(signal.clear_for(clock.now).count(), 4.9, 1e-6);
    EXPECT_TRUE(signal.update(true, clock.now)); // back again: counted anew
    clock.advance(4.9);
    EXPECT_TRUE(signal.update(false, clock.now));
    clock.advance(0.2);
    EXPECT_FALSE(signal.update(false, clock.now));
    EXPECT_FALSE(signal.update(false, clock.now));
}

TEST(Hysteresis, IsForgottenWithItsSetting) {
    Clock clock;
    Hysteresis signal;
    EXPECT_TRUE(signal.update(true, clock.now));
    signal.reset();
    EXPECT_FALSE(signal.update(false, clock.now));
}

TEST(RecentRate, FollowsTheLastSeconds) {
    RecentRate rate;
    EXPECT_EQ(rate.per_second(), 0);
    for (int i = 0; i < 100; i++)
        rate.add(10, Seconds(1));
    EXPECT_NEAR(rate.per_second(), 10, 1e-6);
    for (int i = 0; i < 30; i++)
        rate.add(100, Seconds(1));
    EXPECT_NEAR(rate.per_second(), 100, 5);
}

} // namespace
