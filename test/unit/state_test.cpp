#include <gtest/gtest.h>

#include "partbackfill/core/state.hpp"

namespace partbackfill::core {
namespace {

constexpr JobState kJobStates[] = {JobState::running, JobState::paused,   JobState::ready,   JobState::done,
                                   JobState::failed,  JobState::canceled, JobState::reverted};
constexpr JobEvent kJobEvents[] = {JobEvent::finish, JobEvent::fail,    JobEvent::pause, JobEvent::resume,
                                   JobEvent::retry,  JobEvent::cancel,  JobEvent::built, JobEvent::publish,
                                   JobEvent::revert, JobEvent::reverted};
constexpr PartitionState kPartitionStates[] = {
    PartitionState::pending, PartitionState::running, PartitionState::ready,    PartitionState::done,
    PartitionState::failed,  PartitionState::skipped, PartitionState::canceled, PartitionState::reverted};
constexpr PartitionEvent kPartitionEvents[] = {
    PartitionEvent::claim,   PartitionEvent::built,   PartitionEvent::swapped,  PartitionEvent::defer,
    PartitionEvent::retry,   PartitionEvent::rebuild, PartitionEvent::fail,     PartitionEvent::skip,
    PartitionEvent::pause,   PartitionEvent::requeue, PartitionEvent::reswap,   PartitionEvent::cancel,
    PartitionEvent::revert,  PartitionEvent::restore, PartitionEvent::reverted, PartitionEvent::keep_new,
    PartitionEvent::keep_old};

TEST(State, NamesRoundTrip) {
    for (const auto state : kJobStates)
        EXPECT_EQ(job_state(name(state)), state);
    for (const auto state : kPartitionStates)
        EXPECT_EQ(partition_state(name(state)), state);
    EXPECT_EQ(name(JobState::canceled), "canceled"); // PostgreSQL's spelling
    EXPECT_THROW(job_state("cancelled"), std::invalid_argument);
    EXPECT_THROW(partition_state(""), std::invalid_argument);
}

TEST(State, TheLifeOfAPartition) {
    auto state = PartitionState::pending;
    state = next(state, PartitionEvent::claim);
    EXPECT_EQ(state, PartitionState::running);
    state = next(state, PartitionEvent::built);
    EXPECT_EQ(state, PartitionState::ready);
    state = next(state, PartitionEvent::swapped);
    EXPECT_EQ(state, PartitionState::done);
}

TEST(State, TakingOverKeepsWhatIsReady) {
    EXPECT_EQ(next(PartitionState::ready, PartitionEvent::claim), PartitionState::ready);
    EXPECT_EQ(next(PartitionState::running, PartitionEvent::claim), PartitionState::running);
}

TEST(State, NothingLeavesAnEndButARevert) {
    for (const auto state :
         {PartitionState::done, PartitionState::skipped, PartitionState::canceled, PartitionState::reverted})
        for (const auto event : kPartitionEvents) {
            const bool was_swapped = state == PartitionState::done || state == PartitionState::reverted;
            const bool reverts = event == PartitionEvent::revert || event == PartitionEvent::restore;
            if (!was_swapped || !reverts) {
                EXPECT_THROW(next(state, event), ImpossibleTransition) << name(state) << " " << name(event);
            }
        }
    for (const auto state : {JobState::done, JobState::canceled, JobState::reverted})
        for (const auto event : kJobEvents)
            EXPECT_EQ(can(state, event), event == JobEvent::revert) << name(state) << " " << name(event);
}

TEST(State, ARevertEndsAsItBeganOrOnTheOtherSide) {
    EXPECT_EQ(next(PartitionState::done, PartitionEvent::revert), PartitionState::ready);
    EXPECT_EQ(next(PartitionState::reverted, PartitionEvent::restore), PartitionState::pending);
    EXPECT_EQ(next(PartitionState::ready, PartitionEvent::reverted), PartitionState::reverted);
    for (const auto state : {PartitionState::pending, PartitionState::running, PartitionState::ready}) {
        EXPECT_EQ(next(state, PartitionEvent::keep_new), PartitionState::done);
        EXPECT_EQ(next(state, PartitionEvent::keep_old), PartitionState::reverted);
    }
    for (const auto state : {JobState::done, JobState::failed, JobState::canceled, JobState::reverted})
        EXPECT_EQ(next(state, JobEvent::revert), JobState::running);
    for (const auto state : {JobState::running, JobState::paused, JobState::ready})
        EXPECT_FALSE(can(state, JobEvent::revert)) << name(state);
    EXPECT_EQ(next(JobState::running, JobEvent::reverted), JobState::reverted);
}

TEST(State, OnlyARetryLeavesAFailure) {
    for (const auto event : kPartitionEvents) {
        if (event != PartitionEvent::requeue && event != PartitionEvent::reswap) {
            EXPECT_THROW(next(PartitionState::failed, event), ImpossibleTransition) << name(event);
        }
    }
    EXPECT_EQ(next(PartitionState::failed, PartitionEvent::requeue), PartitionState::pending);
    EXPECT_EQ(next(PartitionState::failed, PartitionEvent::reswap), PartitionState::ready);
    EXPECT_EQ(next(JobState::failed, JobEvent::retry), JobState::running);
}

TEST(State, APausedJobRestsUntilItIsResumedOrCanceled) {
    EXPECT_EQ(next(JobState::running, JobEvent::pause), JobState::paused);
    for (const auto event : kJobEvents)
        EXPECT_EQ(can(JobState::paused, event), event == JobEvent::resume || event == JobEvent::cancel)
            << name(event);
    EXPECT_EQ(next(PartitionState::running, PartitionEvent::pause), PartitionState::pending);
    EXPECT_THROW(next(PartitionState::ready, PartitionEvent::pause), ImpossibleTransition); // it stays ready
}

TEST(State, AReadyJobRestsUntilItIsPublishedOrCanceled) {
    EXPECT_EQ(next(JobState::running, JobEvent::built), JobState::ready);
    EXPECT_EQ(next(JobState::ready, JobEvent::publish), JobState::running);
    for (const auto event : kJobEvents)
        EXPECT_EQ(can(JobState::ready, event), event == JobEvent::publish || event == JobEvent::cancel)
            << name(event);
}

TEST(State, NoShortCuts) {
    EXPECT_THROW(next(PartitionState::pending, PartitionEvent::built), ImpossibleTransition);
    EXPECT_THROW(next(PartitionState::pending, PartitionEvent::swapped), ImpossibleTransition);
    EXPECT_THROW(next(PartitionState::running, PartitionEvent::swapped), ImpossibleTransition);
    EXPECT_THROW(next(JobState::failed, JobEvent::finish), ImpossibleTransition);
}

TEST(State, TheErrorNamesStateAndEvent) {
    try {
        next(PartitionState::done, PartitionEvent::claim);
        FAIL();
    } catch (const ImpossibleTransition &e) {
        EXPECT_STREQ(e.what(), "a partition in state \"done\" has no transition \"claim\"");
    }
}

TEST(State, SourcesAreWhereAnEventCanHappen) {
    EXPECT_EQ(sources(PartitionEvent::cancel), (std::vector<std::string>{"pending", "running", "ready"}));
    EXPECT_EQ(sources(PartitionEvent::swapped), (std::vector<std::string>{"ready"}));
    EXPECT_EQ(sources(JobEvent::cancel), (std::vector<std::string>{"running", "paused", "failed", "ready"}));
    for (const auto event : kPartitionEvents)
        for (const auto &source : sources(event))
            EXPECT_NO_THROW(next(partition_state(source), event));
}

TEST(State, OnlyRunningJobsWork) {
    for (const auto state : kJobStates)
        EXPECT_EQ(is_inactive(state), state != JobState::running);
}

} // namespace
} // namespace partbackfill::core
