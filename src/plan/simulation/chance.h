// Random numbers that are the same with every standard library: those of <random> are left to its distributions' authors.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>

namespace celslm {

class Chance {
 public:
  explicit Chance(std::uint64_t seed) : generator_(seed) {}
  // From [0, 1).
  double uniform() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }
  double exponential(double mean) { return -mean * std::log1p(-uniform()); }
  int below(int n) { return static_cast<int>(uniform() * n); }  // from [0, n)

 private:
  std::mt19937_64 generator_;
};

}  // namespace celslm
