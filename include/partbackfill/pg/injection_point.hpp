// Injection points: places at which a developer makes a worker stop, fail or die.
//
// partbackfill.injection_point = 'POINT ACTION' or 'POINT/ORDINAL ACTION', where the ordinal is
// that of a partition, and the action one of
//   stop    waits until the setting says something else
//   fail    raises an error
//   exit    ends the process, as pg_terminate_backend() does
//   crash   ends it as kill -9 does; the server restarts all its processes
// Only superusers may set it; it is of use to tests alone.
#pragma once

namespace partbackfill::pg {

enum class InjectedAction { none, stop, fail, exit, crash };

// The action that the setting asks for at that point.
InjectedAction injected_action(const char *point, int ordinal);

// Takes the action; `stop` waits a little and reads the configuration again.
void inject(InjectedAction action, const char *point);

} // namespace partbackfill::pg
