// A query that is worth it is computed by one parallel worker, while this process does
// something else with the rows that it gets: in their order, unlike a parallel plan's.
#pragma once

namespace partbackfill::pg {

// Within its life the next query that this process plans is computed so, if it may be
// parallel, is not of its own accord, may run in a worker as a whole, and costs many
// times what a worker costs to start (parallel_setup_cost). That
// max_parallel_workers_per_gather is 0 keeps it from that. Without a free worker it
// is computed here.
class ReadAhead {
public:
    explicit ReadAhead(bool wanted);
    ~ReadAhead();
    ReadAhead(const ReadAhead &) = delete;
    ReadAhead &operator=(const ReadAhead &) = delete;
};

} // namespace partbackfill::pg
