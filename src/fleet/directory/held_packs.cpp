#include "fleet/directory/held_packs.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr JsonLimits kLimits{.depth = 4, .values = 1024};
constexpr std::size_t kRevisionDigits = 32;

// {"models": {"<model id>": ["<handle>", …]}}
Status read_model(const Hash256& model, const json& handles, HeldPacks& out) {
  if (!handles.is_array()) return fail(ErrorKind::kInvalid, "a list of held packs has something else than lists");
  for (const json& handle : handles) {
    if (!handle.is_string()) return fail(ErrorKind::kInvalid, "a list of held packs has something else than handles");
    if (out.size() >= kMaxHeldPacks)
      return fail(ErrorKind::kInvalid, "a list of held packs has more than {} of them", kMaxHeldPacks);
    CELSLM_TRY(const Hash256 context, Hash256::from_hex(handle.get_ref<const std::string&>()));
    out.push_back({.context = context, .model = model});
  }
  return {};
}

}  // namespace

std::string to_json_text(std::span<const HeldPack> packs) {
  packs = packs.first(std::min(packs.size(), kMaxHeldPacks));
  std::map<std::string, json> models;
  HeldPacks sorted(packs.begin(), packs.end());
  std::ranges::sort(sorted);
  for (const HeldPack& pack : sorted) {
    json& list = models.try_emplace(pack.model.hex(), json::array()).first->second;
    list.push_back(pack.context.hex());
  }
  return dump_json({{"models", models}});
}

Result<HeldPacks> parse_held_packs(std::string_view text) {
  if (text.size() > kMaxHeldListBytes)
    return fail(ErrorKind::kInvalid, "a list of held packs has more than {} bytes", kMaxHeldListBytes);
  CELSLM_TRY(const json object, parse_object(text, kLimits));
  const auto models = object.find("models");
  if (models == object.end() || !models->is_object())
    return fail(ErrorKind::kInvalid, "field 'models' of a list of held packs must be an object");
  HeldPacks out;
  for (const auto& [name, handles] : models->items()) {
    CELSLM_TRY(const Hash256 model, Hash256::from_hex(name));
    CELSLM_CHECK_OK(read_model(model, handles, out));
  }
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
  return out;
}

std::string held_revision(std::string_view text) {
  return hash_of(text).hex().substr(0, kRevisionDigits);
}

bool holds(const HeldPacks& packs, const HeldPack& wanted) {
  return std::ranges::binary_search(packs, wanted);
}

}  // namespace celslm
