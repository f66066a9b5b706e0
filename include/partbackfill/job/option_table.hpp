// The options of a job, each declared once: backfill_start, backfill_alter, and what reads and
// writes backfill_job, work from this table.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "partbackfill/job/options.hpp"
#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/query.hpp"

namespace partbackfill::job {

// A column of backfill_job that has an option, or a part of it.
struct OptionColumn {
    std::string name;
    std::string stored;   // SQL of the value to store; {} is the parameter
    std::string selected; // SQL of what set() reads, under the column's name
    std::function<pg::Param(const Options &)> get;
    std::function<void(Options &, const pg::Row &)> set;
};

enum class Altered {
    never,
    between_steps, // a worker obeys backfill_alter from its next step on
    within_build,  // a member of ThrottleSettings: obeyed within two seconds
};

struct Option {
    const char *name; // of the parameter
    Altered altered;
    // Reads the argument at that position, checked; an error that names the parameter.
    std::function<void(Options &, const pg::Arguments &, int)> read;
    std::vector<OptionColumn> columns; // none: the option has a reader and a writer of its own
};

// The options in the order of backfill_start's parameters. Those that can be altered have the
// same order in backfill_alter.
const std::vector<Option> &option_table();

// The options of a call of backfill_start, the first of which is the argument at `first`.
Options read_options(const pg::Arguments &arguments, int first);

// What a call of backfill_alter changes: the options that are given, and their values.
struct Alteration {
    Options values;
    std::vector<const Option *> given;
    bool gives(const std::string &name) const;
};
Alteration read_alteration(const pg::Arguments &arguments, int first);

// Columns with the SQL of their values, whose parameters are the last of `params`.
struct Assignment {
    std::string column;
    std::string value;
};
std::vector<Assignment> assignments(const Options &values, const std::vector<const Option *> &options,
                                    pg::Params &params);

// The select list that step_options() reads from, ", " between its items.
const std::string &step_option_list();
StepOptions step_options(const pg::Row &row);
// The columns that throttle_settings() reads from, as they stand in the table.
std::vector<std::string> throttle_columns();
ThrottleSettings throttle_settings(const pg::Row &row);

} // namespace partbackfill::job
