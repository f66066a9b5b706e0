#include "partbackfill/swap/hazard.hpp"

namespace partbackfill::swap {

std::vector<Hazard> find_hazards(const std::string &sql, const pg::Params &params) {
    std::vector<Hazard> hazards;
    for (const pg::Row &row : pg::query(sql, params).rows)
        hazards.push_back({row.oid(0), row.text(1)});
    return hazards;
}

} // namespace partbackfill::swap
