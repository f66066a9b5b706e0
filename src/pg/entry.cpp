#include "partbackfill/pg/server.hpp"

#include <cstring>
#include <new>

#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/error.hpp"
#include "partbackfill/pg/settings.hpp"

namespace partbackfill::pg {

namespace {

// An error as plain data, on no C++ heap: it outlives the catch block.
struct Report {
    bool raised;
    int code;
    char *message;
    char *detail;
    char *hint;
    char *context;
};

// Never jumps: called inside a catch block, where a jump would leak the
// exception in flight.
char *plain_copy(const std::string &text) noexcept {
    if (text.empty())
        return nullptr;
    auto *copy = static_cast<char *>(MemoryContextAllocExtended(CurrentMemoryContext, text.size() + 1,
                                                                MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE));
    if (copy != nullptr)
        std::memcpy(copy, text.c_str(), text.size() + 1);
    return copy;
}

Report report_of(const ErrorFields &fields) noexcept {
    return {true,
            fields.code,
            plain_copy(fields.message),
            plain_copy(fields.detail),
            plain_copy(fields.hint),
            plain_copy(fields.context)};
}

Report report_of_text(int code, const char *text) noexcept {
    Report report{};
    report.raised = true;
    report.code = code;
    auto *copy = static_cast<char *>(
        MemoryContextAllocExtended(CurrentMemoryContext, std::strlen(text) + 1, MCXT_ALLOC_NO_OOM));
    if (copy != nullptr)
        std::strcpy(copy, text);
    report.message = copy;
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

void report_if_raised(const Report &report) {
    if (!report.raised)
        return;
    // The context of an error of the server is complete already: rethrowing it
    // (rather than reporting anew) keeps the callers' lines from doubling.
    if (report.context != nullptr) {
        auto *error = static_cast<ErrorData *>(palloc0(sizeof(ErrorData)));
        error->elevel = ERROR;
        error->output_to_server = true;
        error->output_to_client = true;
        error->sqlerrcode = report.code;
        error->message = report.message != nullptr ? report.message : pstrdup("out of memory");
        error->detail = report.detail;
        error->hint = report.hint;
        error->context = report.context;
        error->assoc_context = CurrentMemoryContext;
        ReThrowError(error);
    }
    ereport(ERROR, (errcode(report.code),
                    errmsg_internal("%s", report.message != nullptr ? report.message : "out of memory"),
                    report.detail != nullptr ? errdetail_internal("%s", report.detail) : 0,
                    report.hint != nullptr ? errhint("%s", report.hint) : 0));
}

} // namespace

Datum enter(Implementation implementation, FunctionCallInfo fcinfo) {
    Datum result = 0;
    const Report report = contain([&] {
        const PinnedCall pinned;
        result = implementation(fcinfo);
    });
    report_if_raised(report);
    return result;
}

void enter_worker(void (*function)(void *), void *argument) {
    const Report report = contain([&] {
        pin_session_path();
        function(argument);
    });
    report_if_raised(report);
}

void enter_callback(void (*function)(void *), void *argument) {
    const Report report = contain([&] {
        const PinnedPath pinned;
        function(argument);
    });
    report_if_raised(report);
}

} // namespace partbackfill::pg
