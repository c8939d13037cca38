// Kinds of links by which edges reach clouds, for simulations.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace celslm {

struct LinkClass {
  std::string_view name;
  double down_bytes_per_s = 0;  // towards the edge
  double round_trip_s = 0;
};

// From the slowest to the fastest; typical figures, not those of one provider (docs/simulator.md).
std::span<const LinkClass> link_classes();
std::optional<LinkClass> find_link_class(std::string_view name);

}  // namespace celslm
