// A limit on the time that statements may take.
#pragma once

#include <chrono>

#include "partbackfill/pg/error.hpp"

namespace partbackfill::pg {

// Within the object's life, what runs after the limit is canceled, as by a user's request. One at a
// time.
class Deadline {
public:
    explicit Deadline(std::chrono::milliseconds limit);
    ~Deadline();
    Deadline(const Deadline &) = delete;
    Deadline &operator=(const Deadline &) = delete;

    // Whether the error came of the limit. A request that comes at the same time counts as that: who
    // goes on afterwards has to ask whether to stop.
    static bool is_over(const Error &error) noexcept;
};

} // namespace partbackfill::pg
