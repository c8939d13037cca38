// Links of keys from a peer: what is read is written as it was, and is followed or refused.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "kv/pack/key_chain.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  const auto link = KeyLink::from_text({reinterpret_cast<const char*>(data), size});
  if (!link) return 0;
  const auto again = KeyLink::from_text(link->text());
  if (!again || *again != *link) std::abort();
  const auto led = follow(link->from, std::span(&*link, 1));
  if (led && *led != link->to) std::abort();
  return 0;
}
