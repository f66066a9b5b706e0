// The server's processes, as background workers and statistics show them. The functions
// report errors by longjmp: call them under guard().
#pragma once

#include <cstdint>

namespace partbackfill::pg {

// application_name of a process as this transaction sees it; nullptr when it has ended.
const char *application_name_of(int pid);

// The background workers that run in the whole server, and those of them of that type.
struct BackgroundProcesses {
    int all;
    int of_type;
};
BackgroundProcesses background_processes(const char *type);

// The flag that a background worker passes to connect although its role has no LOGIN;
// 0 before 17, which has none: the role needs LOGIN there.
std::uint32_t bypass_login_flag();
bool needs_login_role();

} // namespace partbackfill::pg
