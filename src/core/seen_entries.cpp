#include "partbackfill/core/seen_entries.hpp"

namespace partbackfill::core {

void SeenEntries::add(std::uint32_t file, const std::vector<LogEntry> &entries) {
    if (file != std::exchange(file_, file))
        blocks_.clear();
    for (const LogEntry &entry : entries) {
        if (entry.block >= blocks_.size())
            blocks_.resize(entry.block + std::size_t{1});
        std::vector<std::uint64_t> &words = blocks_[entry.block];
        const std::size_t word = entry.offset / 64U;
        if (word >= words.size())
            words.resize(word + 1);
        words[word] |= std::uint64_t{1} << (entry.offset % 64U);
    }
}

} // namespace partbackfill::core
