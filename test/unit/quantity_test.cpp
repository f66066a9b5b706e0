#include <gtest/gtest.h>

#include "partbackfill/core/quantity.hpp"

namespace {

using namespace partbackfill::core;
using std::chrono::duration;

TEST(Quantity, SizesWithPostgresUnits) {
    EXPECT_EQ(parse_bytes("16MB"), 16 * 1024 * 1024);
    EXPECT_EQ(parse_bytes(" 1.5 GB "), 1536LL * 1024 * 1024);
    EXPECT_EQ(parse_bytes("8kB"), 8192);
    EXPECT_EQ(parse_bytes("8kb"), 8192);
    EXPECT_EQ(parse_bytes("1TB"), 1LL << 40);
    EXPECT_EQ(parse_bytes("100"), 100);
    EXPECT_EQ(parse_bytes("100B"), 100);
    EXPECT_EQ(parse_bytes("0"), 0);
}

TEST(Quantity, WhatIsNoSize) {
    for (const char *text :
         {"", " ", "MB", "-1MB", "-0", "16 M B", "16MiB", "5%", "1e3", "inf", "nan", "9999999999TB", "1,5MB"})
        EXPECT_FALSE(parse_bytes(text)) << text;
}

TEST(Quantity, RoomIsASizeOrAShare) {
    EXPECT_DOUBLE_EQ(parse_disk_reserve("5%")->of(200), 10);
    EXPECT_DOUBLE_EQ(parse_disk_reserve("0.5 %")->of(200), 1);
    EXPECT_DOUBLE_EQ(parse_disk_reserve("20GB")->of(200), 20.0 * (1 << 30));
    EXPECT_FALSE(parse_disk_reserve("0")->wanted());
    EXPECT_FALSE(parse_disk_reserve("0%")->wanted());
    EXPECT_TRUE(parse_disk_reserve("100%")->wanted());
    EXPECT_FALSE(parse_disk_reserve("101%"));
    EXPECT_FALSE(parse_disk_reserve("%"));
    EXPECT_FALSE(parse_disk_reserve("many"));
}

TEST(Quantity, WritesCounts) {
    EXPECT_EQ(format_count(0), "0");
    EXPECT_EQ(format_count(999), "999");
    EXPECT_EQ(format_count(1000), "1,000");
    EXPECT_EQ(format_count(-12345678), "-12,345,678");
}

TEST(Quantity, FiguresForPeople) {
    EXPECT_EQ(format_bytes(0), "0 B");
    EXPECT_EQ(format_bytes(1023.9), "1 kB");
    EXPECT_EQ(format_bytes(8.0 * 1024 * 1024), "8 MB");
    EXPECT_EQ(format_bytes(1.5 * 1024 * 1024), "1.5 MB");
    EXPECT_EQ(format_bytes(12.4 * 1024 * 1024), "12 MB");
    EXPECT_EQ(format_bytes(9.99 * 1024 * 1024), "10 MB");
    EXPECT_EQ(format_seconds(duration<double>(0.42)), "0.4 s");
    EXPECT_EQ(format_seconds(duration<double>(5)), "5 s");
    EXPECT_EQ(format_seconds(duration<double>(123.4)), "123 s");
}

} // namespace
