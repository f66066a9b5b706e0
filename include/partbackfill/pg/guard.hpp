// Crossing from C++ into the server.
//
// The server reports errors by longjmp, which skips destructors. Every server
// call that can report one therefore runs inside guard(): the jump ends there
// and goes on as a C++ exception that carries the whole error.
//
// Rules for the callable: its locals and its result are trivially destructible. A C++
// exception may leave it.
// A caught server error must be followed by an abort of the transaction (or of
// a subtransaction): the server's state is undefined until then.
#pragma once

#include <exception>
#include <type_traits>
#include <utility>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

namespace detail {
// Runs thunk(argument); returns nullptr, or the error that the server reported.
ErrorData *try_call(void (*thunk)(void *), void *argument);
// Frees the error and throws it as Error.
[[noreturn]] void throw_error(ErrorData *error);

template <class F>
struct Call {
    F *function;
    std::exception_ptr *thrown;
    static void run(void *self) {
        auto *call = static_cast<Call *>(self);
        try {
            (*call->function)();
        } catch (...) {
            *call->thrown = std::current_exception();
        }
    }
};

template <class F>
void guard_void(F &&function) {
    std::exception_ptr thrown;
    Call<std::remove_reference_t<F>> call{&function, &thrown};
    if (ErrorData *error = try_call(&decltype(call)::run, &call))
        throw_error(error);
    if (thrown)
        std::rethrow_exception(thrown);
}
} // namespace detail

template <class F>
auto guard(F &&function) {
    using Result = std::invoke_result_t<F &>;
    if constexpr (std::is_void_v<Result>) {
        detail::guard_void(std::forward<F>(function));
    } else {
        static_assert(std::is_trivially_destructible_v<Result>,
                      "a longjmp would skip the destructor of what the guarded call returns");
        Result result{};
        auto assign = [&] { result = function(); };
        detail::guard_void(assign);
        return result;
    }
}

// Runs thunk(argument) in a destructor, and turns an error of the server into a WARNING in
// the log: a destructor can do nothing else with it.
void guard_noexcept(void (*thunk)(void *), void *argument) noexcept;

} // namespace partbackfill::pg
