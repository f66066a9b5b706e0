// Sizes and times as people write and read them: '16MB', '5%', "1.5 GB", "12 s".
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace partbackfill::core {

// Bytes from a number with a unit of PostgreSQL's (B, kB, MB, GB, TB; powers of
// 1024; none means bytes), such as '16MB' or '1.5 GB'. nullopt when the text is no such
// number, or the number is negative or too large.
std::optional<std::int64_t> parse_bytes(std::string_view text);

// The part of a volume that has to stay free: a size, or a share of the whole.
struct DiskReserve {
    double share = 0; // of the volume, in [0, 1]
    std::int64_t bytes = 0;
    bool wanted() const noexcept { return share > 0 || bytes > 0; }
    double of(double volume) const noexcept { return share * volume + static_cast<double>(bytes); }
};

// Reads '20GB' or '5%'; nullopt when the text is neither.
std::optional<DiskReserve> parse_disk_reserve(std::string_view text);

// Writes "512 B", "1.5 MB", "12 MB": one decimal below ten.
std::string format_bytes(double bytes);
// Writes "12,000": a number of things, with a comma between thousands.
std::string format_count(std::int64_t count);
// Writes "0.4 s", "12 s".
std::string format_seconds(std::chrono::duration<double> seconds);

} // namespace partbackfill::core
