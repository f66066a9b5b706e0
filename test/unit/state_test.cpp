#include <gtest/gtest.h>

#include "partbackfill/core/state.hpp"

namespace partbackfill::core {
namespace {

constexpr JobState kJobStates[] = {JobState::running, JobState::paused, JobState::ready,
                                   JobState::done,    JobState::failed, JobState::canceled};
constexpr JobEvent kJobEvents[] = {JobEvent::finish, JobEvent::fail,   JobEvent::pause, JobEvent::resume,
                                   JobEvent::retry,  JobEvent::cancel, JobEvent::built, JobEvent::publish};
constexpr PartitionState kPartitionStates[] = {
    PartitionState::pending, PartitionState::running, PartitionState::ready,   PartitionState::done,
    PartitionState::failed,  PartitionState::skipped, PartitionState::canceled};
constexpr PartitionEvent kPartitionEvents[] = {
    PartitionEvent::claim, PartitionEvent::built,   PartitionEvent::swapped, PartitionEvent::defer,
    PartitionEvent::retry, PartitionEvent::rebuild, PartitionEvent::fail,    PartitionEvent::skip,
    PartitionEvent::pause, PartitionEvent::requeue, PartitionEvent::reswap,  PartitionEvent::cancel};

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

TEST(State, NothingLeavesAnEnd) {
    for (const auto state : {PartitionState::done, PartitionState::skipped, PartitionState::canceled})
        for (const auto event : kPartitionEvents)
            EXPECT_THROW(next(state, event), ImpossibleTransition) << name(state) << " " << name(event);
    for (const auto event : kJobEvents) {
        EXPECT_THROW(next(JobState::done, event), ImpossibleTransition);
        EXPECT_THROW(next(JobState::canceled, event), ImpossibleTransition);
    }
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
