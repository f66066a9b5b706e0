#include "partbackfill/worker/fault.hpp"

#include "partbackfill/pg/fault.hpp"
#include "partbackfill/worker/activity.hpp"

namespace partbackfill::worker {

void reach(const char *point, int ordinal) {
    bool told = false;
    for (;;) {
        const pg::Fault fault = pg::fault_at(point, ordinal);
        if (fault == pg::Fault::none)
            return;
        if (!told)
            show_fault(point);
        told = true;
        pg::suffer(fault, point);
    }
}

} // namespace partbackfill::worker
