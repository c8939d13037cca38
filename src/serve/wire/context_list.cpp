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

Result<std::vector<ContextHandle>> handles_field(const JsonFields& fields, const char* name) {
  CELSLM_TRY(const json* list, fields.required_list(name, kMaxContexts));
  std::vector<ContextHandle> out;
  out.reserve(list->size());
  for (const json& item : *list) {
    const auto* text = item.get_ptr<const std::string*>();
    if (text == nullptr) return fields.expected(name, "a list of handles");
    CELSLM_TRY(out.emplace_back(), Hash256::from_hex(*text));
  }
  return out;
}

Result<ContextList> changes_from(const JsonFields& fields, ContextList out) {
  CELSLM_TRY(const auto n_contexts, fields.required_integer("n_contexts", 0, kMaxContexts));
  out.n_contexts = static_cast<std::size_t>(n_contexts);
  CELSLM_TRY(out.added, infos_field(fields, "added"));
  CELSLM_TRY(out.removed, handles_field(fields, "removed"));
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
  if (list.complete()) return {{"revision", list.revision}, {"contexts", std::move(infos)}};
  json removed = json::array();
  for (const ContextHandle& handle : list.removed) removed.push_back(handle.hex());
  return {{"revision", list.revision},
          {"since", list.since},
          {"n_contexts", list.n_contexts},
          {"added", std::move(infos)},
          {"removed", std::move(removed)}};
}

Result<ContextList> context_list_from(const json& object) {
  const JsonFields fields(object);
  ContextList out;
  CELSLM_TRY(out.revision, revision_field(fields, "revision"));
  CELSLM_TRY(out.since, revision_field(fields, "since"));
  if (!out.complete()) return changes_from(fields, std::move(out));
  CELSLM_TRY(out.added, infos_field(fields, "contexts"));
  out.n_contexts = out.added.size();
  return out;
}

}  // namespace celslm
