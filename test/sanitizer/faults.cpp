// Faults that the sanitizers have to find, each a function for SQL: test/setup/suites/sanitizer.sh.
extern "C" {
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;
}

#include <cstdlib>
#include <limits>
#include <stdexcept>

#define FAULT(name)                                                                                          \
    extern "C" {                                                                                             \
    PG_FUNCTION_INFO_V1(name);                                                                               \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                                                                \
    }                                                                                                        \
    Datum name([[maybe_unused]] PG_FUNCTION_ARGS)

namespace {

// Not known to the compiler, which would otherwise leave out what has no effect.
volatile int eight = 8;
volatile int sink;

void write_to_heap() {
    auto *bytes = new char[eight];
    bytes[eight] = 1;
    sink = bytes[0];
    delete[] bytes;
}

__attribute__((noinline)) void write_to_stack() {
    char bytes[8];
    char *volatile beyond = bytes + eight;
    *beyond = 1;
    sink = bytes[0];
}

__attribute__((noinline)) void throw_past(int depth) {
    volatile char watched[32];
    watched[depth % 32] = 1;
    if (depth == 0)
        throw std::runtime_error("thrown");
    throw_past(depth - 1);
    sink = watched[0];
}

__attribute__((noinline)) void jump_past(int depth) {
    volatile char watched[32];
    watched[depth % 32] = 1;
    if (depth == 0)
        elog(ERROR, "jump");
    jump_past(depth - 1);
    sink = watched[0];
}

void catch_exception() {
    try {
        throw_past(20);
    } catch (const std::exception &) {
        sink = 1;
    }
}

void catch_jump() {
    MemoryContext memory = CurrentMemoryContext;
    PG_TRY();
    { jump_past(20); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(memory);
        FlushErrorState();
    }
    PG_END_TRY();
}

} // namespace

FAULT(overflow_of_heap) {
    write_to_heap();
    return 0;
}

FAULT(use_after_free) {
    char *volatile bytes = new char[eight];
    bytes[0] = 1;
    delete[] bytes;
    sink = bytes[0];
    return 0;
}

FAULT(overflow_of_stack) {
    write_to_stack();
    return 0;
}

// Beyond the block in which the server's allocator has it.
FAULT(overflow_of_palloc) {
    auto *bytes = static_cast<char *>(palloc(1024 * 1024));
    bytes[1024 * 1024 + eight] = 1;
    return 0;
}

FAULT(overflow_of_integer) {
    int value = std::numeric_limits<int>::max() - 8;
    value += eight + 1;
    sink = value;
    return 0;
}

FAULT(overflow_after_throw) {
    catch_exception();
    write_to_heap();
    return 0;
}

FAULT(overflow_after_jump) {
    catch_jump();
    write_to_stack();
    return 0;
}

FAULT(sound) {
    for (int i = 0; i < 100; i++) {
        catch_exception();
        catch_jump();
    }
    return 0;
}
