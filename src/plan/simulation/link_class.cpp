#include "plan/simulation/link_class.h"

#include <algorithm>
#include <array>

namespace celslm {
namespace {

constexpr double mbit_per_s(double rate) {
  return rate * 1e6 / 8;
}

constexpr std::array<LinkClass, 7> kClasses{{
    {"lte", mbit_per_s(20), 0.050},
    {"satellite", mbit_per_s(60), 0.045},
    {"cable", mbit_per_s(100), 0.025},
    {"5g", mbit_per_s(150), 0.020},
    {"wifi", mbit_per_s(300), 0.005},
    {"fibre", mbit_per_s(1000), 0.008},
    {"lan", mbit_per_s(10'000), 0.0005},
}};

}  // namespace

std::span<const LinkClass> link_classes() {
  return kClasses;
}

std::optional<LinkClass> find_link_class(std::string_view name) {
  const auto it = std::ranges::find(kClasses, name, &LinkClass::name);
  return it == kClasses.end() ? std::nullopt : std::optional(*it);
}

}  // namespace celslm
