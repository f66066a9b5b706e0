#include "partbackfill/core/replay_lag.hpp"

#include <algorithm>

namespace partbackfill::core {

namespace {

// More notes than these are thinned out: the longer the lag, the less does its last second
// matter.
constexpr size_t kMostNotes = 1024;

} // namespace

void ReplayLag::written(std::uint64_t position, TimePoint now) {
    if (!notes_.empty() && notes_.back().first >= position)
        return;
    notes_.emplace_back(position, now);
    if (notes_.size() <= kMostNotes)
        return;
    std::vector<std::pair<std::uint64_t, TimePoint>> kept;
    for (size_t i = 0; i < notes_.size(); i += 2)
        kept.push_back(notes_[i]);
    notes_ = std::move(kept);
}

ReplayLag::Seconds ReplayLag::behind(std::uint64_t replayed, TimePoint now) const {
    const auto first =
        std::upper_bound(notes_.begin(), notes_.end(), replayed,
                         [](std::uint64_t position, const auto &note) { return position < note.first; });
    return first == notes_.end() ? Seconds(0) : Seconds(now - first->second);
}

bool ReplayLag::older_than_known(std::uint64_t replayed) const {
    return !notes_.empty() && replayed < notes_.front().first;
}

} // namespace partbackfill::core
