#include "serve/wire/context_list.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;

Result<std::string> revision_field(const JsonFields& fields, const char* name) {
  CELSLM_TRY(const auto given, fields.text(name, kMaxRevisionBytes));
  const auto plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-'; };
  if (given && !std::ranges::all_of(*given, plain)) return fields.expected(name, "letters, digits and '-'");
  return given.value_or("");
}

Result<std::vector<ContextInfo>> infos_field(const JsonFields& fields, const char* name) {
  CELSLM_TRY(const json* list, fields.required_list(name, kMaxContexts));
  std::vector<ContextInfo> out;
  out.reserve(list->size());
  for (const json& item : *list) {
    CELSLM_TRY(ContextInfo info, context_info_from(item));
    out.push_back(std::move(info));
  }
  return out;
}

Result<std::vector<Hash256>> hashes(const JsonFields& fields, const char* name, const json& list) {
  std::vector<Hash256> out;
  out.reserve(list.size());
  for (const json& item : list) {
    const auto* text = item.get_ptr<const std::string*>();
    if (text == nullptr) return fields.expected(name, "a list of hashes");
    CELSLM_TRY(out.emplace_back(), Hash256::from_hex(*text));
  }
  return out;
}

json hexes(const std::vector<Hash256>& list) {
  json out = json::array();
  for (const Hash256& hash : list) out.push_back(hash.hex());
  return out;
}

// Absent from lists of clouds without devices.
Result<std::vector<Hash256>> on_device_field(const JsonFields& fields) {
  CELSLM_TRY(const json* list, fields.list("on_device", kMaxHostedModels));
  if (list == nullptr) return std::vector<Hash256>();
  return hashes(fields, "on_device", *list);
}

// Clouds of before this field write packs of version 2 or 1.
Result<std::uint16_t> pack_version_field(const JsonFields& fields) {
  CELSLM_TRY(const auto version, fields.integer("pack_version", 1, UINT16_MAX));
  return static_cast<std::uint16_t>(version.value_or(1));
}

Result<ContextList> changes_from(const JsonFields& fields, ContextList out) {
  CELSLM_TRY(const auto n_contexts, fields.required_integer("n_contexts", 0, kMaxContexts));
  out.n_contexts = static_cast<std::size_t>(n_contexts);
  CELSLM_TRY(out.added, infos_field(fields, "added"));
  CELSLM_TRY(const json* removed, fields.required_list("removed", kMaxContexts));
  CELSLM_TRY(out.removed, hashes(fields, "removed", *removed));
  if (out.revision.empty()) return fields.expected("revision", "given with changes");
  std::unordered_set<ContextHandle> seen;
  for (const ContextInfo& info : out.added) {
    if (!seen.insert(info.handle).second) return fields.expected("added", "a list without repetition");
  }
  for (const ContextHandle& handle : out.removed) {
    if (!seen.insert(handle).second) return fields.expected("removed", "a list without repetition, of others than 'added'");
  }
  return out;
}

}  // namespace

json to_json(const ContextList& list) {
  json infos = json::array();
  for (const ContextInfo& info : list.added) infos.push_back(to_json(info));
  json out{{"revision", list.revision}, {"pack_version", list.pack_version}};
  if (!list.on_device.empty()) out["on_device"] = hexes(list.on_device);
  if (list.complete()) {
    out["contexts"] = std::move(infos);
    return out;
  }
  out["since"] = list.since;
  out["n_contexts"] = list.n_contexts;
  out["added"] = std::move(infos);
  out["removed"] = hexes(list.removed);
  return out;
}

Result<ContextList> context_list_from(const json& object) {
  const JsonFields fields(object);
  ContextList out;
  CELSLM_TRY(out.revision, revision_field(fields, "revision"));
  CELSLM_TRY(out.since, revision_field(fields, "since"));
  CELSLM_TRY(out.on_device, on_device_field(fields));
  CELSLM_TRY(out.pack_version, pack_version_field(fields));
  if (!out.complete()) return changes_from(fields, std::move(out));
  CELSLM_TRY(out.added, infos_field(fields, "contexts"));
  out.n_contexts = out.added.size();
  return out;
}

}  // namespace celslm
