#include "serve/cloud/context_routes.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "core/utf8.h"
#include "serve/cloud/refusals.h"
#include "serve/wire/audited.h"
#include "serve/wire/edge_header.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {

using nlohmann::json;

namespace {

std::string etag_of(const std::string& revision) {
  return '"' + revision + '"';
}

// For how long the client wants the answer to be held.
Result<Duration> wait_from(const std::string& text) {
  int seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (!text.empty() && (error != std::errc() || end != text.data() + text.size() || seconds < 0))
    return fail(ErrorKind::kInvalid, "'wait' must be a number of seconds");
  return std::min<Duration>(std::chrono::seconds(seconds), kMaxListWait);
}

}  // namespace

void ContextRoutes::add_to(HttpServer& server) {
  server.route("POST", "/v1/contexts",
               audited(parts_.audit, "register",
                       counted(parts_.metrics, "contexts", [this](const HttpRequest& r) { return put(r); })));
  server.route("GET", "/v1/contexts", counted(parts_.metrics, "contexts", [this](const HttpRequest& r) {
                 parts_.edges.seen(r.header(kEdgeHeader));
                 return list(r);
               }));
  server.route(
      "GET", "/v1/contexts/:context",
      audited(parts_.audit, "read", counted(parts_.metrics, "context", [this](const HttpRequest& r) { return get(r); })));
  server.route("GET", "/v1/contexts/:context/study",
               audited(parts_.audit, "read study",
                       counted(parts_.metrics, "study", [this](const HttpRequest& r) { return study(r); })));
  server.route("DELETE", "/v1/contexts/:context",
               audited(parts_.audit, "remove",
                       counted(parts_.metrics, "context", [this](const HttpRequest& r) { return remove(r); })));
}

HttpResponse ContextRoutes::list(const HttpRequest& request) {
  if (!request.caller.all_tenants) return list_of(request.caller.tenant, request);
  std::string since = request.parameter("since");
  // Whoever only compares gets the complete list where it differs.
  if (since.empty()) {
    const bool same = request.header("if-none-match") == etag_of(parts_.contexts.revision());
    return same ? list_since(parts_.contexts.revision()) : list_since("");
  }
  const auto wait = wait_from(request.parameter("wait"));
  if (!wait) return error_response(wait.error());
  return *wait > Duration(0) ? parts_.held.hold(std::move(since), *wait) : list_since(since);
}

HttpResponse ContextRoutes::list_since(const std::string& since) {
  ContextList changes = parts_.contexts.changes_since(since);
  if (changes.complete()) return complete_list();
  const std::string etag = etag_of(changes.revision);
  if (changes.revision == since) return {.status = 304, .headers = {{"ETag", etag}}};
  for (ContextInfo& info : changes.added) info = complete(std::move(info));
  changes.on_device = models_on_device();
  HttpResponse out = json_response(to_json(changes));
  out.headers["ETag"] = etag;
  return out;
}

// Its revision is a hash of it: the registry's own counts what others do.
HttpResponse ContextRoutes::list_of(const std::string& tenant, const HttpRequest& request) {
  ContextList list{.on_device = models_on_device()};
  for (ContextInfo& info : parts_.contexts.list()) {
    if (info.tenant == tenant) list.added.push_back(complete(std::move(info)));
  }
  list.revision = hash_of(dump_json(to_json(list))).hex();
  const std::string etag = etag_of(list.revision);
  if (request.parameter("since") == list.revision || request.header("if-none-match") == etag)
    return {.status = 304, .headers = {{"ETag", etag}}};
  HttpResponse out = json_response(to_json(list));
  out.headers["ETag"] = etag;
  return out;
}

HttpResponse ContextRoutes::complete_list() {
  const MutexLock lock(mutex_);
  if (parts_.contexts.revision() != complete_revision_) {
    ContextList list = parts_.contexts.changes_since("");
    for (ContextInfo& info : list.added) info = complete(std::move(info));
    list.on_device = models_on_device();
    complete_body_ = dump_json(to_json(list));
    complete_revision_ = std::move(list.revision);
  }
  return {.headers = {{"ETag", etag_of(complete_revision_)}}, .body = complete_body_};
}

std::vector<Hash256> ContextRoutes::models_on_device() const {
  std::vector<Hash256> out;
  for (const auto& producer : parts_.catalog.models()) {
    const ModelFingerprint& model = producer->model().fingerprint;
    if (model.arithmetic == Arithmetic::kDevice && !std::ranges::contains(out, model.id())) out.push_back(model.id());
  }
  return out;
}

Result<json> ContextRoutes::models_for(std::string_view text, const std::string& tenant) {
  json models = json::array();
  std::string refusals;
  for (const auto& model : parts_.catalog.models()) {
    if (!made_with(model->model()).none()) continue;  // the same tokens as the model itself
    const auto tokens = parts_.catalog.tokenize(text, tenant, *model);
    if (!tokens) {
      refusals += (refusals.empty() ? "" : "; ") + tokens.error().message;
      continue;
    }
    const HostedModel& hosted = model->model();
    models.push_back({{"id", hosted.fingerprint.id().hex()},
                      {"name", hosted.name},
                      {"context_id", (*tokens)->context_id.hex()},
                      {"n_tokens", (*tokens)->tokens.size()}});
  }
  if (models.empty()) return fail(ErrorKind::kInvalid, "no hosted model can take this text: {}", refusals);
  return models;
}

HttpResponse ContextRoutes::put(const HttpRequest& request) {
  if (!is_utf8(request.body)) return error_response(ApiError::kInvalidContext, "the text is not UTF-8");
  const auto wanted = registration_from(request.body);
  if (!wanted) return error_response(wanted.error());
  if (const Status fits = ContextRegistry::check(wanted->text, wanted->name); !fits) return context_refused(fits.error());
  const std::string& tenant = request.caller.tenant;
  auto models = models_for(wanted->text, tenant);
  if (!models) return context_refused(models.error());
  const auto info = parts_.contexts.put(wanted->text, wanted->name, tenant);
  if (!info) return context_refused(info.error());
  if (request.parameter("prefill") == "1") begin_prefill(info->handle);
  if (parts_.studies != nullptr) parts_.studies->wake();
  json out = to_json(complete(*info));
  out["models"] = *std::move(models);
  return json_response(out);
}

void ContextRoutes::begin_prefill(const ContextHandle& handle) {
  for (const auto& model : parts_.catalog.models()) {
    const CodecId codec = has_states(model->model().fingerprint) ? CodecId::kOpaque : parts_.prefill_codec;
    const auto identity = parts_.catalog.identity(handle, *model, codec);
    if (!identity) continue;
    if (const auto begun = parts_.jobs.request(*identity); !begun)
      parts_.log->warn("a pack was not computed at registration: {}", begun.error().message);
  }
}

HttpResponse ContextRoutes::get(const HttpRequest& request) const {
  const std::string name = request.parameter("context");
  const auto handle = Hash256::from_hex(name);
  if (!handle || !parts_.contexts.contains(*handle, request.caller)) return unknown_context(name);
  const auto context = parts_.contexts.find(*handle);
  if (!context && context.error().kind == ErrorKind::kNotFound) return unknown_context(name);
  if (!context) return error_response(ApiError::kInternal, context.error().message);
  json out = to_json(complete(context->info));
  out["text"] = context->text;
  out["guidance"] = guidance(*handle);
  if (parts_.studies != nullptr) out["self_study"] = parts_.studies->state(*handle);
  return json_response(out);
}

ContextInfo ContextRoutes::complete(ContextInfo info) const {
  info.studied = parts_.studied.offers(info.handle);
  return info;
}

json ContextRoutes::guidance(const ContextHandle& handle) const {
  json out = json::array();
  for (const auto& model : parts_.catalog.models()) {
    const HostedModel& hosted = model->model();
    if (made_with(hosted).none()) continue;
    const json of_model{{"model", hosted.fingerprint.id().hex()}, {"name", hosted.name}};
    out.push_back(hosted.tuning ? to_json(*hosted.tuning) : json{{"id", hosted.map->id.hex()}});
    out.back().update(of_model);
    out.back()["provenance"] = to_string(hosted.tuning       ? Provenance::kTuned
                                         : hosted.map->fused ? Provenance::kFused
                                                             : Provenance::kMapped);
  }
  for (const StudiedOffer& offer : parts_.studied.offers(handle)) {
    const auto model = parts_.catalog.find_model(offer.model, {});
    out.push_back({{"provenance", to_string(Provenance::kStudied)},
                   {"id", offer.study.id.hex()},
                   {"n_rows", offer.study.n_rows},
                   {"model", offer.model.hex()},
                   {"name", model ? (*model)->model().name : ""}});
  }
  return out;
}

HttpResponse ContextRoutes::study(const HttpRequest& request) const {
  const std::string name = request.parameter("context");
  const auto handle = Hash256::from_hex(name);
  if (!handle || !parts_.contexts.contains(*handle, request.caller)) return unknown_context(name);
  if (parts_.studies == nullptr)
    return error_response(ApiError::kNotFound, "this cloud does not study contexts: start it with --study-budget");
  auto file = parts_.studies->file(*handle);
  if (!file && file.error().kind == ErrorKind::kNotFound) {
    return error_response(ApiError::kNotFound,
                          "this context's study is not finished; GET /v1/contexts/" + name + " reports how far it is");
  }
  if (!file) return error_response(file.error());
  return {.content_type = "application/jsonl", .body = *std::move(file)};
}

HttpResponse ContextRoutes::remove(const HttpRequest& request) {
  const std::string name = request.parameter("context");
  const auto handle = Hash256::from_hex(name);
  if (!handle || !parts_.contexts.contains(*handle, request.caller)) return unknown_context(name);
  const Status removed = parts_.contexts.remove(*handle);
  if (!removed && removed.error().kind == ErrorKind::kNotFound) return unknown_context(name);
  if (!removed) return error_response(removed.error());
  if (parts_.studies != nullptr) parts_.studies->forget(*handle);
  return {.status = 204};
}

}  // namespace celslm
