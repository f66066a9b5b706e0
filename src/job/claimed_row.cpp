#include "partbackfill/job/claimed_row.hpp"

namespace partbackfill::job {

void ClaimedRow::move(Partition &partition, core::PartitionEvent event, const std::string &more,
                      const pg::Params &more_params) const {
    const core::PartitionState to = core::next(partition.state, event);
    pg::Params params{partition.job, partition.ordinal, partition.claim, core::name(partition.state),
                      core::name(to)};
    params.insert(params.end(), more_params.begin(), more_params.end());
    const pg::Result result = run("UPDATE {s}.backfill_control SET state = $5" + more +
                                      " WHERE job = $1 AND ordinal = $2 AND claim = $3 AND state = $4",
                                  params);
    if (result.processed != 1)
        throw LostClaim();
    partition.state = to;
}

void ClaimedRow::change(const Partition &partition, const std::string &assignments,
                        const pg::Params &more_params) const {
    pg::Params params{partition.job, partition.ordinal, partition.claim};
    params.insert(params.end(), more_params.begin(), more_params.end());
    const pg::Result result = run("UPDATE {s}.backfill_control SET " + assignments +
                                      " WHERE job = $1 AND ordinal = $2 AND claim = $3",
                                  params);
    if (result.processed != 1)
        throw LostClaim();
}

} // namespace partbackfill::job
