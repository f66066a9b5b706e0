#include "partbackfill/worker/injection_points.hpp"

#include "partbackfill/pg/injection_point.hpp"
#include "partbackfill/throttle/activity.hpp"

namespace partbackfill::worker {

namespace {

const char *name(InjectionPoint point) {
    switch (point) {
    case InjectionPoint::claimed:
        return "claimed";
    case InjectionPoint::captured:
        return "captured";
    case InjectionPoint::adopting:
        return "adopting";
    case InjectionPoint::created:
        return "created";
    case InjectionPoint::loading:
        return "loading";
    case InjectionPoint::indexing:
        return "indexing";
    case InjectionPoint::counting:
        return "counting";
    case InjectionPoint::analyzing:
        return "analyzing";
    case InjectionPoint::built:
        return "built";
    case InjectionPoint::ready:
        return "ready";
    case InjectionPoint::catching_up:
        return "catching_up";
    case InjectionPoint::converged:
        return "converged";
    case InjectionPoint::validating:
        return "validating";
    case InjectionPoint::auditing:
        return "auditing";
    case InjectionPoint::recheck:
        return "recheck";
    case InjectionPoint::caught_up:
        return "caught_up";
    case InjectionPoint::swapping:
        return "swapping";
    case InjectionPoint::swapped:
        return "swapped";
    case InjectionPoint::tidying:
        return "tidying";
    case InjectionPoint::ending:
        return "ending";
    case InjectionPoint::leaving:
        return "leaving";
    }
    return "";
}

} // namespace

void injection_point(InjectionPoint point, int ordinal) {
    bool shown = false;
    for (;;) {
        const pg::InjectedAction action = pg::injected_action(name(point), ordinal);
        if (action == pg::InjectedAction::none)
            return;
        if (!shown)
            throttle::show_injection_point(name(point));
        shown = true;
        pg::inject(action, name(point));
    }
}

} // namespace partbackfill::worker
