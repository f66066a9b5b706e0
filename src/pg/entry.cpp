#include "partbackfill/pg/server.hpp"

extern "C" {
#include "tcop/tcopprot.h"
#include "utils/guc.h"
}

#include <cstring>
#include <new>
#include <string_view>

#include "partbackfill/pg/compatibility.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/search_path.hpp"

namespace partbackfill::pg {

namespace {

// An error as plain data, on no C++ heap: it outlives the catch block.
struct Report {
    bool raised;
    ErrorData error;
};

// Never jumps: called inside a catch block, where a jump would leak the
// exception in flight. nullptr for no text, and where there is no memory for it.
char *plain_copy(std::string_view text) noexcept {
    if (text.empty())
        return nullptr;
    auto *copy = static_cast<char *>(MemoryContextAllocExtended(CurrentMemoryContext, text.size() + 1,
                                                                MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE));
    if (copy == nullptr)
        return nullptr;
    std::memcpy(copy, text.data(), text.size());
    copy[text.size()] = '\0';
    return copy;
}

// The level for the server's log has one value for each kind of process since version 19.
bool errors_are_logged() noexcept {
#if PG_VERSION_NUM >= 190000
    const int least = log_min_messages[MyBackendType];
#else
    const int least = log_min_messages;
#endif
    return least <= ERROR && least != LOG;
}

Report report_of_text(int code, std::string_view message) noexcept {
    Report report{};
    report.raised = true;
    report.error.elevel = ERROR;
    // ReThrowError takes these as they are. A worker has no client, and would raise another error on
    // its way to one.
    report.error.output_to_server = errors_are_logged();
    report.error.output_to_client = whereToSendOutput == DestRemote;
    report.error.sqlerrcode = code;
    report.error.message = plain_copy(message);
    if (report.error.message == nullptr)
        report.error.message = const_cast<char *>("out of memory");
    report.error.assoc_context = CurrentMemoryContext;
    return report;
}

Report report_of(const ErrorFields &fields) noexcept {
    Report report = report_of_text(fields.code, fields.message);
    ErrorData &error = report.error;
    error.detail = plain_copy(fields.detail);
    error.detail_log = plain_copy(fields.detail_log);
    error.hint = plain_copy(fields.hint);
    error.context = plain_copy(fields.context);
    error.schema_name = plain_copy(fields.schema);
    error.table_name = plain_copy(fields.table);
    error.column_name = plain_copy(fields.column);
    error.datatype_name = plain_copy(fields.datatype);
    error.constraint_name = plain_copy(fields.constraint);
    error.internalpos = fields.internal_position;
    error.internalquery = plain_copy(fields.internal_query);
    error.filename = plain_copy(fields.file);
    error.lineno = fields.line;
    error.funcname = plain_copy(fields.function);
    return report;
}

template <class F>
Report contain(F &&function) {
    try {
        function();
        return {};
    } catch (const Error &e) {
        return report_of(e.fields());
    } catch (const std::bad_alloc &) {
        return report_of_text(ERRCODE_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception &e) {
        return report_of_text(ERRCODE_INTERNAL_ERROR, e.what());
    } catch (...) {
        return report_of_text(ERRCODE_INTERNAL_ERROR, "unexpected C++ exception");
    }
}

void report_if_raised(Report &report) {
    if (!report.raised)
        return;
    // The context of an error that the server has reported is complete already: reported
    // anew, it would get the callers' lines once more.
    if (report.error.filename != nullptr)
        ReThrowError(&report.error);
    report.error.filename = __FILE__;
    report.error.lineno = __LINE__;
    report.error.funcname = __func__;
    ThrowErrorData(&report.error);
}

} // namespace

Datum enter(Implementation implementation, FunctionCallInfo fcinfo) {
    Datum result = 0;
    Report report = contain([&] {
        const PinnedCall pinned;
        require_version();
        result = implementation(fcinfo);
    });
    report_if_raised(report);
    return result;
}

Datum enter_any_version(Implementation implementation, FunctionCallInfo fcinfo) {
    Datum result = 0;
    Report report = contain([&] {
        const PinnedCall pinned;
        result = implementation(fcinfo);
    });
    report_if_raised(report);
    return result;
}

void enter_worker(void (*function)(void *), void *argument) {
    Report report = contain([&] {
        pin_session_path();
        function(argument);
    });
    report_if_raised(report);
}

void enter_callback(void (*function)(void *), void *argument) {
    Report report = contain([&] {
        const PinnedPath pinned;
        function(argument);
    });
    report_if_raised(report);
}

} // namespace partbackfill::pg
