// All parsers of text from a peer that are our own: ranges, paths, queries.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/http_types.h"
#include "net/router.h"

namespace {

using namespace celslm;

void check(bool condition) {
  if (!condition) std::abort();
}

void fuzz_range(std::string_view text) {
  for (const std::uint64_t size : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1000}, UINT64_MAX}) {
    const auto range = parse_range(text, size);
    if (range && *range) check((*range)->first < (*range)->end && (*range)->end <= size);
  }
}

void fuzz_router(std::string_view text) {
  static const Router router = [] {
    Router out;
    out.add("GET", "/packs/:context/:model", [](const HttpRequest&) { return HttpResponse{}; });
    out.add("POST", "/packs", [](const HttpRequest&) { return HttpResponse{}; });
    return out;
  }();
  const Router::Match match = router.find("GET", text);
  check((match.status == 200) == (match.handler != nullptr));
  for (const auto& [name, value] : match.parameters) check(match.status != 200 || !value.empty());
}

void fuzz_query(std::string_view text) {
  const auto query = parse_query(text);
  if (!query) return;
  for (const auto& [name, value] : *query) {
    for (const char c : name + value) check(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz_range(text);
  fuzz_router(text);
  fuzz_query(text);
  return 0;
}
