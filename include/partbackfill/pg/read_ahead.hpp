// Reading ahead: one parallel worker computes an expensive query, while this process works
// on the rows that have come; the rows keep their order, unlike those of a parallel plan.
#pragma once

namespace partbackfill::pg {

// Within its life one parallel worker computes the next query that this process plans, if
// the query may be parallel, is not by the planner's own choice, may run in a worker as a
// whole, and costs many times what a worker costs to start (parallel_setup_cost). Not while
// max_parallel_workers_per_gather is 0. Without a free worker this process computes it.
class ReadAhead {
public:
    explicit ReadAhead(bool wanted);
    ~ReadAhead();
    ReadAhead(const ReadAhead &) = delete;
    ReadAhead &operator=(const ReadAhead &) = delete;
};

} // namespace partbackfill::pg
