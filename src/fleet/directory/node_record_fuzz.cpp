// What nodes write into the directory: a record or list that is taken is the same again when it has been written.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fleet/directory/held_packs.h"
#include "fleet/directory/node_address.h"
#include "fleet/directory/node_record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace celslm;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto record = parse_node_record(text)) {
    if (!is_node_id(record->id) || !check_node_url(record->url)) std::abort();
    const auto again = parse_node_record(to_json_text(*record));
    if (!again || *again != *record) std::abort();
  }
  if (const auto packs = parse_held_packs(text)) {
    const auto again = parse_held_packs(to_json_text(*packs));
    if (!again || *again != *packs) std::abort();
  }
  if (check_node_url(text) && text.size() > kMaxNodeUrlBytes) std::abort();
  return 0;
}
