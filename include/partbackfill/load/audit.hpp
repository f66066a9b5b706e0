// Audits: queries of the caller's about a partition that is built, which must give no row before it is
// swapped.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "partbackfill/catalog/partitions.hpp"
#include "partbackfill/core/placeholders.hpp"

namespace partbackfill::load {

// What an audit's placeholders stand for: names as they are given, quoted and with a schema, and bounds as
// literals or NULL.
core::Placeholders audit_names(const std::string &shadow, const std::string &live,
                               const std::optional<std::string> &range_start,
                               const std::optional<std::string> &range_end);

// Whether the audit names the live partition.
bool reads_live(const std::string &audit);

// Parses and plans each audit as the caller, with a partition of the target in the place of its shadow,
// which has the same columns. Raises what is wrong, with the number of the audit and the position in it:
// anything but one query that only reads. ACCESS SHARE on what the audits name.
void check_audits(const std::vector<std::string> &audits, const catalog::Target &target);

// Asks the audit with that number, from 1, in a transaction that is read-only for it, by a snapshot taken
// now. Returns its first row as text, "k = 1, v = NULL", long values cut; nothing when it gives none. An
// error names the audit. ACCESS SHARE on what the audit reads, to the end of the transaction.
std::optional<std::string> audited_row(std::size_t number, const std::string &audit,
                                       const core::Placeholders &names);

} // namespace partbackfill::load
