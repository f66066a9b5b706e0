// Functions that cross the boundary in every way it can be crossed.
#include "partbackfill/pg/server.hpp"

extern "C" {
PG_MODULE_MAGIC;
#include "utils/resowner.h"
}

#include <new>
#include <stdexcept>

#include "partbackfill/pg/arguments.hpp"
#include "partbackfill/pg/entry.hpp"
#include "partbackfill/pg/guard.hpp"
#include "partbackfill/pg/query.hpp"
#include "partbackfill/pg/results.hpp"

using namespace partbackfill;

namespace {

int destroyed = 0;

struct Counted {
    ~Counted() { destroyed++; }
};

// Objects above the guard at every level of a nest of statements.
void run_nested(const std::string &sql) {
    const Counted here;
    const std::string on_the_heap(1000, 'x');
    pg::query(sql);
    const Counted never_made_when_it_fails;
}

} // namespace

// Runs a statement; an error of it passes through C++ and out again.
PARTBACKFILL_FUNCTION(boundary_run) {
    const pg::Arguments arguments(fcinfo);
    run_nested(arguments.string(0, "sql"));
    PG_RETURN_INT32(0);
}

PARTBACKFILL_FUNCTION(boundary_destroyed) {
    PG_RETURN_INT32(destroyed);
}

// Runs a statement in a subtransaction and returns its error in words.
PARTBACKFILL_FUNCTION(boundary_catch) {
    const pg::Arguments arguments(fcinfo);
    const std::string sql = arguments.string(0, "sql");
    const MemoryContext memory = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;
    pg::guard([&] {
        BeginInternalSubTransaction(nullptr);
        MemoryContextSwitchTo(memory);
    });
    std::string caught = "no error";
    try {
        run_nested(sql);
    } catch (const pg::Error &error) {
        const pg::ErrorFields &f = error.fields();
        caught =
            pg::sqlstate_text(f.code) + "|" + f.message + "|" + f.detail + "|" + f.hint + "|" + f.context;
    }
    pg::guard([&] {
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(memory);
        CurrentResourceOwner = owner;
    });
    return pg::return_text(caught);
}

// The same n times; how often an error was caught.
PARTBACKFILL_FUNCTION(boundary_storm) {
    const pg::Arguments arguments(fcinfo);
    const int n = arguments.integer(0, "n");
    int caught = 0;
    for (int i = 0; i < n; i++)
        try {
            pg::guard([] { ereport(ERROR, (errmsg("one of many"))); });
        } catch (const pg::Error &) {
            caught++;
        }
    PG_RETURN_INT32(caught);
}

PARTBACKFILL_FUNCTION(boundary_throw) {
    const pg::Arguments arguments(fcinfo);
    const std::string kind = arguments.string(0, "kind");
    const Counted here;
    if (kind == "bad_alloc")
        throw std::bad_alloc();
    if (kind == "runtime_error")
        throw std::runtime_error("a runtime error: 100%s");
    if (kind == "int")
        throw 42;
    if (kind == "error")
        pg::raise(pg::sqlstate("22012"), "a message", "A detail.", "A hint.");
    if (kind == "all fields") {
        pg::ErrorFields fields;
        fields.message = "a message";
        fields.schema = "a schema";
        fields.table = "a table";
        fields.column = "a column";
        fields.datatype = "a type";
        fields.constraint = "a constraint";
        fields.internal_query = "a größer query";
        fields.internal_position = 10;
        throw pg::Error(std::move(fields));
    }
    if (kind == "inside guard")
        pg::guard([] { throw std::runtime_error("from inside the guard"); });
    if (kind == "huge")
        throw std::runtime_error(std::string(1 << 20, 'x'));
    PG_RETURN_INT32(0);
}
