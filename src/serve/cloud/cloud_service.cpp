#include "serve/cloud/cloud_service.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "serve/page/page.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

using nlohmann::json;

Status check_models(const std::vector<std::shared_ptr<KvProducer>>& models) {
  if (models.empty()) return fail(ErrorKind::kInvalid, "a cloud needs at least one model");
  if (models.size() > kMaxHostedModels)
    return fail(ErrorKind::kInvalid, "a cloud hosts at most {} models", kMaxHostedModels);
  std::set<std::pair<Hash256, MadeWith>> ids;
  for (const auto& model : models) {
    const HostedModel& hosted = model->model();
    if (!ids.emplace(hosted.fingerprint.id(), made_with(hosted)).second) {
      return fail(ErrorKind::kInvalid, "the model {} is given twice", model->model().name);
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
  CELSLM_TRY(auto studied, StudiedLibrary::open(options.studied_folder, models, log));
  CELSLM_TRY(auto key, SigningKey::load_or_create(options.data_folder / kSigningKeyFile));
  CELSLM_TRY(auto links, read_links(options.data_folder / kSigningLinksFile));
  CELSLM_TRY(auto store, PackStore::open(options.data_folder / "packs", options.pack_budget_bytes, log));
  auto storage = std::make_unique<SignedPackStorage>(std::move(store), key.public_key());
  std::unique_ptr<CloudService> out(new CloudService(std::move(key), std::move(contexts), std::move(storage),
                                                     std::move(studied), std::move(models), options, clock, std::move(log)));
  for (const KeyLink& link : links) out->key_links_.push_back(link.text());
  CELSLM_CHECK_OK(out->followers_.start(1));
  if (out->studies_) out->studies_->start();
  return out;
}

CloudService::CloudService(SigningKey key, std::unique_ptr<ContextRegistry> contexts,
                           std::unique_ptr<SignedPackStorage> storage, std::unique_ptr<StudiedLibrary> studied,
                           std::vector<std::shared_ptr<KvProducer>> models, const CloudOptions& options, const Clock& clock,
                           Log log)
    : clock_(clock),
      log_(std::move(log)),
      key_(std::move(key)),
      codecs_(options.codecs.empty() ? every_codec() : options.codecs),
      contexts_(std::move(contexts)),
      storage_(std::move(storage)),
      studied_(std::move(studied)),
      catalog_(*contexts_, std::move(models)),
      studies_(options.studying ? std::make_unique<StudyJobs>(*options.studying, *contexts_, jobs_, metrics_,
                                                              options.data_folder / "contexts", log_)
                                : nullptr),
      jobs_(catalog_.models(), *storage_, key_, clock, metrics_, log_, jobs_options(options)),
      edges_(clock),
      held_(
          clock, [this] { return contexts_->revision(); },
          [this](const std::string& since) { return context_routes_.list_since(since); }),
      status_({.contexts = *contexts_, .catalog = catalog_, .jobs = jobs_, .storage = *storage_, .edges = edges_}),
      context_routes_({.contexts = *contexts_,
                       .catalog = catalog_,
                       .jobs = jobs_,
                       .studied = *studied_,
                       .studies = studies_.get(),
                       .metrics = metrics_,
                       .edges = edges_,
                       .held = held_,
                       .prefill_codec = std::ranges::contains(codecs_, CodecId::kF16) ? CodecId::kF16 : codecs_.front(),
                       .audit = options.audit,
                       .log = log_}),
      pack_routes_({.contexts = *contexts_,
                    .catalog = catalog_,
                    .jobs = jobs_,
                    .studied = *studied_,
                    .storage = *storage_,
                    .metrics = metrics_,
                    .key = key_,
                    .codecs = codecs_,
                    .followers = followers_,
                    .audit = options.audit}) {
  contexts_->on_change([this] { held_.changed(); });
}

CloudService::~CloudService() {
  shutdown();
  followers_.finish();
}

PackJobsOptions CloudService::jobs_options(const CloudOptions& options) {
  PackJobsOptions out = options.jobs;
  out.fetch = [this](PackJob& job, std::stop_token stop) -> Result<StoredPack> {
    CloudFleet* const fleet = fetches_from_;
    if (fleet == nullptr) return fail(ErrorKind::kNotFound, "this cloud is alone");
    return fleet->fetch(job, std::move(stop));
  };
  out.on_computed = [this](const StoredPack& pack) {
    if (CloudFleet* const fleet = fetches_from_) fleet->keep(pack);
  };
  out.on_wait = [this](const PackIdentity& identity) {
    if (CloudFleet* const fleet = fetches_from_) fleet->offer(identity);
  };
  if (studies_) out.on_job_end = [studies = studies_.get()] { studies->wake(); };
  return out;
}

void CloudService::join(FleetParts fleet, ConnectCloud connect) {
  fleet_ = std::make_unique<CloudFleet>(std::move(fleet),
                                        CloudFleetParts{.contexts = *contexts_,
                                                        .catalog = catalog_,
                                                        .jobs = jobs_,
                                                        .storage = *storage_,
                                                        .metrics = metrics_,
                                                        .codecs = codecs_,
                                                        .key = key_,
                                                        .packs = *storage_,
                                                        .connect = std::move(connect)},
                                        clock_, log_);
  fetches_from_ = fleet_.get();
  contexts_->on_change([this] {
    held_.changed();
    fleet_->contexts_changed();
  });
}

void CloudService::started(const std::string& url) {
  if (fleet_) fleet_->start(url);
}

void CloudService::shutdown() {
  if (fleet_) fleet_->stop();
  held_.stop();
  if (studies_) studies_->stop();
  jobs_.stop();
}

void CloudService::add_routes(HttpServer& server) {
  server.on_error(http_error);
  server.route("GET", "/health", [](const HttpRequest&) { return json_response({{"status", "ok"}}); });
  server.route("GET", "/metrics", [this](const HttpRequest& request) {
    if (!request.caller.is_operator) return operators_only();
    if (fleet_) metrics_.fleet(fleet_->member().state());
    metrics_.free_disk(storage_->free_bytes());
    return HttpResponse{.content_type = Metrics::kContentType,
                        .body = metrics_.text(contexts_->size(), storage_->bytes(), storage_->budget_bytes())};
  });
  server.route("GET", "/v1/key", counted(metrics_, "key", [this](const HttpRequest&) {
                 return json_response({{"public_key", key_.public_key().hex()}, {"links", key_links_}});
               }));
  server.route("GET", "/v1/models", counted(metrics_, "models", [this](const HttpRequest&) { return list_models(); }));
  server.route("GET", "/v1/status", [this](const HttpRequest& r) { return json_response(status(r.caller)); });
  add_page(server, PageOf::kCloud);
  context_routes_.add_to(server);
  pack_routes_.add_to(server);
}

json CloudService::status(const Caller& caller) {
  json out = status_.get(caller);
  if (fleet_ && caller.is_operator) out["fleet"] = fleet_status(fleet_->member());
  return out;
}

HttpResponse CloudService::list_models() const {
  json models = json::array();
  for (const auto& model : catalog_.models()) models.push_back(to_json(model->model()));
  return json_response({{"models", std::move(models)}});
}

}  // namespace celslm
