// Entries of a key log that were used and must stay.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace partbackfill::core {

// Where an entry stands in the log. Nothing is deleted from a log whose entries stay, so that no other entry
// comes to stand there, as long as the log has the same file.
struct LogEntry {
    std::uint32_t block = 0;
    std::uint16_t offset = 0;
};

class SeenEntries {
public:
    // `file` is the log's relfilenode: places in another file are others.
    void add(std::uint32_t file, const std::vector<LogEntry> &entries);
    bool has(std::uint32_t file, std::uint32_t block, std::uint16_t offset) const noexcept {
        if (file != file_ || block >= blocks_.size())
            return false;
        const std::vector<std::uint64_t> &words = blocks_[block];
        return offset / 64U < words.size() && (words[offset / 64U] >> (offset % 64U) & 1U) != 0;
    }

private:
    std::uint32_t file_ = 0;
    std::vector<std::vector<std::uint64_t>> blocks_; // a bit for each offset
};

} // namespace partbackfill::core
