// Messages to the caller that are no errors.
#pragma once

#include <string>

namespace partbackfill::pg {

// Sends a NOTICE, in the style of pg::raise; an empty detail or hint is left out.
void notice(const std::string &message, const std::string &detail, const std::string &hint);

} // namespace partbackfill::pg
