#include "partbackfill/worker/pace.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "partbackfill/engine/locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/transaction.hpp"
#include "partbackfill/worker/activity.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;
using core::Seconds;

// Less is not worth a sleep; it is owed until there is more.
constexpr Seconds kShortest{0.01};
// Between looks at the settings.
constexpr Seconds kBetweenLooks{1};

} // namespace

Pacer::Pacer(std::int64_t job)
    : job_(job), wal_(Clock::now()), marked_(Clock::now()), wal_marked_(pg::wal_bytes_written()) {}

void Pacer::begin() {
    if (!jobs_) {
        pg::Transaction transaction;
        {
            job::ControlTables control;
            jobs_ = control.job_table(job_);
        }
        transaction.commit();
    }
    throttled_ = seen_throttled_ = Seconds(0);
    pg::Transaction transaction;
    look();
    transaction.commit();
    // What was done since the last build is not this one's work.
    const auto written = pg::wal_bytes_written();
    wal_.spend(static_cast<double>(written - wal_marked_), Clock::now());
    wal_marked_ = written;
    marked_ = Clock::now();
}

void Pacer::check() {
    account();
    if (Clock::now() - looked_ >= kBetweenLooks)
        look();
    pay();
    marked_ = Clock::now();
}

void Pacer::account() {
    const auto now = Clock::now();
    const auto written = pg::wal_bytes_written();
    const auto bytes = static_cast<double>(written - wal_marked_);
    const Seconds worked = now - marked_;
    wal_marked_ = written;
    marked_ = now;
    wal_.spend(bytes, now);
    wal_rate_.add(bytes, worked);
    nice_.worked(worked);
}

// The job's limit is shared by the workers that have a partition in hand: each
// takes an equal part, so that together they keep it without talking.
void Pacer::look() {
    const auto newest = job::newest_pace(*jobs_, job_);
    if (!newest || newest->state != core::JobState::running)
        pg::raise(pg::sqlcode::kQueryCanceled, fmt::format("backfill job {} does not run any more", job_));
    pace_ = *newest;
    sharers_ = std::max(1, engine::claims_of(job_));
    looked_ = Clock::now();
    wal_.set_rate(static_cast<double>(pace_.max_wal_rate) / sharers_, looked_);
    nice_.set(pace_.nice_ratio);
    says_why_ = throttled_ > seen_throttled_;
    seen_throttled_ = throttled_;
    show_throttled(throttled_, says_why_ ? reason() : "");
}

// In short naps, since the settings may change meanwhile.
void Pacer::pay() {
    for (;;) {
        const auto now = Clock::now();
        const Seconds owed = std::max(wal_.debt(now), nice_.owed());
        if (owed < kShortest)
            return;
        const Seconds until_look = looked_ + kBetweenLooks - now;
        if (until_look <= Seconds(0)) {
            look();
            continue;
        }
        if (!says_why_)
            show_throttled(throttled_, reason());
        says_why_ = true;
        nap(std::min(owed, until_look));
    }
}

void Pacer::nap(Seconds time) {
    const auto begun = Clock::now();
    pg::sleep(std::chrono::ceil<std::chrono::milliseconds>(time), pg::Wait::throttle);
    const Seconds slept = Clock::now() - begun;
    nice_.slept(slept);
    throttled_ += slept;
}

std::string Pacer::reason() const {
    const double rate = wal_rate_.per_second() * sharers_;
    const auto limit = static_cast<double>(pace_.max_wal_rate);
    if (limit > 0 && rate > limit)
        return fmt::format("WAL {}/s > {}/s", core::format_bytes(rate), core::format_bytes(limit));
    if (pace_.nice_ratio > 0)
        return fmt::format("nice_ratio {:g}", pace_.nice_ratio);
    return "";
}

} // namespace partbackfill::worker
