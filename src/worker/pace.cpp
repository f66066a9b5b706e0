#include "partbackfill/worker/pace.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "partbackfill/engine/lock_waits.hpp"
#include "partbackfill/engine/locks.hpp"
#include "partbackfill/job/control_tables.hpp"
#include "partbackfill/pg/latch.hpp"
#include "partbackfill/pg/probe.hpp"
#include "partbackfill/pg/transaction.hpp"

namespace partbackfill::worker {

namespace {

using Clock = std::chrono::steady_clock;
using core::Seconds;

// Less is not worth a sleep; it is owed until there is more.
constexpr Seconds kShortest{0.002};
// Between looks at the settings and the signals.
constexpr Seconds kBetweenLooks{1};

} // namespace

Pacer::Pacer(std::int64_t job)
    : job_(job), wal_(Clock::now()), marked_(Clock::now()), wal_marked_(pg::wal_bytes_written()) {}

void Pacer::begin(const job::Partition &partition) {
    waited_ = {};
    seen_throttled_ = Seconds(0);
    shadow_ = kNoOid;
    // What was done since the last build is not this one's work, but its WAL counts.
    const auto written = pg::wal_bytes_written();
    wal_.spend(static_cast<double>(written - wal_marked_), Clock::now());
    wal_marked_ = written;
    for (;;) {
        {
            pg::Transaction transaction;
            expect(partition);
            look();
            transaction.commit();
        }
        if (!held_by_.empty())
            wait_held();
        else if (owed() >= engine::kLongestHold) { // of a build that was given up for that
            reason_ = reason();
            nap(kBetweenLooks);
        } else
            break;
    }
    signals_.begin();
    marked_ = Clock::now();
}

void Pacer::expect(const job::Partition &partition) {
    std::map<int, Oid> before;
    {
        job::ControlTables control;
        before = control.built_before(partition);
    }
    std::vector<Oid> others;
    for (const int ordinal : engine::claims_of(job_))
        if (const auto other = before.find(ordinal); other != before.end())
            others.push_back(other->second);
    signals_.expect(partition.live, others);
}

Seconds Pacer::owes() {
    pg::Transaction transaction;
    const bool runs = read_settings();
    transaction.commit();
    return runs && owed() >= kShortest ? owed() : Seconds(0);
}

void Pacer::rest(Seconds time, pg::Wait why) {
    const auto begun = Clock::now();
    pg::sleep(std::chrono::ceil<std::chrono::milliseconds>(time), why);
    nice_.slept(Clock::now() - begun);
}

void Pacer::check() {
    // Called every few rows: what costs no pause is accounted for at the next look.
    const bool owes = pace_.nice_ratio > 0 || pace_.max_wal_rate > 0;
    if (!owes && Clock::now() - looked_ < kBetweenLooks)
        return;
    // Between sleeps, too, whoever waits for this processor goes first.
    if (owes)
        std::this_thread::yield();
    serve();
    if (nice_.is_due() || wal_.debt(Clock::now()) >= kShortest)
        pay();
}

void Pacer::settle() {
    serve();
    pay();
}

void Pacer::serve() {
    account();
    if (Clock::now() - looked_ >= kBetweenLooks)
        look();
    wait_for_signals();
    marked_ = Clock::now(); // looking is not work
}

bool Pacer::wants_another_plan() noexcept {
    return std::exchange(another_plan_, false);
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
bool Pacer::read_settings() {
    if (!jobs_) {
        job::ControlTables control;
        jobs_ = control.job_table(job_);
    }
    const auto newest = job::newest_pace(*jobs_, job_);
    if (!newest || newest->state != core::JobState::running)
        return false;
    pace_ = *newest;
    sharers_ = std::max(1, static_cast<int>(engine::claims_of(job_).size()));
    wal_.set_rate(static_cast<double>(pace_.max_wal_rate) / sharers_, Clock::now());
    nice_.set(pace_.nice_ratio);
    return true;
}

void Pacer::look() {
    check_runs();
    if (pace_.throttle_query && !pg::can_probe()) {
        another_plan_ = true;
        pg::raise(pg::sqlcode::kObjectNotInPrerequisiteState,
                  "throttle_query cannot be asked beside a parallel query");
    }
    if (pace_.throttle_query)
        show_rows();
    const auto asked = Clock::now();
    held_by_ = signals_.look(pace_, shadow_);
    nice_.slept(Clock::now() - asked);
    if (pace_.throttle_query)
        check_runs(); // a cancel may have been taken for an answer of the query's
    looked_ = Clock::now();
    if (waited_.throttled <= seen_throttled_)
        reason_.clear();
    seen_throttled_ = waited_.throttled;
    show_waiting(waited_, !held_by_.empty() ? held_by_ : reason_);
}

void Pacer::check_runs() {
    if (!read_settings())
        pg::raise(pg::sqlcode::kQueryCanceled, fmt::format("backfill job {} does not run any more", job_));
}

void Pacer::wait_for_signals() {
    while (!held_by_.empty()) {
        give_way(held_by_);
        wait_held();
        look();
    }
}

// What the build waits for may be what another session waits for, with the build's locks in
// its way: then it would last as long as they are held.
void Pacer::give_way(const std::string &reason) {
    if (const auto waiter = engine::waiter_since(engine::kLongestHold))
        pg::raise(pg::sqlcode::kLockNotAvailable,
                  fmt::format("{}, while {} waits for this build", reason, *waiter));
}

// Of the job's time, as much as this one could have done of it.
void Pacer::wait_held() {
    waited_.held += nap(kBetweenLooks) / sharers_;
}

// In short naps, since the settings may change meanwhile.
void Pacer::pay() {
    const auto begun = Clock::now();
    while (owed() >= kShortest) {
        const Seconds until_look = looked_ + kBetweenLooks - Clock::now();
        if (until_look <= Seconds(0)) {
            look();
            wait_for_signals();
            if (Clock::now() - begun >= engine::kLongestHold)
                give_way(reason());
            continue;
        }
        reason_ = reason();
        show_waiting(waited_, reason_);
        nap(std::min(owed(), until_look));
    }
}

Seconds Pacer::owed() {
    return std::max(wal_.debt(Clock::now()), nice_.owed());
}

Seconds Pacer::nap(Seconds time) {
    const auto begun = Clock::now();
    pg::sleep(std::chrono::ceil<std::chrono::milliseconds>(time), pg::Wait::throttle);
    const Seconds slept = Clock::now() - begun;
    nice_.slept(slept);
    waited_.throttled += slept;
    marked_ = Clock::now();
    return slept;
}

std::string Pacer::reason() {
    const Seconds debt = wal_.debt(Clock::now());
    if (nice_.owed() >= debt)
        return fmt::format("nice_ratio {:g}", pace_.nice_ratio);
    const double rate = wal_rate_.per_second() * sharers_;
    const auto limit = static_cast<double>(pace_.max_wal_rate);
    if (rate > limit)
        return fmt::format("WAL {}/s > {}/s", core::format_bytes(rate), core::format_bytes(limit));
    return fmt::format("WAL {} too many at {}/s", core::format_bytes(debt.count() * limit),
                       core::format_bytes(limit));
}

} // namespace partbackfill::worker
