#include <gtest/gtest.h>

#include <string>

#include "partbackfill/core/processor_times.hpp"

namespace {

using partbackfill::core::idle_processors;
using partbackfill::core::parse_processor_times;

constexpr const char *kStat = "cpu  100 20 30 400 50 6 7 8 90 10\n"
                              "cpu0 50 10 15 200 25 3 4 4 45 5\n"
                              "cpu1 50 10 15 200 25 3 3 4 45 5\n"
                              "intr 12345 0 0\n"
                              "ctxt 12\n";

TEST(ProcessorTimes, AreReadFromTheFirstLine) {
    const auto times = parse_processor_times(kStat);
    ASSERT_TRUE(times);
    EXPECT_EQ(times->idle, 450);
    EXPECT_EQ(times->total, 621);
    EXPECT_EQ(times->processors, 2);
}

TEST(ProcessorTimes, AreNothingForAnotherText) {
    for (const char *text : {"", "cpu", "cpu ", "cpu  1 2 3", "cpu  1 2 3 4 5 6 7 8\n",
                             "cpu  1 2 3 4 5 x 7 8\ncpu0 1\n", "intr 1\ncpu  1 2 3 4 5 6 7 8\ncpu0 1\n"})
        EXPECT_FALSE(parse_processor_times(text)) << text;
}

TEST(ProcessorTimes, TellHowManyProcessorsWereIdle) {
    const auto before = *parse_processor_times(kStat);
    auto after = before;
    EXPECT_FALSE(idle_processors(before, after));
    after.total += 5;
    EXPECT_FALSE(idle_processors(before, after)) << "too little time";
    after.total += 35;
    EXPECT_EQ(idle_processors(before, after), 0);
    after.idle += 20;
    EXPECT_EQ(idle_processors(before, after), 1);
    after.idle += 20;
    EXPECT_EQ(idle_processors(before, after), 2);
}

} // namespace
