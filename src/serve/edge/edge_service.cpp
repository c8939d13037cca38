#include "serve/edge/edge_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/text.h"
#include "core/utf8.h"
#include "net/blocking_response.h"
#include "net/observed_response.h"
#include "plan/layer_work.h"
#include "serve/batch/compute_speed.h"
#include "serve/edge/edge_status.h"
#include "serve/page/page.h"
#include "serve/route/node_figures.h"
#include "serve/wire/audited.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

using nlohmann::json;

// At which the engine computes a context of 1,000 tokens, tokens a second; 0: its speed was not measured.
double prefill_speed(const Model& model, double compute_s_per_work) {
  constexpr int kTokens = 1000;
  const double context_s = model.config().n_layers * compute_s_per_work * layer_work(kTokens);
  return context_s > 0 ? kTokens / context_s : 0;
}

std::unique_ptr<ContextLoader> make_loader(const EdgeParts& parts, const EdgeOptions& edge, double compute_s_per_work,
                                           const ContextDirectory& directory, EdgeFleet* fleet, LoadObserver& observer) {
  LoaderOptions options = edge.load;
  if (fleet != nullptr)
    options.further_sources = [fleet, &directory](const ContextHandle& context) {
      return fleet->sources(context, !directory.in_touch());
    };
  options.memory = edge.batch.memory;
  options.may_ask = [&directory](const ContextHandle& handle) { return directory.is_public(handle); };
  options.cloud_on_device = [&directory, model = parts.model->fingerprint().id()] { return directory.on_device(model); };
  auto out = std::make_unique<ContextLoader>(parts.model, parts.cloud, parts.peers, parts.store, *parts.clock, options,
                                             parts.log, &observer, parts.spawn);
  out->assume_compute_speed(compute_s_per_work);
  return out;
}

// Room for the KV of one request of some length stays free of contexts.
ContextLimits context_limits(const Model& model, const EdgeOptions& options) {
  constexpr int kTokens = 2048;
  const int n_tokens = std::min(kTokens, model.config().n_ctx_train);
  const std::uint64_t request = KvSegment::resident_bytes(model.config(), options.batch.kv_type, n_tokens);
  return {.budget_bytes = options.context_budget_bytes,
          .most = options.max_contexts,
          .headroom_bytes = std::min<std::uint64_t>(request, options.batch.kv_budget_bytes),
          .memory = options.batch.memory};
}

std::optional<KnownContexts> known_contexts(const EdgeParts& parts) {
  return parts.known_contexts.empty() ? std::nullopt : std::optional<KnownContexts>(parts.known_contexts);
}

// What chats could never begin with is reported now rather than to nobody.
Status check_given_text(std::string_view text, const Model& model) {
  if (trimmed(text, " \t\r\n").empty()) return fail(ErrorKind::kInvalid, "it is empty");
  if (text.contains('\0') || !is_utf8(text))
    return fail(ErrorKind::kInvalid, "it is no text: it has NUL bytes or is not UTF-8");
  const auto tokens = model.text().context(text);
  const auto room = static_cast<std::size_t>(model.config().n_ctx_train);
  if (tokens && tokens->size() + 1 >= room) {  // a question and an answer need a token each
    return fail(ErrorKind::kInvalid, "it has {} tokens; the model's context of {} leaves no room for a chat", tokens->size(),
                room);
  }
  return {};
}

std::unique_ptr<PackSharing> make_sharing(const EdgeParts& parts, const ContextMemory& contexts,
                                          const ContextDirectory& directory) {
  if (!parts.store || !parts.cloud) return nullptr;
  const auto identify = [model = parts.model, &contexts, &directory](const ContextHandle& handle, CodecId codec,
                                                                     const Caller& caller) -> std::optional<PackIdentity> {
    const auto context = contexts.table().find(handle);
    if (!context || !caller.sees(context->tenant)) return std::nullopt;
    return pack_identity(*model, *context, codec, directory.on_device(model->fingerprint().id()));
  };
  return std::make_unique<PackSharing>(parts.store, parts.cloud, identify);
}

}  // namespace

Result<std::unique_ptr<EdgeService>> EdgeService::create(EdgeParts parts, const EdgeOptions& given) {
  EdgeOptions options = given;
  if (parts.model->foreign()) options.load.codecs = CodecLadder::only(opaque_codec());
  if (options.load.tuning) CELSLM_CHECK_OK(check_shape(*options.load.tuning, parts.model->config()));
  // A type of KV that this model cannot have is reported now rather than to the first request.
  CELSLM_CHECK_OK(KvSegment::create(parts.model->config(), options.context_kv_type(), 0, 1));
  for (const std::string& text : options.contexts) {
    if (const Status checked = check_given_text(text, *parts.model); !checked) {
      const auto number = &text - options.contexts.data() + 1;
      return wrap(checked.error(), fmt::format("text {} of {} given as context", number, options.contexts.size()));
    }
    if (const auto context = parts.model->text().context(text); !context)
      parts.log->warn("a text given as context will not be shared: {}", context.error().message);
  }
  if (parts.model->text().chat_problem().empty())
    parts.log->info("tools are called in the format '{}'", to_string(parts.model->text().chat_style().tools));
  double compute_s_per_work = 0;
  if (parts.cloud) {  // without one there is nothing to weigh computing against
    CELSLM_TRY(compute_s_per_work, measure_layer_speed(*parts.engine, *parts.clock));
    parts.log->info("computing a layer of a context of 1,000 tokens takes {:.0f} ms here",
                    compute_s_per_work * layer_work(1000) * 1e3);
  }
  auto writers = std::make_unique<WorkerPool>(0);
  CELSLM_CHECK_OK(writers->start(1));
  const bool forwards = !parts.nodes.empty();
  auto out =
      std::unique_ptr<EdgeService>(new EdgeService(std::move(parts), options, compute_s_per_work, std::move(writers)));
  if (forwards) CELSLM_CHECK_OK(out->forwarder_.start());
  return out;
}

// The end of the loop ends all answers, which the writers then write; both use the parts below.
EdgeService::~EdgeService() {
  forwarder_.finish();
  if (fleet_) fleet_->stop();
  loop_.stop(std::chrono::milliseconds(0));
  writers_->finish();
}

EdgeService::EdgeService(EdgeParts parts, const EdgeOptions& options, double compute_s_per_work,
                         std::unique_ptr<WorkerPool> writers)
    : model_name_(options.model_name.empty() ? parts.model->config().name : options.model_name),
      forwards_registrations_(options.forwards_registrations),
      audit_(options.audit),
      model_(parts.model),
      store_(parts.store),
      memory_(options.batch.memory),
      process_(parts.process),
      writers_(std::move(writers)),
      loop_(std::move(parts.engine), *parts.clock, options.batch, parts.log, parts.constraints),
      directory_(parts.cloud, options.contexts, *parts.clock, known_contexts(parts)),
      max_running_(options.batch.max_running),
      rungs_(options.load.codecs.rungs().begin(), options.load.codecs.rungs().end()),
      tuning_(options.load.tuning),
      fleet_(make_fleet(parts)),
      contexts_(
          model_, make_loader(parts, options, compute_s_per_work, directory_, fleet_.get(), metrics_),
          options.context_kv_type(), context_limits(*model_, options), [this] { loop_.wake(); }, find_study(options)),
      sharing_(make_sharing(parts, contexts_, directory_)),
      preparation_(*model_, directory_, contexts_, *memory_, *parts.clock),
      completions_(completion_parts(*parts.clock)),
      responses_(completion_parts(*parts.clock)),
      embeddings_(completion_parts(*parts.clock)),
      forwarder_(parts.log),
      router_({.completions = completions_, .contexts = contexts_, .nodes = parts.nodes, .forwarder = forwarder_},
              options.routing, options.batch),
      idle_work_(
          options, directory_, contexts_, metrics_, [this] { return requests_under_way() > 0; },
          [this] { return fleet_ ? fleet_->popular() : std::optional(std::vector<ContextHandle>()); }),
      refresh_({.cloud = parts.cloud,
                .model = model_,
                .directory = directory_,
                .contexts = contexts_,
                .idle_work = idle_work_,
                .mapped = options.load.guidance == Guidance::kMapped,
                .tuning = options.load.tuning ? options.load.tuning->id : Hash256{},
                .clock = *parts.clock,
                .log = parts.log}) {
  const double prefill = prefill_speed(*model_, compute_s_per_work);
  metrics_.speed().assume(prefill > 0 ? prefill : options.routing.assumed_prefill_tokens_per_s,
                          options.routing.assumed_decode_tokens_per_s);
  refresh_.start({.interval = options.refresh, .hold = options.hold});
}

std::unique_ptr<EdgeFleet> EdgeService::make_fleet(EdgeParts& parts) {
  if (!parts.fleet || !parts.cloud) return nullptr;
  EdgeFleetParts out{.cloud = parts.cloud,
                     .known_urls = {parts.cloud->url()},
                     .model = model_->fingerprint().id(),
                     .connect = parts.connect_node,
                     .describe = [this] { return describe_node(); },
                     .held = [this] { return shared_packs(); }};
  for (const auto& peer : parts.peers) out.known_urls.push_back(peer->url());
  return std::make_unique<EdgeFleet>(*std::move(parts.fleet), std::move(out), *parts.clock, parts.log);
}

void EdgeService::started(const std::string& url) {
  if (process_) process_->started();
  if (fleet_) fleet_->start(url);
}

NodeRecord EdgeService::describe_node() const {
  const BatchStats stats = loop_.stats();
  return {.role = NodeRole::kEdge,
          .models = {model_->fingerprint().id()},
          .running = stats.running,
          .queued = stats.queued,
          .places = max_running_,
          .free_memory_bytes = memory_->available_bytes(),
          .prefill_tokens_per_s = prefill_speed(*model_, contexts_.loader().compute_s_per_work()),
          .decode_tokens_per_s = metrics_.speed().decode(),
          .link_bytes_per_s = contexts_.loader().link_bytes_per_s()};
}

// Those that PackSharing gives to others. Texts of this edge's own are nobody else's business.
std::vector<HeldPack> EdgeService::shared_packs() const {
  std::vector<HeldPack> out;
  if (!sharing_) return out;
  std::set<Hash256> stored;
  for (const PackStore::Listing& pack : store_->list()) stored.insert(pack.pack_id);
  const Hash256 model = model_->fingerprint().id();
  for (const auto& context : contexts_.table().all()) {
    if (out.size() >= kMaxHeldPacks || !context->complete() || !directory_.is_public(context->handle)) continue;
    const bool is_stored = std::ranges::any_of(rungs_, [&](const CodecRung& rung) {
      PackIdentity identity = pack_identity(*model_, *context, rung.codec->id(), directory_.on_device(model));
      if (tuning_) set_tuning(identity, tuning_->id);
      return stored.contains(identity.id());
    });
    if (is_stored) out.push_back({.context = context->handle, .model = model});
  }
  return out;
}

CompletionParts EdgeService::completion_parts(const Clock& clock) {
  return {.model_name = model_name_,
          .engine = model_->engine_name(),
          .preparation = preparation_,
          .loop = loop_,
          .directory = directory_,
          .metrics = metrics_,
          .clock = clock,
          .writers = *writers_};
}

ContextMemory::FindStudy EdgeService::find_study(const EdgeOptions& options) const {
  if (options.load.guidance != Guidance::kStudied) return {};
  return [this, model = model_->fingerprint().id()](const ContextHandle& handle) { return directory_.study(handle, model); };
}

int EdgeService::requests_under_way() const {
  const BatchStats stats = loop_.stats();
  return stats.running + stats.queued;
}

HttpHandler EdgeService::counted(std::string route, HttpResponse (EdgeService::*handler)(const HttpRequest&)) {
  return [this, route = std::move(route), handler](const HttpRequest& request) {
    HttpResponse response = answer_or_refuse([&] { return (this->*handler)(request); });
    constexpr std::size_t kLarge = 1U << 20;
    if (request.body.size() > kLarge) trim_heap();  // what it took to read it lies free between other blocks
    return observed(std::move(response), [this, route](int status) { metrics_.answered(route, status); });
  };
}

void EdgeService::add_routes(HttpServer& server) {
  server.route("POST", "/v1/chat/completions", counted("chat", &EdgeService::begin_chat));
  server.route("POST", "/v1/completions", counted("completions", &EdgeService::begin_completions));
  server.route("POST", "/v1/responses", counted("responses", &EdgeService::begin_responses));
  server.route("POST", "/v1/embeddings", counted("embeddings", &EdgeService::begin_embeddings));
  server.route("GET", "/v1/models", [this](const HttpRequest&) { return models(); });
  server.route("GET", "/v1/models/:id", [this](const HttpRequest& r) { return model(r.parameter("id")); });
  // Names like "owner/model", which clients do not escape.
  server.route("GET", "/v1/models/:owner/:id",
               [this](const HttpRequest& r) { return model(r.parameter("owner") + "/" + r.parameter("id")); });
  server.route("GET", "/v1/contexts", [this](const HttpRequest& r) { return list_contexts(r.caller); });
  server.route("POST", "/v1/contexts", audited(audit_, "register", counted("contexts", &EdgeService::put_context)));
  server.route("DELETE", "/v1/contexts/:context",
               audited(audit_, "remove", counted("context", &EdgeService::remove_context)));
  server.route("GET", "/health", [](const HttpRequest&) { return json_response({{"status", "ok"}}); });
  server.route("GET", "/metrics",
               [this](const HttpRequest& r) { return r.caller.is_operator ? metrics() : operators_only(); });
  server.route("GET", "/v1/status", [this](const HttpRequest& r) { return status(r.caller); });
  server.route("GET", "/v1/node", [this](const HttpRequest& r) { return node(r.caller); });
  if (sharing_) sharing_->add_routes(server, audit_);
  add_page(server, PageOf::kEdge);
  server.on_error(http_error);
}

bool EdgeService::model_served(const std::string& name) const {
  return name.empty() || name == model_name_;
}

HttpResponse EdgeService::route(Result<CompletionRequest> parsed, const HttpRequest& request) {
  if (!parsed || !model_served(parsed->model) || !router_.concerns(*parsed))
    return completions_.answer(std::move(parsed), request);
  const auto wanted = std::make_shared<const CompletionRequest>(*std::move(parsed));
  const auto here = [this, wanted](const HttpRequest& http, const json& notes) {
    return completions_.answer(*wanted, http, notes);
  };
  return router_.answer(wanted, request, here, true);
}

HttpResponse EdgeService::begin_chat(const HttpRequest& request) {
  return route(parse_chat_request(request.body), request);
}

HttpResponse EdgeService::begin_completions(const HttpRequest& request) {
  return route(parse_completion_request(request.body), request);
}

HttpResponse EdgeService::begin_responses(const HttpRequest& request) {
  auto parsed = parse_responses_request(request.body);
  if (!parsed || !model_served(parsed->completion.model) || !router_.concerns(parsed->completion))
    return responses_.answer(std::move(parsed), request);
  const auto wanted = std::make_shared<const ResponsesRequest>(*std::move(parsed));
  const auto here = [this, wanted](const HttpRequest& http, const json& notes) {
    return responses_.answer(*wanted, http, notes);
  };
  return router_.answer({wanted, &wanted->completion}, request, here, false);
}

HttpResponse EdgeService::begin_embeddings(const HttpRequest& request) {
  return embeddings_.answer(parse_embedding_request(request.body), request);
}

HttpResponse EdgeService::chat_completions(const HttpRequest& request) {
  return blocking(begin_chat(request), request);
}

HttpResponse EdgeService::completions(const HttpRequest& request) {
  return blocking(begin_completions(request), request);
}

HttpResponse EdgeService::responses(const HttpRequest& request) {
  return blocking(begin_responses(request), request);
}

HttpResponse EdgeService::embeddings(const HttpRequest& request) {
  return blocking(begin_embeddings(request), request);
}

HttpResponse EdgeService::not_forwarded() {
  return error_response(ApiError::kNotForwarded,
                        "this edge takes requests from everybody and its cloud does not: register at the cloud, or start "
                        "the edge with --token-file, --keys or --client-authority");
}

HttpResponse EdgeService::put_context(const HttpRequest& request) {
  if (!forwards_registrations_) return not_forwarded();
  const auto wanted = registration_from(request.body);
  if (!wanted) return error_response(wanted.error());
  const auto info = directory_.put(wanted->text, wanted->name, request.parameter("prefill") == "1", request.caller.tenant);
  return info ? json_response(to_json(*info)) : error_response(info.error());
}

HttpResponse EdgeService::remove_context(const HttpRequest& request) {
  if (!forwards_registrations_) return not_forwarded();
  const std::string name = request.parameter("context");
  const auto handle = Hash256::from_hex(name);
  if (!handle) return error_response(ApiError::kUnknownContext, "no context " + name + " is registered here");
  const Status removed = directory_.remove(*handle, request.caller.tenant);
  if (!removed && removed.error().kind == ErrorKind::kNotFound)
    return error_response(ApiError::kUnknownContext, removed.error().message);
  if (!removed) return error_response(removed.error());
  contexts_.drop_unless([&](const ContextHandle& known) { return known != *handle; });
  return {.status = 204};
}

HttpResponse EdgeService::list_contexts(const Caller& caller) const {
  json list = json::array();
  for (const ContextInfo& info : directory_.list()) {
    if (caller.sees(info.tenant)) list.push_back(to_json(info));
  }
  return json_response({{"contexts", list}});
}

HttpResponse EdgeService::metrics() {
  if (process_) process_->update();
  metrics_.memory(*memory_, resident_memory());
  if (fleet_) metrics_.fleet(fleet_->member().state());
  if (!directory_.cloud_url().empty()) metrics_.cloud(directory_.in_touch());
  return {.content_type = Metrics::kContentType,
          .body = metrics_.text(loop_.stats(), contexts_.table(), store_.get(), sharing_ ? sharing_->sent_bytes() : 0)};
}

HttpResponse EdgeService::status(const Caller& caller) const {
  json out = edge_status({.model_name = model_name_,
                          .model = *model_,
                          .stats = loop_.stats(),
                          .directory = directory_,
                          .contexts = contexts_,
                          .caller = caller});
  if (fleet_ && caller.is_operator) out["fleet"] = fleet_status(fleet_->member());
  return json_response(out);
}

HttpResponse EdgeService::node(const Caller& caller) const {
  const RouteCandidate self = router_.self();
  NodeFigures out{.model = model_->fingerprint().id(),
                  .model_name = model_name_,
                  .accepts = self.accepts,
                  .running = self.running,
                  .queued = self.queued,
                  .places = self.places,
                  .prefill_tokens_per_s = self.prefill_tokens_per_s,
                  .decode_tokens_per_s = self.decode_tokens_per_s,
                  .context_load_s = self.context_fetch_s,
                  .held = {}};
  for (const auto& context : contexts_.table().all()) {
    const auto tenant = directory_.tenant_of(context->handle);
    const bool tells = tenant && caller.sees(*tenant) && directory_.is_public(context->handle);
    if (out.held.size() < kMaxHeldContexts && context->complete() && tells) out.held.push_back(context->handle);
  }
  return json_response(to_json(out));
}

json EdgeService::described_model() const {
  return {{"id", model_name_},
          {"object", "model"},
          {"owned_by", "celslm"},
          {"created", 0},
          {"x_celslm",
           {{"model_id", model_->fingerprint().id().hex()},
            {"n_ctx", model_->config().n_ctx_train},
            {"engine", model_->engine_name()}}}};
}

HttpResponse EdgeService::models() const {
  return json_response({{"object", "list"}, {"data", json::array({described_model()})}});
}

HttpResponse EdgeService::model(const std::string& id) const {
  if (id == model_name_) return json_response(described_model());
  return model_not_found(id, model_name_);
}

}  // namespace celslm
