#include "partbackfill/job/announcement.hpp"

#include <fmt/format.h>

#include "partbackfill/core/json.hpp"

namespace partbackfill::job {

std::string announcement(std::int64_t job, const std::string &state,
                         const std::optional<std::string> &label) {
    return fmt::format(R"({{"job":{},"state":{}{}}})", job, core::json_string(state),
                       label ? R"(,"label":)" + core::json_string(*label) : "");
}

std::string announcement(std::int64_t job, int ordinal, const std::string &partition,
                         const std::string &state) {
    return fmt::format(R"({{"job":{},"ordinal":{},"partition":{},"state":{}}})", job, ordinal,
                       core::json_string(partition), core::json_string(state));
}

} // namespace partbackfill::job
