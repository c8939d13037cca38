// Untrusted studied contexts: what is read is valid, and the same again when it has been written.
#include <cstdlib>

#include "kv/studied/studied.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  const auto studied = parse_studied(std::as_bytes(std::span(data, size)));
  if (!studied) return 0;
  if (!check_studied(*studied)) std::abort();
  const Bytes once = encode_studied(*studied);
  const auto again = parse_studied(once);
  if (!again || encode_studied(*again) != once) std::abort();
  return 0;
}
