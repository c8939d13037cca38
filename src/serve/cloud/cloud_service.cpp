#include "serve/cloud/cloud_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "core/utf8.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

using nlohmann::json;

std::unexpected<HttpResponse> refuse(HttpResponse response) {
  return std::unexpected(std::move(response));
}

HttpResponse unknown_context(const std::string& handle) {
  return error_response(ApiError::kUnknownContext,
                        fmt::format("no context '{}' is registered here: register its text with POST /v1/contexts", handle));
}

// Refusals of a context, and of a pack that could be named.
HttpResponse pack_refused(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kInvalid: return error_response(ApiError::kInvalidContext, error.message);
    case ErrorKind::kIo: return error_response(ApiError::kInsufficientStorage, error.message);
    default: return error_response(error);
  }
}

// A member that may be absent.
Result<std::string> optional_text(const json& object, const char* name) {
  const auto it = object.find(name);
  if (it == object.end()) return std::string();
  if (!it->is_string()) return fail(ErrorKind::kInvalid, "'{}' must be a string", name);
  return it->get<std::string>();
}

Status check_models(const std::vector<std::shared_ptr<KvProducer>>& models) {
  if (models.empty()) return fail(ErrorKind::kInvalid, "a cloud needs at least one model");
  if (models.size() > kMaxHostedModels)
    return fail(ErrorKind::kInvalid, "a cloud hosts at most {} models", kMaxHostedModels);
  std::set<std::pair<Hash256, Hash256>> ids;
  for (const auto& model : models) {
    const HostedModel& hosted = model->model();
    if (!ids.emplace(hosted.fingerprint.id(), hosted.map ? hosted.map->id : Hash256{}).second) {
      return fail(ErrorKind::kInvalid, "the model {} is named twice", model->model().name);
    }
  }
  return {};
}

std::vector<CodecId> every_codec() {
  std::vector<CodecId> out;
  for (const Codec* codec : all_codecs()) out.push_back(codec->id());
  return out;
}

}  // namespace

Result<std::unique_ptr<CloudService>> CloudService::create(const CloudOptions& options,
                                                           std::vector<std::shared_ptr<KvProducer>> models,
                                                           const Clock& clock, Log log) {
  CELSLM_CHECK_OK(check_models(models));
  CELSLM_TRY(auto contexts, ContextRegistry::open(options.data_folder / "contexts", log));
  CELSLM_TRY(auto key, SigningKey::load_or_create(options.data_folder / "signing.key"));
  CELSLM_TRY(auto store, PackStore::open(options.data_folder / "packs", options.pack_budget_bytes, log));
  auto storage = std::make_unique<SignedPackStorage>(std::move(store), key.public_key());
  return std::unique_ptr<CloudService>(new CloudService(std::move(key), std::move(contexts), std::move(storage),
                                                        std::move(models), options, clock, std::move(log)));
}

CloudService::CloudService(SigningKey key, std::unique_ptr<ContextRegistry> contexts,
                           std::unique_ptr<SignedPackStorage> storage, std::vector<std::shared_ptr<KvProducer>> models,
                           const CloudOptions& options, const Clock& clock, Log log)
    : log_(std::move(log)),
      key_(std::move(key)),
      codecs_(options.codecs.empty() ? every_codec() : options.codecs),
      contexts_(std::move(contexts)),
      storage_(std::move(storage)),
      catalog_(*contexts_, std::move(models)),
      jobs_(catalog_.models(), *storage_, key_, clock, metrics_, log_, options.jobs) {}

void CloudService::add_routes(HttpServer& server) {
  server.on_error(http_error);
  server.route("GET", "/health", [](const HttpRequest&) { return json_response({{"status", "ok"}}); });
  server.route("GET", "/metrics", [this](const HttpRequest&) {
    return HttpResponse{.content_type = Metrics::kContentType,
                        .body = metrics_.text(contexts_->size(), storage_->bytes(), storage_->budget_bytes())};
  });
  server.route("GET", "/v1/key", counted("key", [this](const HttpRequest&) {
                 return json_response({{"public_key", key_.public_key().hex()}});
               }));
  server.route("GET", "/v1/models", counted("models", [this](const HttpRequest&) { return list_models(); }));
  add_context_routes(server);
  add_pack_routes(server);
}

void CloudService::add_context_routes(HttpServer& server) {
  server.route("POST", "/v1/contexts", counted("contexts", [this](const HttpRequest& r) { return put_context(r); }));
  server.route("GET", "/v1/contexts", counted("contexts", [this](const HttpRequest&) { return list_contexts(); }));
  server.route("GET", "/v1/contexts/:context", counted("context", [this](const HttpRequest& r) { return get_context(r); }));
  server.route("DELETE", "/v1/contexts/:context",
               counted("context", [this](const HttpRequest& r) { return remove_context(r); }));
}

void CloudService::add_pack_routes(HttpServer& server) {
  const std::string pack = "/v1/packs/:context/:model/:codec/";
  server.route("GET", pack + "header", counted("header", [this](const HttpRequest& r) { return get_header(r); }));
  server.route("GET", pack + "entries", counted("entries", [this](const HttpRequest& r) { return get_entries(r); }));
  server.route("GET", pack + "blocks", counted("blocks", [this](const HttpRequest& r) { return get_blocks(r); }));
  server.route("GET", pack + "pack", counted("pack", [this](const HttpRequest& r) { return get_pack(r); }));
}

HttpHandler CloudService::counted(std::string route, HttpHandler handler) {
  return [this, route = std::move(route), handler = std::move(handler)](const HttpRequest& request) {
    HttpResponse response = handler(request);
    metrics_.answered(route, response.status);
    return response;
  };
}

OnSent CloudService::meter(const char* part) {
  return [this, part](std::size_t bytes) { metrics_.sent(part, bytes); };
}

HttpResponse CloudService::list_models() const {
  json models = json::array();
  for (const auto& model : catalog_.models()) models.push_back(to_json(model->model()));
  return json_response({{"models", std::move(models)}});
}

HttpResponse CloudService::list_contexts() const {
  json contexts = json::array();
  for (const ContextInfo& info : contexts_->list()) contexts.push_back(to_json(info));
  return json_response({{"contexts", std::move(contexts)}});
}

Result<json> CloudService::models_for(std::string_view text) {
  json models = json::array();
  std::string refusals;
  for (const auto& model : catalog_.models()) {
    if (model->model().map) continue;  // the same tokens as the model by itself
    const auto tokens = catalog_.tokenize(text, *model);
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

HttpResponse CloudService::put_context(const HttpRequest& request) {
  if (!is_utf8(request.body)) return error_response(ApiError::kInvalidContext, "the text is not UTF-8");
  const auto body = parse_object(request.body);
  if (!body) return error_response(body.error());
  const auto text = optional_text(*body, "text");
  const auto name = optional_text(*body, "name");
  if (!text) return error_response(text.error());
  if (!name) return error_response(name.error());
  if (const Status fits = ContextRegistry::check(*text, *name); !fits) return pack_refused(fits.error());
  auto models = models_for(*text);
  if (!models) return pack_refused(models.error());
  const auto info = contexts_->put(*text, *name);
  if (!info) return pack_refused(info.error());
  if (request.parameter("prefill") == "1") begin_prefill(info->handle);
  json out = to_json(*info);
  out["models"] = *std::move(models);
  return json_response(out);
}

Result<CodecId> CloudService::offered_codec(const std::string& name) const {
  CELSLM_TRY(const Codec* codec, find_codec(name));
  if (std::ranges::contains(codecs_, codec->id())) return codec->id();
  std::string names;
  for (const CodecId id : codecs_) names += (names.empty() ? "" : ", ") + std::string((*find_codec(id))->name());
  return fail(ErrorKind::kNotFound, "the codec '{}' is not offered here, but {}", name, names);
}

void CloudService::begin_prefill(const ContextHandle& handle) {
  const CodecId codec = std::ranges::contains(codecs_, CodecId::kF16) ? CodecId::kF16 : codecs_.front();
  for (const auto& model : catalog_.models()) {
    const auto identity = catalog_.identity(handle, *model, codec);
    if (!identity) continue;
    if (const auto begun = jobs_.request(*identity); !begun) log_->warn("not computed now: {}", begun.error().message);
  }
}

HttpResponse CloudService::get_context(const HttpRequest& request) const {
  const std::string name = request.parameter("context");
  const auto handle = Hash256::from_hex(name);
  if (!handle) return unknown_context(name);
  const auto context = contexts_->find(*handle);
  if (!context && context.error().kind == ErrorKind::kNotFound) return unknown_context(name);
  if (!context) return error_response(ApiError::kInternal, context.error().message);
  json out = to_json(context->info);
  out["text"] = context->text;
  return json_response(out);
}

HttpResponse CloudService::remove_context(const HttpRequest& request) {
  const std::string name = request.parameter("context");
  const auto handle = Hash256::from_hex(name);
  if (!handle) return unknown_context(name);
  const Status removed = contexts_->remove(*handle);
  if (!removed && removed.error().kind == ErrorKind::kNotFound) return unknown_context(name);
  if (!removed) return error_response(removed.error());
  return {.status = 204};
}

CloudService::Answer<PackIdentity> CloudService::wanted(const HttpRequest& request) {
  const std::string context = request.parameter("context");
  const std::string model_name = request.parameter("model");
  const auto handle = Hash256::from_hex(context);
  if (!handle || !contexts_->contains(*handle)) return refuse(unknown_context(context));
  const auto model_id = Hash256::from_hex(model_name);
  if (!model_id)
    return refuse(
        error_response(ApiError::kUnknownModel, fmt::format("'{}' is no model id: 64 hex digits are", model_name)));
  const std::string map_name = request.parameter("map");
  const Result<Hash256> map_id = map_name.empty() ? Hash256{} : Hash256::from_hex(map_name);
  if (!map_id)
    return refuse(error_response(ApiError::kUnknownMap, fmt::format("'{}' is no map id: 64 hex digits are", map_name)));
  const auto model = catalog_.find_model(*model_id, *map_id);
  const ApiError unknown = map_name.empty() ? ApiError::kUnknownModel : ApiError::kUnknownMap;
  if (!model) return refuse(error_response(unknown, model.error().message));
  const auto codec = offered_codec(request.parameter("codec"));
  if (!codec) return refuse(error_response(ApiError::kUnknownCodec, codec.error().message));
  auto identity = catalog_.identity(*handle, **model, *codec);
  if (!identity && identity.error().kind == ErrorKind::kNotFound) return refuse(unknown_context(context));
  if (!identity) return refuse(pack_refused(identity.error()));
  return *std::move(identity);
}

CloudService::Answer<PackAccess> CloudService::existing(const HttpRequest& request) {
  const auto identity = wanted(request);
  if (!identity) return refuse(identity.error());
  auto access = jobs_.lookup(identity->id());
  if (!access) return refuse(error_response(ApiError::kUnknownPack, access.error().message));
  return *std::move(access);
}

HttpResponse CloudService::get_header(const HttpRequest& request) {
  const auto identity = wanted(request);
  if (!identity) return identity.error();
  const auto access = jobs_.request(*identity);
  if (!access) return pack_refused(access.error());
  return header_response(*access, request.parameter("blocks"), meter("header"));
}

HttpResponse CloudService::get_entries(const HttpRequest& request) {
  const std::string text = request.parameter("from");
  int from = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), from);
  if (!text.empty() && (error != std::errc() || end != text.data() + text.size() || from < 0)) {
    return error_response(ApiError::kInvalidRequest, "'from' must be a whole number, the first entry wanted");
  }
  const auto access = existing(request);
  if (!access) return access.error();
  return entries_response(*access, from, key_, request.disconnected, meter("entries"));
}

HttpResponse CloudService::get_blocks(const HttpRequest& request) {
  const auto access = existing(request);
  if (!access) return access.error();
  return blocks_response(*access, request.header("range"), meter("blocks"));
}

HttpResponse CloudService::get_pack(const HttpRequest& request) {
  const auto access = existing(request);
  if (!access) return access.error();
  const auto* stored = std::get_if<StoredPack>(&*access);
  if (stored == nullptr)
    return error_response(ApiError::kUnknownPack, "the pack is still being computed: follow its entries");
  return file_response(*stored, request.header("range"), meter("pack"));
}

}  // namespace celslm
