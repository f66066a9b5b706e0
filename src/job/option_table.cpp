#include "partbackfill/job/option_table.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "partbackfill/job/option_values.hpp"
#include "partbackfill/swap/method.hpp"

namespace partbackfill::job {

namespace {

// A month is as good as for ever, and what clocks and settings count in does not overflow.
constexpr Milliseconds kLongest = std::chrono::hours(24 * 24);

Milliseconds milliseconds(double seconds) {
    const double longest = std::chrono::duration<double>(kLongest).count();
    return Milliseconds(std::llround(std::min(seconds, longest) * 1000));
}

void take(bool &value, const pg::Row &row, const std::string &name) {
    value = row.boolean(name);
}
void take(int &value, const pg::Row &row, const std::string &name) {
    value = static_cast<int>(row.integer(name));
}
void take(double &value, const pg::Row &row, const std::string &name) {
    value = row.number(name);
}
void take(std::optional<std::string> &value, const pg::Row &row, const std::string &name) {
    value = row.field(name);
}
// No limit is NULL in the table and 0 in the program.
void take(std::int64_t &value, const pg::Row &row, const std::string &name) {
    value = row.is_null(name) ? 0 : row.integer(name);
}

template <class Base, class T>
OptionColumn plain(const std::string &name, T Base::*field) {
    return {name, "{}", name, [field](const Options &options) { return pg::Param(options.*field); },
            [field, name](Options &options, const pg::Row &row) { take(options.*field, row, name); }};
}

template <class Base>
Option flag(const char *name, bool Base::*field, Altered altered = Altered::never) {
    return {name,
            altered,
            [=](Options &options, const pg::Arguments &arguments, int i) {
                options.*field = arguments.boolean(i, name);
            },
            {plain(name, field)}};
}

template <class Base>
Option count(const char *name, int Base::*field, Altered altered = Altered::never) {
    return {name,
            altered,
            [=](Options &options, const pg::Arguments &arguments, int i) {
                options.*field = checked_count(name, arguments.integer(i, name));
            },
            {plain(name, field)}};
}

template <class Base>
Option interval(const char *name, Milliseconds Base::*field, Altered altered) {
    const std::string column = name;
    return {
        name,
        altered,
        [=](Options &options, const pg::Arguments &arguments, int i) {
            options.*field = milliseconds(arguments.seconds(i, name));
        },
        {{column, "make_interval(secs => {})", fmt::format("date_part('epoch', {0}) AS {0}", column),
          [=](const Options &options) {
              return pg::Param(std::chrono::duration<double>(options.*field).count());
          },
          [=](Options &options, const pg::Row &row) { options.*field = milliseconds(row.number(column)); }}}};
}

// An option with a name for each of its values.
template <class Base, class T>
Option choice(const char *name, T Base::*field, std::vector<std::pair<const char *, T>> values) {
    const std::string column = name;
    std::vector<std::string> names;
    names.reserve(values.size());
    for (const auto &[value_name, value] : values)
        names.emplace_back(value_name);
    const auto value_of = [values](const std::string &wanted) {
        return std::find_if(values.begin(), values.end(),
                            [&](const auto &value) { return wanted == value.first; })
            ->second;
    };
    const auto name_of = [values](const T &wanted) -> std::string {
        return std::find_if(values.begin(), values.end(),
                            [&](const auto &value) { return wanted == value.second; })
            ->first;
    };
    return {
        name,
        Altered::never,
        [=](Options &options, const pg::Arguments &arguments, int i) {
            options.*field = value_of(checked_choice(name, arguments.string(i, name), names));
        },
        {{column, "{}", column, [=](const Options &options) { return pg::Param(name_of(options.*field)); },
          [=](Options &options, const pg::Row &row) {
              options.*field = value_of(checked_choice(name, row.text(column), names));
          }}}};
}

Option nice_ratio() {
    const char *name = "nice_ratio";
    return {name,
            Altered::within_build,
            [=](Options &options, const pg::Arguments &arguments, int i) {
                options.nice_ratio = checked_nice_ratio(arguments.number(i, name));
            },
            {plain(name, &Options::nice_ratio)}};
}

Option max_wal_rate() {
    const char *name = "max_wal_rate";
    OptionColumn column = plain(name, &Options::max_wal_rate);
    column.stored = "NULLIF({}, 0)";
    return {name,
            Altered::within_build,
            [=](Options &options, const pg::Arguments &arguments, int i) {
                options.max_wal_rate = parsed_wal_rate(arguments.optional_text(i, name));
            },
            {std::move(column)}};
}

Option max_replica_lag() {
    const char *name = "max_replica_lag";
    return {
        name,
        Altered::within_build,
        [=](Options &options, const pg::Arguments &arguments, int i) {
            options.max_replica_lag = checked_replica_lag(arguments.optional_seconds(i, name));
        },
        {{name, "NULLIF(make_interval(secs => {}), '0')", fmt::format("date_part('epoch', {0}) AS {0}", name),
          [](const Options &options) { return pg::Param(options.max_replica_lag.value_or(0)); },
          [=](Options &options, const pg::Row &row) {
              options.max_replica_lag = row.is_null(name) ? std::nullopt : std::optional(row.number(name));
          }}}};
}

Option throttle_query() {
    const char *name = "throttle_query";
    return {name,
            Altered::within_build,
            [=](Options &options, const pg::Arguments &arguments, int i) {
                options.throttle_query = checked_throttle_query(arguments.optional_text(i, name));
            },
            {plain(name, &Options::throttle_query)}};
}

Option min_free_disk() {
    const char *name = "min_free_disk";
    const char *bytes = "min_free_disk_bytes";
    const char *ratio = "min_free_disk_ratio";
    return {name,
            Altered::within_build,
            [=](Options &options, const pg::Arguments &arguments, int i) {
                options.min_free_disk = parsed_free_disk(arguments.optional_text(i, name));
            },
            {{bytes, "NULLIF({}, 0)", bytes,
              [](const Options &options) { return pg::Param(options.min_free_disk.bytes); },
              [=](Options &options, const pg::Row &row) { take(options.min_free_disk.bytes, row, bytes); }},
             {ratio, "NULLIF({}, 0)", ratio,
              [](const Options &options) { return pg::Param(options.min_free_disk.share); },
              [=](Options &options, const pg::Row &row) {
                  options.min_free_disk.share = row.is_null(ratio) ? 0 : row.number(ratio);
              }}}};
}

Option audits() {
    return {"audits",
            Altered::never,
            [](Options &options, const pg::Arguments &arguments, int i) {
                options.audits = checked_audits(arguments.texts(i, "audits"));
            },
            {}};
}

Option swap_option() {
    const std::string name = "swap";
    return {"swap",
            Altered::never,
            [=](Options &options, const pg::Arguments &arguments, int i) {
                options.swap = swap::checked_method(arguments.string(i, name.c_str()));
            },
            {{name, "{}", name, [](const Options &options) { return pg::Param(options.swap); },
              [=](Options &options, const pg::Row &row) { options.swap = row.text(name); }}}};
}

Option label() {
    const char *name = "label";
    return {name,
            Altered::never,
            [=](Options &options, const pg::Arguments &arguments, int i) {
                options.label = checked_label(arguments.optional_text(i, name));
            },
            {plain(name, &Options::label)}};
}

} // namespace

const std::vector<Option> &option_table() {
    static const std::vector<Option> table{
        flag("newest_first", &Options::newest_first),
        count("workers", &Options::workers, Altered::between_steps),
        interval("delay", &Options::delay, Altered::between_steps),
        nice_ratio(),
        max_wal_rate(),
        max_replica_lag(),
        throttle_query(),
        min_free_disk(),
        choice("on_write", &Options::on_write,
               {{"rebuild", OnWrite::rebuild},
                {"catch_up", OnWrite::catch_up},
                {"block", OnWrite::block},
                {"ignore", OnWrite::ignore}}),
        audits(),
        choice("on_error", &Options::stop_on_error, {{"continue", false}, {"stop", true}}),
        count("max_attempts", &Options::max_attempts),
        swap_option(),
        choice("publish", &Options::publish,
               {{"each", Publish::each}, {"together", Publish::together}, {"manual", Publish::manual}}),
        flag("keep_old", &Options::keep_old),
        interval("lock_timeout", &Options::lock_timeout, Altered::between_steps),
        interval("swap_patience", &Options::swap_patience, Altered::between_steps),
        label(),
        flag("skip_triggers", &Options::skip_triggers),
        flag("allow_shrink", &Options::allow_shrink, Altered::between_steps),
    };
    return table;
}

Options read_options(const pg::Arguments &arguments, int first) {
    Options options;
    for (const Option &option : option_table())
        option.read(options, arguments, first++);
    return options;
}

bool Alteration::gives(const std::string &name) const {
    return std::any_of(given.begin(), given.end(),
                       [&](const Option *option) { return name == option->name; });
}

Alteration read_alteration(const pg::Arguments &arguments, int first) {
    Alteration alteration;
    int i = first;
    for (const Option &option : option_table()) {
        if (option.altered == Altered::never)
            continue;
        if (!arguments.is_null(i)) {
            option.read(alteration.values, arguments, i);
            alteration.given.push_back(&option);
        }
        i++;
    }
    return alteration;
}

std::vector<Assignment> assignments(const Options &values, const std::vector<const Option *> &options,
                                    pg::Params &params) {
    std::vector<Assignment> found;
    for (const Option *option : options)
        for (const OptionColumn &column : option->columns) {
            params.push_back(column.get(values));
            const std::string parameter = fmt::format("${}", params.size());
            found.push_back({column.name, fmt::format(fmt::runtime(column.stored), parameter)});
        }
    return found;
}

const std::string &step_option_list() {
    static const std::string list = [] {
        std::string text;
        for (const Option &option : option_table())
            if (option.altered != Altered::within_build)
                for (const OptionColumn &column : option.columns)
                    text += (text.empty() ? "" : ", ") + column.selected;
        return text;
    }();
    return list;
}

StepOptions step_options(const pg::Row &row) {
    Options options;
    for (const Option &option : option_table())
        if (option.altered != Altered::within_build)
            for (const OptionColumn &column : option.columns)
                column.set(options, row);
    return static_cast<StepOptions &>(options);
}

std::vector<std::string> throttle_columns() {
    std::vector<std::string> names;
    for (const Option &option : option_table())
        if (option.altered == Altered::within_build)
            for (const OptionColumn &column : option.columns)
                names.push_back(column.name);
    return names;
}

ThrottleSettings throttle_settings(const pg::Row &row) {
    Options options;
    for (const Option &option : option_table())
        if (option.altered == Altered::within_build)
            for (const OptionColumn &column : option.columns)
                column.set(options, row);
    return static_cast<ThrottleSettings &>(options);
}

} // namespace partbackfill::job
