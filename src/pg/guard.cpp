#include "partbackfill/pg/server.hpp"

#include "partbackfill/pg/guard.hpp"

namespace partbackfill::pg {

namespace {

// The error that is reported when the error itself could not be copied (out of memory
// while handling it): static, because there is nowhere to allocate.
ErrorData *last_resort() noexcept {
    static ErrorData fallback;
    fallback = {};
    fallback.elevel = ERROR;
    fallback.sqlerrcode = ERRCODE_OUT_OF_MEMORY;
    fallback.message = const_cast<char *>("out of memory while copying an error");
    return &fallback;
}

// Copies the error that was reported; CopyErrorData allocates, and can fail in its turn.
ErrorData *copy_error(MemoryContext context) {
    sigjmp_buf *outer_stack = PG_exception_stack;
    sigjmp_buf inner;
    ErrorData *volatile copied = nullptr;

    MemoryContextSwitchTo(context);
    if (sigsetjmp(inner, 0) == 0) {
        PG_exception_stack = &inner;
        copied = CopyErrorData();
    } else {
        copied = last_resort();
    }
    PG_exception_stack = outer_stack;
    MemoryContextSwitchTo(context);
    FlushErrorState();
    return copied;
}

std::string text_or_empty(const char *text) {
    return text != nullptr ? text : "";
}

ErrorFields fields_of(const ErrorData &error) {
    ErrorFields fields;
    fields.code = error.sqlerrcode;
    fields.message = text_or_empty(error.message);
    fields.detail = text_or_empty(error.detail);
    fields.detail_log = text_or_empty(error.detail_log);
    fields.hint = text_or_empty(error.hint);
    fields.context = text_or_empty(error.context);
    fields.schema = text_or_empty(error.schema_name);
    fields.table = text_or_empty(error.table_name);
    fields.column = text_or_empty(error.column_name);
    fields.datatype = text_or_empty(error.datatype_name);
    fields.constraint = text_or_empty(error.constraint_name);
    fields.position = error.cursorpos;
    fields.internal_position = error.internalpos;
    fields.internal_query = text_or_empty(error.internalquery);
    fields.file = text_or_empty(error.filename);
    fields.line = error.lineno;
    fields.function = text_or_empty(error.funcname);
    return fields;
}

} // namespace

ErrorData *detail::try_call(void (*thunk)(void *), void *argument) {
    sigjmp_buf *outer_stack = PG_exception_stack;
    ErrorContextCallback *outer_context = error_context_stack;
    MemoryContext memory = CurrentMemoryContext;
    sigjmp_buf here;

    if (sigsetjmp(here, 0) == 0) {
        PG_exception_stack = &here;
        thunk(argument);
        PG_exception_stack = outer_stack;
        error_context_stack = outer_context;
        return nullptr;
    }
    PG_exception_stack = outer_stack;
    error_context_stack = outer_context;
    return copy_error(memory);
}

void detail::throw_error(ErrorData *error) {
    ErrorFields fields = fields_of(*error);
    if (error != last_resort())
        FreeErrorData(error);
    throw Error(std::move(fields));
}

void guard_noexcept(void (*thunk)(void *), void *argument) noexcept {
    try {
        if (ErrorData *error = detail::try_call(thunk, argument))
            detail::throw_error(error);
    } catch (const std::exception &e) {
        // WARNING does not jump; its text is copied by the server at once.
        elog(WARNING, "partbackfill: %s", e.what());
    } catch (...) {
        elog(WARNING, "partbackfill: an error of no known kind");
    }
}

} // namespace partbackfill::pg
