// Tree walkers and mutators as the server's functions want them, which take a pointer to
// any function before 16. To be included after server.hpp.
#pragma once

#include "partbackfill/pg/server.hpp"

extern "C" {
#include "nodes/nodeFuncs.h"
}

namespace partbackfill::pg {

#if PG_VERSION_NUM >= 160000
inline tree_walker_callback as_walker(bool (*walker)(Node *, void *)) {
    return walker;
}
inline tree_mutator_callback as_mutator(Node *(*mutator)(Node *, void *)) {
    return mutator;
}
#else
using AnyWalker = bool (*)();
inline AnyWalker as_walker(bool (*walker)(Node *, void *)) {
    return reinterpret_cast<AnyWalker>(reinterpret_cast<void (*)()>(walker));
}
using AnyMutator = Node *(*)();
inline AnyMutator as_mutator(Node *(*mutator)(Node *, void *)) {
    return reinterpret_cast<AnyMutator>(reinterpret_cast<void (*)()>(mutator));
}
#endif

} // namespace partbackfill::pg
