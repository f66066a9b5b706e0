// The payload of the NOTIFY of a change of state. Every role that listens receives it: it has no
// query and no text of an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace partbackfill::job {

inline constexpr const char *kChannel = "partbackfill";

// {"job":7,"state":"done","label":"fix-1234"}, the label if there is one; or
// {"job":7,"ordinal":3,"partition":"public.e_3","state":"done"}
std::string announcement(std::int64_t job, const std::string &state, const std::optional<std::string> &label);
std::string announcement(std::int64_t job, int ordinal, const std::string &partition,
                         const std::string &state);

} // namespace partbackfill::job
