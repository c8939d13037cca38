// Untrusted tunings. A signature would reject every mutated file, so what was read is also encoded without one and read
// again.
#include <cstdlib>

#include "align/tuning/gate.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  auto tuning = parse_tuning(std::as_bytes(std::span(data, size)));
  if (!tuning) return 0;
  require(check_tuning(*tuning).has_value());
  require(tuning->constants.id == tuning_id(*tuning));
  if (const auto gate = gate_of(*tuning)) require(!describe(*gate).empty());
  tuning->signature.reset();
  const auto again = parse_tuning(encode_tuning(*tuning));
  require(again.has_value());
  require(again->constants.id == tuning->constants.id);
  return 0;
}
