#include "serve/cloud/cloud_status.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "serve/wire/protocol.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxContextsShown = 500;
constexpr std::size_t kMaxPacksShown = 500;  // the latest used
constexpr std::size_t kMaxNamesAtOnce = 4;   // contexts tokenized for one answer: a long one takes a second

json model_json(const HostedModel& hosted) {
  json out = to_json(hosted);
  out["n_layers"] = hosted.fingerprint.n_layers;
  out.erase("fingerprint");
  return out;
}

}  // namespace

json CloudStatus::get(const Caller& caller) {
  const bool everything = caller.all_tenants || caller.is_operator;
  json models = json::array();
  for (const auto& model : parts_.catalog.models()) models.push_back(model_json(model->model()));
  json contexts = json::array();
  std::vector<ContextInfo> known = parts_.contexts.list();
  if (!everything) std::erase_if(known, [&](const ContextInfo& info) { return !caller.sees(info.tenant); });
  for (const ContextInfo& info : std::span(known).first(std::min(known.size(), kMaxContextsShown)))
    contexts.push_back(to_json(info));
  json out = {{"node", "cloud"},
              {"models", std::move(models)},
              {"n_contexts", known.size()},
              {"contexts", std::move(contexts)},
              {"jobs", json::array()},
              {"packs", json::array()},
              {"pack_bytes", 0},
              {"pack_budget_bytes", 0},
              {"edges", json::array()}};
  if (!everything) return out;
  const MutexLock lock(mutex_);
  learn_names();
  out.update({{"jobs", jobs()},
              {"packs", packs()},
              {"pack_bytes", parts_.storage.bytes()},
              {"pack_budget_bytes", parts_.storage.budget_bytes()},
              {"edges", parts_.edges.list()}});
  return out;
}

// Packs know the tokens that they are of; which registered text that is follows from its tokens for each model.
void CloudStatus::learn_names() {
  std::size_t learned = 0;
  for (const ContextInfo& info : parts_.contexts.list()) {
    if (ids_.contains(info.handle)) continue;
    if (++learned > kMaxNamesAtOnce || ids_.size() >= kMaxContextsShown) return;
    std::vector<Hash256>& ids = ids_[info.handle];
    for (const auto& model : parts_.catalog.models()) {
      const auto identity = parts_.catalog.identity(info.handle, *model, CodecId::kF16);
      if (!identity) continue;
      ids.push_back(identity->context);
      names_[identity->context] = info.name;
    }
  }
}

const CloudStatus::Pack* CloudStatus::pack(const PackStore::Listing& listing) {
  const auto known = packs_.find(listing.pack_id);
  if (known != packs_.end()) return known->second ? &*known->second : nullptr;
  std::optional<Pack>& out = packs_[listing.pack_id];
  auto opened = parts_.storage.open(listing);
  if (!opened) return nullptr;
  const int n_tokens = opened->header.identity.n_tokens();
  out = Pack{.identity = std::move(opened->header.identity), .n_tokens = n_tokens};
  out->identity.tokens.clear();
  return &*out;
}

json CloudStatus::packs() {
  json out = json::array();
  std::set<Hash256> there;
  const std::vector<PackStore::Listing> listed = parts_.storage.list();
  for (auto it = listed.rbegin(); it != listed.rend() && out.size() < kMaxPacksShown; ++it) {
    there.insert(it->pack_id);
    const Pack* const found = pack(*it);
    if (found == nullptr) continue;
    out.push_back(describe(found->identity));
    out.back()["n_tokens"] = found->n_tokens;
    out.back()["bytes"] = it->bytes;
  }
  std::erase_if(packs_, [&](const auto& pack) { return !there.contains(pack.first); });
  return out;
}

json CloudStatus::jobs() const {
  json out = json::array();
  for (const PackJobs::Listed& listed : parts_.jobs.list()) {
    const PackIdentity& identity = listed.job->identity;
    out.push_back(describe(identity));
    out.back().update({{"n_tokens", identity.n_tokens()},
                       {"waiting", listed.waiting},
                       {"blocks", listed.job->announced()},
                       {"n_blocks", identity.n_blocks()}});
  }
  return out;
}

json CloudStatus::describe(const PackIdentity& identity) const {
  const auto hosted = std::ranges::find_if(parts_.catalog.models(),
                                           [&](const auto& model) { return model->model().fingerprint == identity.model; });
  const auto codec = find_codec(identity.codec);
  const auto name = names_.find(identity.context);
  return {{"context_id", identity.context.hex()},
          {"context_name", name == names_.end() ? "" : name->second},
          {"model", hosted == parts_.catalog.models().end() ? "" : (*hosted)->model().name},
          {"codec", codec ? (*codec)->name() : "?"},
          {"provenance", to_string(identity.provenance)}};
}

}  // namespace celslm
