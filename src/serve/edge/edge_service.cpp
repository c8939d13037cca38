#include "serve/edge/edge_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plan/layer_work.h"
#include "serve/batch/compute_speed.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto kDisconnectPoll = 200ms;     // how soon a vanished client is noticed
constexpr std::size_t kMaxKeptTexts = 256;  // texts asked for by handle, a few MiB at most each

double round_ms(Duration d) {
  return std::round(milliseconds(d) * 1000.0) / 1000.0;
}

json layers_json(const GenerationRequest& request, const ResidentContext::Report& report) {
  json layers = json::array();
  for (const LayerOrigin& origin : report.layers) {
    layers.push_back({{"provenance", to_string(origin.provenance)},
                      {"source", to_string(request.context_was_resident ? Source::kMemory : origin.source)}});
    if (request.context_was_resident) continue;
    layers.back()["ms"] = round_ms(origin.after);
    if (std::ranges::count_if(origin.blocks, [](int n) { return n > 0; }) < 2) continue;
    for (std::size_t i = 0; i < origin.blocks.size(); ++i) {
      if (origin.blocks[i] > 0) layers.back()["blocks"][to_string(static_cast<Source>(i))] = origin.blocks[i];
    }
  }
  return layers;
}

// The x_celslm object of a response.
json extension(const GenerationRequest& request, const GenerationTimes& times, const std::string& trouble) {
  json out = {{"context", nullptr},
              {"ms",
               {{"queue", round_ms(times.queue)},
                {"context", round_ms(times.context)},
                {"prefill", round_ms(times.prefill)},
                {"first_token", round_ms(times.first_token)},
                {"decode", round_ms(times.decode)}}}};
  if (!request.context) {
    if (!trouble.empty()) out["note"] = trouble;
    return out;
  }
  const ResidentContext::Report report = request.context->report();
  out["context"] = request.context->handle.hex();
  out["context_id"] = request.context->id.hex();
  out["context_tokens"] = request.context->tokens.size();
  out["layers"] = layers_json(request, report);
  out["bytes"] = request.context_was_resident ? 0 : report.bytes;
  out["codec"] = report.codec;
  out["codec_reason"] = report.codec_reason;
  if (!report.note.empty()) out["note"] = report.note;
  if (!request.context_was_resident) {
    out["load"] = {{"ms", report.load.took_ms},
                   {"predicted_ms", report.load.predicted_ms > 0 ? json(report.load.predicted_ms) : json(nullptr)},
                   {"hedged_bytes", report.load.hedged_bytes}};
  }
  return out;
}

KvType context_kv_type(const EdgeOptions& options) {
  const KvType wanted = options.batch.kv_type;
  return wanted == KvType::kQ8 ? wanted : options.load.codecs.rungs().front().codec->exact_for().value_or(wanted);
}

HttpResponse completion_refused(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kNotFound: return error_response(ApiError::kUnknownContext, error.message);
    case ErrorKind::kOverloaded: return error_response(ApiError::kTooManyRequests, error.message);
    default: return error_response(error);
  }
}

}  // namespace

EdgeService::EdgeService(EdgeParts parts, const EdgeOptions& options)
    : parts_(std::move(parts)),
      options_(options),
      context_type_(context_kv_type(options)),
      name_(options.model_name.empty() ? parts_.model->config().name : options.model_name),
      table_(options.context_budget_bytes) {}

Result<std::unique_ptr<EdgeService>> EdgeService::create(EdgeParts parts, const EdgeOptions& options) {
  auto engine = std::move(parts.engine);
  std::unique_ptr<EdgeService> edge(new EdgeService(std::move(parts), options));
  const EdgeParts& p = edge->parts_;
  // A type that this model cannot have is better known now than at the first request.
  CELSLM_CHECK_OK(KvSegment::create(p.model->config(), edge->context_type_, 0, 1));
  edge->register_own_contexts();
  double compute_s_per_work = 0;
  if (p.cloud) {  // without one there is nothing to weigh computing against
    CELSLM_TRY(compute_s_per_work, measure_layer_speed(*engine, *p.clock));
    p.log->info("a layer of 1,000 tokens of context takes {:.0f} ms to compute here",
                compute_s_per_work * layer_work(1000) * 1e3);
  }
  edge->loop_ = std::make_unique<BatchLoop>(std::move(engine), *p.clock, options.batch, p.log);
  if (p.store && p.cloud) {
    const auto identify = [raw = edge.get()](const ContextHandle& handle, CodecId wanted) -> std::optional<PackIdentity> {
      const auto context = raw->table_.find(handle);
      if (!context) return std::nullopt;
      return pack_identity(*raw->parts_.model, *context, wanted);
    };
    edge->sharing_ = std::make_unique<PackSharing>(p.store, p.cloud, identify);
  }
  edge->loader_ = std::make_unique<ContextLoader>(p.model, p.cloud, p.neighbours, p.store, *p.clock, options.load, p.log);
  edge->loader_->assume_compute_speed(compute_s_per_work);
  if (p.cloud) {
    edge->refresher_ = std::jthread([raw = edge.get()](std::stop_token stop) { raw->refresh_loop(stop); });
  }
  return edge;
}

EdgeService::~EdgeService() {
  refresher_ = {};
  loader_.reset();
  loop_.reset();
}

void EdgeService::drain(std::chrono::milliseconds grace) {
  loop_->stop(grace);
}

int EdgeService::requests_under_way() const {
  const BatchStats stats = loop_->stats();
  return stats.running + stats.queued;
}

HttpHandler EdgeService::counted(std::string route, HttpResponse (EdgeService::*handler)(const HttpRequest&)) {
  return [this, route = std::move(route), handler](const HttpRequest& request) {
    HttpResponse response = (this->*handler)(request);
    metrics_.answered(route, response.status);
    return response;
  };
}

void EdgeService::add_routes(HttpServer& server) {
  server.route("POST", "/v1/chat/completions", counted("chat", &EdgeService::chat_completions));
  server.route("POST", "/v1/completions", counted("completions", &EdgeService::completions));
  server.route("GET", "/v1/models", [this](const HttpRequest&) { return models(); });
  server.route("GET", "/v1/contexts", [this](const HttpRequest&) { return list_contexts(); });
  server.route("POST", "/v1/contexts", counted("contexts", &EdgeService::put_context));
  server.route("GET", "/health", [](const HttpRequest&) { return json_response({{"status", "ok"}}); });
  server.route("GET", "/metrics", [this](const HttpRequest&) { return metrics(); });
  if (sharing_) sharing_->add_routes(server);
  server.on_error(http_error);
}

// --- contexts ---------------------------------------------------------------------------------------------------------

void EdgeService::refresh_loop(std::stop_token stop) {
  while (!stop.stop_requested()) {
    if (auto status = refresh_contexts(); status)
      use_idle_time();
    else
      parts_.log->debug("contexts not refreshed: {}", status.error().message);
    std::unique_lock lock(mutex_);
    refresh_wake_.wait_for(lock, stop, options_.refresh, [] { return false; });
  }
}

Status EdgeService::refresh_contexts() {
  if (!parts_.cloud) return fail(ErrorKind::kUnavailable, "no cloud is configured (--cloud URL)");
  auto contexts = parts_.cloud->contexts();
  if (contexts) (void)parts_.cloud->key();  // now rather than in the first request's time
  if (contexts && options_.load.mapped) {
    if (const Status asked = refresh_map(); !asked) parts_.log->debug("maps not refreshed: {}", asked.error().message);
  }
  const std::scoped_lock lock(mutex_);
  if (!contexts) {
    // What was registered stays known: a dead link must not make a context private.
    cloud_trouble_ = contexts.error().message;
    return std::unexpected(std::move(contexts).error());
  }
  cloud_trouble_.clear();
  registered_.clear();
  for (ContextInfo& info : *contexts) registered_.emplace(info.handle, std::move(info));
  register_own_contexts();
  return {};
}

Status EdgeService::refresh_map() {
  CELSLM_TRY(const auto models, parts_.cloud->models());
  const auto it = std::ranges::find_if(
      models, [&](const HostedModel& hosted) { return hosted.map && hosted.fingerprint == parts_.model->fingerprint(); });
  loader_->offer_map(it == models.end() ? std::nullopt : it->map);
  return {};
}

void EdgeService::register_own_contexts() {
  for (const std::string& text : options_.contexts) {
    const ContextHandle handle = context_handle(text);
    registered_.try_emplace(handle, ContextInfo{.handle = handle, .bytes = text.size()});
    texts_[handle] = text;
  }
}

bool EdgeService::is_registered(const ContextHandle& handle) const {
  const std::scoped_lock lock(mutex_);
  return registered_.contains(handle);
}

Result<std::string> EdgeService::text_of(const ContextHandle& handle) {
  {
    const std::scoped_lock lock(mutex_);
    if (const auto it = texts_.find(handle); it != texts_.end()) return it->second;
  }
  if (!parts_.cloud)
    return fail(ErrorKind::kNotFound, "unknown context {}: no cloud is configured (--cloud URL)", handle.hex());
  auto text = parts_.cloud->context_text(handle);
  if (!text) return wrap(std::move(text).error(), "context " + handle.hex());
  const std::scoped_lock lock(mutex_);
  if (texts_.size() >= kMaxKeptTexts) texts_.clear();
  texts_[handle] = *text;
  return text;
}

Result<std::optional<std::string>> EdgeService::shared_text(const CompletionRequest& request) {
  if (request.context) {
    CELSLM_TRY(std::string text, text_of(*request.context));
    if (!request.messages.empty() && request.messages.front().role == "system" && request.messages.front().content != text) {
      return fail(ErrorKind::kInvalid,
                  "the request names a context in 'x_celslm' and has another system message: give one of them");
    }
    return std::optional(std::move(text));
  }
  const bool has_system = request.chat && !request.messages.empty() && request.messages.front().role == "system";
  if (!has_system || !is_registered(context_handle(request.messages.front().content))) return std::optional<std::string>();
  return std::optional(request.messages.front().content);
}

Result<std::shared_ptr<ResidentContext>> EdgeService::resident(const std::string& text, bool* was_complete) {
  const ContextHandle handle = context_handle(text);
  const auto create = [&]() -> Result<std::shared_ptr<ResidentContext>> {
    CELSLM_TRY(std::vector<Token> tokens, parts_.model->text().context(text));
    if (static_cast<int>(tokens.size()) + 2 > parts_.model->config().n_ctx_train) {
      return fail(ErrorKind::kInvalid, "the context's {} tokens exceed the model's context of {}", tokens.size(),
                  parts_.model->config().n_ctx_train);
    }
    const Hash256 id = context_id(parts_.model->fingerprint().tokenizer, tokens);
    return ResidentContext::create(handle, parts_.model->config(), id, std::move(tokens), context_type_);
  };
  bool created = false;
  CELSLM_TRY(auto context, table_.acquire(handle, create, &created));
  *was_complete = context->complete();
  if (created) {
    context->on_change([loop = loop_.get()] { loop->wake(); });
    loader_->load(context);
  }
  return context;
}

HttpResponse EdgeService::put_context(const HttpRequest& request) {
  if (!parts_.cloud) return error_response(ApiError::kUnavailable, "no cloud is configured (--cloud URL)");
  const auto body = parse_object(request.body);
  if (!body) return error_response(body.error());
  if (!body->contains("text") || !(*body)["text"].is_string())
    return error_response(ApiError::kInvalidRequest, "'text' must be a string");
  const bool named = body->contains("name") && (*body)["name"].is_string();
  const auto info =
      parts_.cloud->put_context((*body)["text"].get<std::string>(), named ? (*body)["name"].get<std::string>() : "");
  if (!info) return error_response(info.error());
  const std::scoped_lock lock(mutex_);
  registered_[info->handle] = *info;
  return json_response(to_json(*info));
}

HttpResponse EdgeService::list_contexts() const {
  json list = json::array();
  const std::scoped_lock lock(mutex_);
  for (const auto& [handle, info] : registered_) list.push_back(to_json(info));
  return json_response({{"contexts", list}});
}

// --- completions ------------------------------------------------------------------------------------------------------

HttpResponse EdgeService::chat_completions(const HttpRequest& request) {
  return complete(parse_chat_request(request.body), request);
}

HttpResponse EdgeService::completions(const HttpRequest& request) {
  return complete(parse_completion_request(request.body), request);
}

HttpResponse EdgeService::complete(Result<CompletionRequest> request, const HttpRequest& http) {
  if (!request) return error_response(request.error());
  if (!request->model.empty() && request->model != name_) {
    return error_response(ApiError::kModelNotFound,
                          fmt::format("no model '{}' here; this edge serves '{}'", request->model, name_));
  }
  auto prepared = prepare(*std::move(request));
  if (!prepared) return completion_refused(prepared.error());
  auto generation = loop_->submit(std::move(prepared->generation));
  if (!generation) return completion_refused(generation.error());
  if (prepared->request.stream)
    return answer_stream(std::move(prepared->request), std::move(prepared->echo), *generation, http);
  return answer_whole(prepared->request, prepared->echo, **generation, http);
}

Result<std::vector<Token>> EdgeService::prompt_tokens(const CompletionRequest& request, bool with_bos) const {
  const Text& text = parts_.model->text();
  if (request.chat) return text.chat(request.messages);
  if (const auto* words = std::get_if<std::string>(&request.prompt))
    return text.tokenize(*words, with_bos && text.adds_bos(), true);
  std::vector<Token> tokens = std::get<std::vector<Token>>(request.prompt);
  const int n_vocab = parts_.model->config().n_vocab;
  const bool known = std::ranges::all_of(tokens, [&](Token t) { return t >= 0 && t < n_vocab; });
  if (!known) return fail(ErrorKind::kInvalid, "'prompt' has a token outside the vocabulary of {}", n_vocab);
  return tokens;
}

Result<EdgeService::Prepared> EdgeService::prepare(CompletionRequest request) {
  Prepared out;
  CELSLM_TRY(const std::optional<std::string> shared, shared_text(request));
  if (shared && request.chat && request.messages.front().role != "system") {
    request.messages.insert(request.messages.begin(), {.role = "system", .content = *shared});
  }
  CELSLM_TRY(std::vector<Token> tokens, prompt_tokens(request, !shared));
  if (shared) {
    CELSLM_TRY(out.generation.context, resident(*shared, &out.generation.context_was_resident));
    const auto work = out.generation.context->compute_work();
    if (work && request.deadline) work->set_deadline(parts_.clock->now() + *request.deadline);
    const std::vector<Token>& head = out.generation.context->tokens;
    if (request.chat) {
      if (tokens.size() <= head.size() || !std::equal(head.begin(), head.end(), tokens.begin())) {
        return fail(ErrorKind::kInternal,
                    "the chat template does not put the system message first; contexts cannot be shared with it");
      }
      tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(head.size()));
    }
  }
  const std::size_t used = tokens.size() + (shared ? out.generation.context->tokens.size() : 0);
  const std::size_t room = static_cast<std::size_t>(parts_.model->config().n_ctx_train);
  if (tokens.empty()) return fail(ErrorKind::kInvalid, "the prompt is empty");
  if (used >= room) {
    return fail(ErrorKind::kInvalid, "context length exceeded: the prompt has {} tokens, the model's context {}", used,
                room);
  }
  const int left = static_cast<int>(room - used);
  out.generation.prompt = std::move(tokens);
  out.generation.max_tokens = std::min(request.max_tokens.value_or(left), left);
  out.generation.sampler = request.sampler;
  if (!request.seed_given) out.generation.sampler.seed = draw_seed();
  out.generation.stop = request.stop;
  out.generation.logprobs = request.logprobs;
  out.generation.top_logprobs = request.top_logprobs;
  if (!request.chat && request.echo) {
    if (const auto* words = std::get_if<std::string>(&request.prompt)) out.echo = *words;
  }
  out.request = std::move(request);
  return out;
}

CompletionWriter EdgeService::writer(const CompletionRequest& request) {
  const auto created = std::chrono::duration_cast<std::chrono::seconds>(parts_.clock->wall().time_since_epoch()).count();
  const std::uint64_t number = request_counter_.fetch_add(1);
  return {request, name_, fmt::format("{:x}{:06x}", created, number), created};
}

std::uint32_t EdgeService::draw_seed() {
  const std::scoped_lock lock(mutex_);
  return static_cast<std::uint32_t>(seeds_());
}

HttpResponse EdgeService::answer_whole(const CompletionRequest& request, const std::string& echo, Generation& generation,
                                       const HttpRequest& http) {
  std::string text = echo;
  std::vector<TokenText> tokens;
  for (;;) {
    auto piece = generation.take(kDisconnectPoll);
    if (!piece) {
      if (http.disconnected && http.disconnected()) generation.cancel();
      continue;
    }
    if (piece->error) return completion_refused(*piece->error);
    text += piece->text;
    std::ranges::move(piece->tokens, std::back_inserter(tokens));
    if (!piece->finish) continue;
    metrics_.finished(generation.request, piece->usage, piece->times);
    if (*piece->finish == FinishReason::kCancelled) return error_response(ApiError::kCancelled, "the client went away");
    return json_response(writer(request).response(text, tokens, *piece->finish, piece->usage,
                                                  extension(generation.request, piece->times, cloud_trouble_now())));
  }
}

HttpResponse EdgeService::answer_stream(CompletionRequest request, std::string echo, std::shared_ptr<Generation> generation,
                                        const HttpRequest& http) {
  const auto events = [this, request = std::move(request), echo = std::move(echo), generation = std::move(generation),
                       gone = http.disconnected](const BodySink& send) {
    CompletionWriter out = writer(request);
    const auto give_up = [&] {
      generation->cancel();
      return false;
    };
    if (request.chat && !send(out.first_event())) return give_up();
    if (!echo.empty() && !send(out.delta_event(echo, {}))) return give_up();
    for (;;) {
      const auto piece = generation->take(kDisconnectPoll);
      if (!piece) {
        if (gone && gone()) return give_up();
        continue;
      }
      if (piece->error) return send(CompletionWriter::error_event(*piece->error)) && send(CompletionWriter::done_event());
      const bool something = !piece->text.empty() || !piece->tokens.empty();
      if (something && !send(out.delta_event(piece->text, piece->tokens))) return give_up();
      if (!piece->finish) continue;
      metrics_.finished(generation->request, piece->usage, piece->times);
      bool sent = send(out.last_event(*piece->finish, extension(generation->request, piece->times, cloud_trouble_now())));
      if (request.include_usage) sent = sent && send(out.usage_event(piece->usage));
      return sent && send(CompletionWriter::done_event());
    }
  };
  return {.content_type = "text/event-stream", .headers = {{"Cache-Control", "no-cache"}}, .stream = events};
}

std::string EdgeService::cloud_trouble_now() const {
  const std::scoped_lock lock(mutex_);
  return cloud_trouble_;
}

// --- the rest ---------------------------------------------------------------------------------------------------------

HttpResponse EdgeService::metrics() {
  return {.content_type = Metrics::kContentType,
          .body = metrics_.text(loop_->stats(), table_, parts_.store.get(), sharing_ ? sharing_->sent_bytes() : 0)};
}

HttpResponse EdgeService::models() const {
  const json model = {
      {"id", name_},
      {"object", "model"},
      {"owned_by", "celslm"},
      {"created", 0},
      {"x_celslm", {{"model_id", parts_.model->fingerprint().id().hex()}, {"n_ctx", parts_.model->config().n_ctx_train}}}};
  return json_response({{"object", "list"}, {"data", json::array({model})}});
}

}  // namespace celslm
