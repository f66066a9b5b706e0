#include "partbackfill/core/state.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace partbackfill::core {

namespace {

template <class State, class Event>
struct Transition {
    State from;
    Event event;
    State to;
};

using J = JobState;
using JE = JobEvent;
constexpr std::array<Transition<J, JE>, 16> kJob{{
    {J::running, JE::finish, J::done},
    {J::running, JE::fail, J::failed},
    {J::running, JE::pause, J::paused},
    {J::paused, JE::resume, J::running},
    {J::failed, JE::retry, J::running},
    {J::running, JE::cancel, J::canceled},
    {J::paused, JE::cancel, J::canceled},
    {J::failed, JE::cancel, J::canceled},
    {J::running, JE::built, J::ready},
    {J::ready, JE::publish, J::running},
    {J::ready, JE::cancel, J::canceled},
    {J::done, JE::revert, J::running},
    {J::failed, JE::revert, J::running},
    {J::canceled, JE::revert, J::running},
    {J::reverted, JE::revert, J::running},
    {J::running, JE::reverted, J::reverted},
}};

using P = PartitionState;
using PE = PartitionEvent;
constexpr std::array<Transition<P, PE>, 32> kPartition{{
    {P::pending, PE::claim, P::running},     {P::running, PE::claim, P::running},
    {P::ready, PE::claim, P::ready},         {P::running, PE::built, P::ready},
    {P::ready, PE::swapped, P::done},        {P::running, PE::defer, P::pending},
    {P::running, PE::retry, P::pending},     {P::ready, PE::retry, P::pending},
    {P::running, PE::rebuild, P::pending},   {P::ready, PE::rebuild, P::pending},
    {P::pending, PE::fail, P::failed}, // no worker can do the job's work any more
    {P::running, PE::fail, P::failed},       {P::ready, PE::fail, P::failed},
    {P::running, PE::skip, P::skipped},      {P::ready, PE::skip, P::skipped},
    {P::running, PE::pause, P::pending},     {P::failed, PE::requeue, P::pending},
    {P::failed, PE::reswap, P::ready},       {P::pending, PE::cancel, P::canceled},
    {P::running, PE::cancel, P::canceled},   {P::ready, PE::cancel, P::canceled},
    {P::done, PE::revert, P::ready},         {P::reverted, PE::revert, P::ready},
    {P::done, PE::restore, P::pending},      {P::reverted, PE::restore, P::pending},
    {P::ready, PE::reverted, P::reverted},   {P::pending, PE::keep_new, P::done},
    {P::running, PE::keep_new, P::done},     {P::ready, PE::keep_new, P::done},
    {P::pending, PE::keep_old, P::reverted}, {P::running, PE::keep_old, P::reverted},
    {P::ready, PE::keep_old, P::reverted},
}};

template <class E>
using Names = std::span<const std::pair<E, std::string_view>>;

constexpr std::array<std::pair<J, std::string_view>, 7> kJobNames{{{J::running, "running"},
                                                                   {J::paused, "paused"},
                                                                   {J::ready, "ready"},
                                                                   {J::done, "done"},
                                                                   {J::failed, "failed"},
                                                                   {J::canceled, "canceled"},
                                                                   {J::reverted, "reverted"}}};
constexpr std::array<std::pair<P, std::string_view>, 8> kPartitionNames{{{P::pending, "pending"},
                                                                         {P::running, "running"},
                                                                         {P::ready, "ready"},
                                                                         {P::done, "done"},
                                                                         {P::failed, "failed"},
                                                                         {P::skipped, "skipped"},
                                                                         {P::canceled, "canceled"},
                                                                         {P::reverted, "reverted"}}};
constexpr std::array<std::pair<JE, std::string_view>, 10> kJobEventNames{{{JE::finish, "finish"},
                                                                          {JE::fail, "fail"},
                                                                          {JE::pause, "pause"},
                                                                          {JE::resume, "resume"},
                                                                          {JE::retry, "retry"},
                                                                          {JE::cancel, "cancel"},
                                                                          {JE::built, "built"},
                                                                          {JE::publish, "publish"},
                                                                          {JE::revert, "revert"},
                                                                          {JE::reverted, "reverted"}}};
constexpr std::array<std::pair<PE, std::string_view>, 17> kPartitionEventNames{{{PE::claim, "claim"},
                                                                                {PE::built, "built"},
                                                                                {PE::swapped, "swapped"},
                                                                                {PE::defer, "defer"},
                                                                                {PE::retry, "retry"},
                                                                                {PE::rebuild, "rebuild"},
                                                                                {PE::fail, "fail"},
                                                                                {PE::skip, "skip"},
                                                                                {PE::pause, "pause"},
                                                                                {PE::requeue, "requeue"},
                                                                                {PE::reswap, "reswap"},
                                                                                {PE::cancel, "cancel"},
                                                                                {PE::revert, "revert"},
                                                                                {PE::restore, "restore"},
                                                                                {PE::reverted, "reverted"},
                                                                                {PE::keep_new, "keep_new"},
                                                                                {PE::keep_old, "keep_old"}}};

template <class E>
std::string_view find_name(Names<E> names, E value) {
    for (const auto &[entry, text] : names)
        if (entry == value)
            return text;
    throw std::invalid_argument("value without a name");
}

template <class E>
E find_value(Names<E> names, std::string_view text) {
    for (const auto &[entry, entry_text] : names)
        if (entry_text == text)
            return entry;
    throw std::invalid_argument("no state is named \"" + std::string(text) + "\"");
}

template <class State, class Event>
State step(std::span<const Transition<State, Event>> table, State from, Event event, const char *what) {
    for (const auto &row : table)
        if (row.from == from && row.event == event)
            return row.to;
    throw ImpossibleTransition(std::string(what) + " in state \"" + std::string(name(from)) +
                               "\" has no transition \"" + std::string(name(event)) + "\"");
}

template <class State, class Event>
std::vector<std::string> sources_in(std::span<const Transition<State, Event>> table, Event event) {
    std::vector<std::string> names;
    for (const auto &row : table)
        if (row.event == event)
            names.emplace_back(name(row.from));
    return names;
}

} // namespace

std::string_view name(JobState state) {
    return find_name<J>(kJobNames, state);
}
std::string_view name(PartitionState state) {
    return find_name<P>(kPartitionNames, state);
}
std::string_view name(JobEvent event) {
    return find_name<JE>(kJobEventNames, event);
}
std::string_view name(PartitionEvent event) {
    return find_name<PE>(kPartitionEventNames, event);
}
JobState job_state(std::string_view text) {
    return find_value<J>(kJobNames, text);
}
PartitionState partition_state(std::string_view text) {
    return find_value<P>(kPartitionNames, text);
}

JobState next(JobState from, JobEvent event) {
    return step<J, JE>(kJob, from, event, "a job");
}
PartitionState next(PartitionState from, PartitionEvent event) {
    return step<P, PE>(kPartition, from, event, "a partition");
}

bool can(JobState from, JobEvent event) {
    return std::any_of(kJob.begin(), kJob.end(),
                       [&](const auto &row) { return row.from == from && row.event == event; });
}

std::vector<std::string> sources(JobEvent event) {
    return sources_in<J, JE>(kJob, event);
}
std::vector<std::string> sources(PartitionEvent event) {
    return sources_in<P, PE>(kPartition, event);
}

bool is_inactive(JobState state) {
    return state != JobState::running;
}

} // namespace partbackfill::core
