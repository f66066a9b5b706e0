// The control tables: every statement on them is here.
//
// An object of this class acts as the extension's owner for its life, with
// pinned settings; it lives within one transaction, around these statements and
// nothing else. A change of a partition is fenced by the claim: a worker that
// lost its claim changes nothing and gets LostClaim.
#pragma once

#include <map>
#include <stdexcept>

#include "partbackfill/engine/write_guard.hpp"
#include "partbackfill/job/job.hpp"
#include "partbackfill/job/pace.hpp"
#include "partbackfill/pg/extension.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::job {

// Somebody else (a cancel, another worker) has the partition now.
class LostClaim : public std::runtime_error {
public:
    LostClaim() : std::runtime_error("the partition was taken from this worker") {}
};

struct NewJob {
    std::int64_t id = 0; // of next_job_number()
    Oid target = kNoOid;
    std::string target_name;
    std::string source;
    Oid source_oid = kNoOid;
    bool reads_target = false;
    Oid key_type = kNoOid;
    std::vector<std::string> key_columns;
    Oid owner = kNoOid;
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    Options options;
    std::vector<pg::Setting> settings;
};

struct NewPartition {
    int ordinal = 0;
    Oid live = kNoOid;
    std::string name;
    std::optional<std::string> range_start;
    std::optional<std::string> range_end;
    std::string bound;
    std::int64_t rows_estimate = 0;
};

// What backfill_alter changes: nothing where there is nothing; "" clears a setting.
struct Alteration {
    std::optional<int> workers;
    std::optional<std::string> delay;
    std::optional<double> nice_ratio;
    std::optional<std::string> max_wal_rate;
    std::optional<std::string> max_replica_lag;
    std::optional<std::string> throttle_query;
    std::optional<std::string> min_free_disk;
    std::optional<std::string> lock_timeout;
    std::optional<std::string> swap_patience;
    std::optional<bool> allow_shrink;
};

// How the partitions of a job stand.
struct Census {
    int claimable = 0; // pending, running or ready: a worker's business still
    int failed = 0;
};

// How the error of a job begins of whose work something could not be dropped.
inline constexpr const char *kCouldNotTidyUp = "could not tidy up: ";

class ControlTables {
public:
    // Sets the mark that keeps the control tables out of logical decoding where it was
    // lost, as pg_upgrade loses it. Before rows are written.
    void keep_undecoded();

    // ----- a job
    // A number whose schemas do not exist: a restored dump may have brought some.
    std::int64_t next_job_number();
    void insert_job(const NewJob &job);
    void insert_partition(std::int64_t job, const NewPartition &partition);
    // Only what this installation started: rows of others, whose OIDs mean nothing
    // here, may have come with a copy of the tables.
    std::optional<Job> find_job(std::int64_t job);
    // Apart from the rest, since only a build needs it.
    std::string source(std::int64_t job);
    bool is_of_another_installation(std::int64_t job);
    // The same as the active snapshot sees it, which may be newer than the
    // transaction's.
    std::optional<Job> find_job_now(std::int64_t job);
    // Whether the current transaction itself inserted the job.
    bool is_of_this_transaction(std::int64_t job);
    std::vector<pg::Setting> settings(std::int64_t job);
    // Where the Pace of a job is to be read; the job has to exist.
    pg::KeyedTable job_table(std::int64_t job);
    Census census(std::int64_t job);
    // The job comes to rest; nothing when it is in that state already and only
    // the time of its end is missing.
    void end_job(const Job &job, core::JobEvent event);
    void mark_tidied(const Job &job);
    // Nobody changes its state, nor queues a partition again, until the transaction ends.
    void lock_job(std::int64_t job);
    // Jobs for which there is something to do, or would be if they were resumed.
    std::vector<Job> unfinished_jobs();
    // One that lacks its end, or has built something that a retry would swap.
    std::optional<Job> job_in_the_way();

    // ----- a job, by who may control it. Row locks on the job and then on its
    // partitions, to the end of the transaction; an error when somebody else has
    // changed the state of the job meanwhile.
    void cancel_job(const Job &job);
    // `live` are the ordinals that a worker has in hand: their attempts do not count.
    void pause_job(const Job &job, const std::vector<int> &live);
    void resume_job(const Job &job);
    // Its failed partitions are queued again, with all their attempts; how many.
    int retry_job(const Job &job);
    void alter_job(std::int64_t job, const Alteration &alteration);
    // Workers are being started for it, and will show up in a moment.
    void note_start(const Job &job);
    // Nobody can do its work: what is left of it has failed.
    void give_up_job(const Job &job, const pg::ErrorFields &error);

    // The job that has the partition: it is unfinished, or has failed for the partition
    // and keeps what it built.
    struct Claimant {
        std::int64_t job = 0;
        bool failed = false;
        bool paused = false;
    };
    std::optional<Claimant> claimant_of(Oid partition);

    // ----- a partition, by the worker that has it
    // Keeps the job running, to the end of the transaction: pausing it or canceling it comes
    // after what is done here, and sees that. False when the job does not run, or its state
    // is about to change.
    bool keep_running(std::int64_t job);
    // The next partition to take up and not in `passed`: ready ones first, then in order.
    // One that another worker has is found too: its session lock tells.
    std::optional<Partition> next_candidate(const Job &job, const std::vector<int> &passed);
    // The same partition as it is now, its row locked; nothing when it is not to be taken
    // up any more, or another session has its row. The caller has its session lock.
    std::optional<Partition> lock_candidate(const Job &job, int ordinal);
    // Those that are built and whose swap did not get its locks, in order; one of them, its
    // row locked, whatever pause it was given.
    std::vector<Partition> waiting_for_swap(const Job &job, int limit);
    std::optional<Partition> lock_waiting(const Job &job, int ordinal);
    // Takes it up under a new claim.
    void claim(Partition &partition);
    // The partitions that other workers may be building, by their ordinals: of those
    // that come later only what has begun, so that of two one goes first.
    std::map<int, Oid> built_before(const Partition &partition);
    // A worker died that had it in hand when it was ready.
    void count_orphan(Partition &partition);
    // A worker died in its build, and may have died of it.
    void suspect(const Partition &partition);
    // Of a paused job: what is built waits for its swap; what is not is pending again, and
    // the attempt does not count. Nothing when it was given back already.
    void give_back_if_paused(Partition &partition);
    // Gives it back as it is; no worker takes it up earlier than in `pause`.
    void put_off(const Partition &partition, Milliseconds pause);
    // An attempt begins: counted before anything of the user's runs.
    void begin_attempt(Partition &partition);
    void record_shadow(Partition &partition, Oid shadow, const std::string &constraint,
                       const std::string &fingerprint, const std::string &seal);
    void forget_shadow(Partition &partition);
    void record_proof(Partition &partition, Oid proof);
    // The CHECKs on a DEFAULT partition that are proofs of jobs, whatever state those are in.
    std::vector<Oid> proofs_on(Oid partition);
    void built(Partition &partition, const BuildFigures &figures);
    // Locks the row, before any lock that others can feel is taken: a swap must
    // not wait for a row while it holds tables. Waits for who has the row for a moment.
    // Throws LostClaim when another has the partition, or the job does not run.
    void lock_for_swap(const Partition &partition);
    void swapped(Partition &partition, Oid old_table, double lock_wait_seconds);
    // Announces that it is done, too. Returns what its build cost and gave.
    BuildFigures record_locked_for(const Partition &partition, double seconds);
    // Tells of its state whoever listens; only of what no trigger tells of.
    void announce(const Partition &partition);
    // A swap did not get its locks: tried again no earlier than in `pause`.
    // Returns for how long the partition has been trying.
    std::chrono::duration<double> swap_postponed(Partition &partition, double lock_wait_seconds,
                                                 Milliseconds pause, const std::string &waiting_on);
    // A build did not get a lock that it needs: the partition is pending again, and
    // the attempt does not count.
    void postpone(Partition &partition);
    // `keep`: what was built for it is kept for a retry.
    void attempt_failed(Partition &partition, core::PartitionEvent event, const pg::ErrorFields &error,
                        Milliseconds pause, bool keep);
    // What was built is out of date: the partition is pending again, the reason
    // stands in its error until it is built.
    void rebuild(Partition &partition, const std::string &reason);
    void skip(Partition &partition, const std::string &reason);

    // ----- writes to a partition while it is rebuilt
    // What the build saw, within its transaction.
    void record_sight(const Partition &partition, const engine::Sight &seen);
    // Whether something was written that the build did not see, given what is to
    // be seen now. Under a lock that keeps writers out, the answer stays true.
    bool lacks_writes(const Partition &partition, const engine::Sight &now);
    // The shadow as it shall be found, by its digest.
    void record_seal(const Partition &partition, const std::string &seal);
    // Whether the shadow, with that digest now, is as it was sealed, and nobody wrote
    // to it since.
    bool shadow_untouched(const Partition &partition, const std::string &now);
    void forget_writes(std::int64_t job, Oid partition);

    // Columns of backfill_live, and whose job on what table it is.
    struct LiveRow {
        Oid owner = kNoOid;
        Oid target = kNoOid;
        std::vector<std::optional<std::string>> columns;
    };
    std::vector<LiveRow> live();
    // Those that have something to do, and nobody who does it or will by himself.
    struct Idle {
        std::int64_t job = 0;
        Oid owner = kNoOid;
        Oid target = kNoOid;
    };
    std::vector<Idle> jobs_without_worker();

    // ----- what is left lying around
    // Shadows and watched partitions that no swap can use any more: a job that is paused or failed keeps
    // those of partitions that are built. Proofs all go: a job that rests may do so for long, and a CHECK on
    // a DEFAULT would keep rows out once the partition it is about is dropped.
    struct Leftovers {
        std::vector<Oid> shadows;
        std::vector<Oid> partitions;
        std::vector<Oid> proofs;
        std::vector<Oid> kept; // partitions and shadows
    };
    Leftovers leftovers(const Job &job);
    // Says of a job that tidies up for what it waits, beside the partition that the table is of.
    void tidying_waits(std::int64_t job, Oid table, const std::string &waiting_on);
    // They are gone now, and what was noted of writes to them.
    void forget_leftovers(const Job &job);
    std::vector<Oid> old_tables(std::int64_t job);
    void set_error(std::int64_t job, const std::string &error);
    // What could not be tidied up is gone now, if it is: the job's error is that of its
    // partitions again.
    void clear_tidy_error(std::int64_t job);
    void forget_old(std::int64_t job, Oid old_table);

    const std::string &schema() const noexcept { return owner_.extension().schema; }

private:
    pg::Result run(const std::string &sql, const pg::Params &params = {}, pg::Read read = pg::Read::newest);
    std::optional<Job> find(std::int64_t job, pg::Read read);
    // Moves the job; `more` sets further columns from $4 on.
    void move_job(const Job &job, core::JobEvent event, const std::string &more,
                  const pg::Params &more_params = {});
    // Those to be taken up, or the first; the condition's parameters are $4 and on.
    std::vector<Partition> candidates(const Job &job, const std::string &condition,
                                      const pg::Params &more_params);
    std::optional<Partition> candidate(const Job &job, const std::string &condition,
                                       const pg::Params &more_params);
    // UPDATE with the fence; `more` sets further columns from $6 on.
    void move(Partition &partition, core::PartitionEvent event, const std::string &more,
              const pg::Params &more_params = {});
    void change(const Partition &partition, const std::string &assignments,
                const pg::Params &more_params = {});

    pg::AsExtensionOwner owner_;
};

} // namespace partbackfill::job
