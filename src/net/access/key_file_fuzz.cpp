// Files of keys from anybody: read or refused, and what is read keeps to the limits.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/access/key_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto keys = celslm::parse_keys({reinterpret_cast<const char*>(data), size});
  if (!keys) return 0;
  if (keys->size() > celslm::kMaxKeys) std::abort();
  for (const celslm::AccessKey& key : *keys) {
    if (key.name.empty() || !celslm::is_key_name(key.name) || !celslm::is_key_name(key.tenant)) std::abort();
    if (key.limits.concurrency < 0 || key.limits.concurrency > celslm::kMaxKeyLimit) std::abort();
  }
  return 0;
}
