#include <gtest/gtest.h>

#include "partbackfill/pg/server_versions.hpp"

namespace {

using partbackfill::pg::runs_on;
using partbackfill::pg::ServerVersion;

constexpr ServerVersion k15_8{150008, "15.8"};
constexpr ServerVersion k15_9{150009, "15.9"};
constexpr ServerVersion k15_10{150010, "15.10"};
constexpr ServerVersion k15_18{150018, "15.18 (Debian 15.18-0+deb12u1)"};
constexpr ServerVersion k15_20{150020, "15.20 (Debian 15.20-0+deb12u1)"};
constexpr ServerVersion k15_21{150021, "15.21"};

TEST(ServerVersions, TheOneItWasBuiltForWillDo) {
    for (const ServerVersion &version : {k15_8, k15_9, k15_18, k15_20})
        EXPECT_TRUE(runs_on(version, version)) << version.text;
    EXPECT_TRUE(runs_on({150020, "15.20"}, k15_20)); // a packager's mark
}

TEST(ServerVersions, MostMinorReleasesAreAlike) {
    EXPECT_TRUE(runs_on(k15_8, k15_18));
    EXPECT_TRUE(runs_on(k15_18, k15_8));
    EXPECT_TRUE(runs_on({190000, "19.0"}, {190003, "19.3"}));
}

TEST(ServerVersions, HeadersThatCallWhatEarlierServersLack) {
    EXPECT_FALSE(runs_on(k15_20, k15_18));
    EXPECT_FALSE(runs_on(k15_21, k15_18));
    EXPECT_TRUE(runs_on(k15_20, k15_21));
    EXPECT_TRUE(runs_on(k15_21, k15_20));
    EXPECT_FALSE(runs_on({160016, "16.16"}, {160015, "16.15"}));
    EXPECT_FALSE(runs_on({170012, "17.12"}, {170011, "17.11"}));
    EXPECT_FALSE(runs_on({180007, "18.7"}, {180006, "18.6"}));
}

TEST(ServerVersions, EarlierLibrariesRunOnLaterServers) {
    EXPECT_TRUE(runs_on(k15_18, k15_20));
    EXPECT_TRUE(runs_on({180006, "18.6"}, {180007, "18.7"}));
}

TEST(ServerVersions, WithdrawnReleasesNeedTheirOwn) {
    EXPECT_FALSE(runs_on(k15_8, k15_9));
    EXPECT_FALSE(runs_on(k15_10, k15_9));
    EXPECT_TRUE(runs_on(k15_9, k15_10));
    EXPECT_FALSE(runs_on({170000, "17.0"}, {170001, "17.1"}));
}

TEST(ServerVersions, PreliminaryOnesNeedTheirOwn) {
    EXPECT_TRUE(runs_on({190000, "19rc1 (Debian 19~rc1-1)"}, {190000, "19rc1"}));
    EXPECT_FALSE(runs_on({190000, "19beta2"}, {190000, "19rc1"}));
    EXPECT_FALSE(runs_on({190000, "19rc1"}, {190000, "19.0"}));
    EXPECT_FALSE(runs_on({190000, "19.0"}, {190000, "19rc1"}));
    EXPECT_FALSE(runs_on({190000, "19devel"}, {190001, "19.1"}));
}

} // namespace
