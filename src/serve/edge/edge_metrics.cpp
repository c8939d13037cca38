#include "serve/edge/edge_metrics.h"

#include <algorithm>

#include "serve/wire/process_metrics.h"

namespace celslm {

EdgeMetrics::EdgeMetrics() {
  for (const Source source : {Source::kDisk, Source::kPeer, Source::kCloud}) {
    refused_by(source);
    layers_from(source);
    if (is_network(source)) fetched_from(source);
  }
  layers_from(Source::kCompute);
}

prometheus::Counter& EdgeMetrics::refused_by(Source source) {
  return metrics_.counter("celslm_edge_refused_total", "Headers, entries and blocks that were not what had to come",
                          {{"source", to_string(source)}});
}

prometheus::Counter& EdgeMetrics::layers_from(Source source) {
  return metrics_.counter("celslm_edge_layers_total", "Layers of contexts, by the source of most of each",
                          {{"source", to_string(source)}});
}

prometheus::Counter& EdgeMetrics::fetched_from(Source source) {
  return metrics_.counter("celslm_edge_fetched_bytes_total", "Bytes of KV received over the network",
                          {{"source", to_string(source)}});
}

void EdgeMetrics::answered(const std::string& route, int status) {
  metrics_
      .counter("celslm_edge_answers_total", "HTTP responses started", {{"route", route}, {"status", std::to_string(status)}})
      .Increment();
}

void EdgeMetrics::finished(const GenerationRequest& request, const Usage& usage, const GenerationTimes& times) {
  speed_.finished(usage, times);
  const char* const context = !request.context ? "none" : request.context_was_resident ? "resident" : "loaded";
  const auto seconds_of = [&](const char* name, const char* help, Duration d) {
    metrics_.histogram(name, help, seconds_buckets(), {{"context", context}}).Observe(seconds(d));
  };
  seconds_of("celslm_edge_first_token_seconds", "Time from a request's arrival to its first token", times.first_token);
  seconds_of("celslm_edge_context_seconds", "Time from a request's start until its context's last layer is available",
             times.context);
  if (usage.completion_tokens > 1) {
    seconds_of("celslm_edge_token_seconds", "Time per token after the first, mean of a request",
               times.decode / (usage.completion_tokens - 1));
  }
}

void EdgeMetrics::forwarded(const char* to, const char* how, std::uint64_t bytes) {
  metrics_
      .counter("celslm_edge_forwarded_total", "Requests that another node was asked to answer", {{"to", to}, {"how", how}})
      .Increment();
  metrics_.counter("celslm_edge_forwarded_bytes_total", "Bytes of such requests and of their answers", {{"to", to}})
      .Increment(static_cast<double>(bytes));
}

void EdgeMetrics::judged(const char* by) {
  metrics_.counter("celslm_edge_cascade_total", "Answers that the cascade judged, by the model that answered", {{"by", by}})
      .Increment();
}

void EdgeMetrics::loaded_idly(const char* why) {
  metrics_.counter("celslm_edge_idle_loads_total", "Contexts loaded while no request ran", {{"why", why}}).Increment();
}

void EdgeMetrics::received(Source from, std::uint64_t bytes) {
  fetched_from(from).Increment(static_cast<double>(bytes));
}

void EdgeMetrics::wasted(std::uint64_t bytes) {
  metrics_.counter("celslm_edge_hedged_bytes_total", "Of the fetched bytes, those received twice or too late")
      .Increment(static_cast<double>(bytes));
}

void EdgeMetrics::completed(const LoadSummary& load) {
  speed_.loaded(load.report.took_ms / 1e3);
  metrics_.counter("celslm_edge_loads_total", "Contexts loaded, by the codec chosen", {{"codec", load.codec}}).Increment();
  for (std::size_t i = 0; i < load.layers.size(); ++i) {
    if (load.layers[i] == 0) continue;
    layers_from(static_cast<Source>(i)).Increment(load.layers[i]);
  }
  if (load.report.predicted_ms > 0) {
    metrics_
        .histogram("celslm_edge_load_over_prediction", "Duration of a load divided by its prediction",
                   {0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 5.0})
        .Observe(load.report.took_ms / load.report.predicted_ms);
  }
}

void EdgeMetrics::refused(Source source) {
  refused_by(source).Increment();
}

void EdgeMetrics::cloud(bool in_touch) {
  metrics_.gauge("celslm_edge_cloud_reachable", "Whether the cloud's list could be read at the last try")
      .Set(in_touch ? 1 : 0);
}

void EdgeMetrics::memory(const MemoryLedger& ledger, const ResidentMemory& resident) {
  const auto gauge = [&](const char* name, const char* help, std::uint64_t value, const prometheus::Labels& labels = {}) {
    metrics_.gauge(name, help, labels).Set(static_cast<double>(value));
  };
  for (const auto& account : ledger.accounts()) {
    gauge("celslm_edge_memory_bytes", "Memory of this process, by who holds it", account.bytes, {{"account", account.name}});
    gauge("celslm_edge_memory_most_bytes", "The most that the account has held so far", account.most_bytes,
          {{"account", account.name}});
  }
  gauge("celslm_edge_memory_limit_bytes", "What all accounts may hold together", ledger.limit_bytes());
  gauge("celslm_edge_resident_bytes", "Memory of this process as the system counts it", resident.bytes());
  auto& refused =
      metrics_.counter("celslm_edge_memory_refused_total", "Times memory was refused or had to be made free first");
  refused.Increment(std::max(0.0, static_cast<double>(ledger.refused()) - refused.Value()));
}

std::string EdgeMetrics::text(const BatchStats& stats, const ContextTable& contexts, const PackStore* store,
                              std::uint64_t shared_bytes) {
  const MutexLock lock(page_mutex_);
  const auto gauge = [&](const char* name, const char* help, auto value) {
    metrics_.gauge(name, help).Set(static_cast<double>(value));
  };
  // The loop counts these; the counter here is raised to the loop's value.
  const auto counter = [&](const char* name, const char* help, std::uint64_t value, const prometheus::Labels& labels = {}) {
    auto& c = metrics_.counter(name, help, labels);
    c.Increment(std::max(0.0, static_cast<double>(value) - c.Value()));
  };
  gauge("celslm_edge_running_requests", "Requests in the batch", stats.running);
  gauge("celslm_edge_queued_requests", "Requests waiting for a free place", stats.queued);
  gauge("celslm_edge_own_kv_bytes", "Memory of running requests' own KV", stats.own_kv_bytes);
  gauge("celslm_edge_kept_kv_bytes", "Memory of finished conversations' KV, kept for requests that continue them",
        stats.kept_kv_bytes);
  gauge("celslm_edge_resident_contexts", "Contexts in memory", contexts.size());
  gauge("celslm_edge_context_kv_bytes", "Memory of contexts' KV", contexts.bytes());
  gauge("celslm_edge_kept_packs", "Complete packs on disk", store ? store->list().size() : 0);
  gauge("celslm_edge_pack_store_bytes", "Disk space of packs", store ? store->bytes() : 0);
  counter("celslm_edge_steps_total", "Steps of the batch loop that did work", stats.steps);
  counter("celslm_edge_prompt_tokens_total", "Users' own prompt tokens computed", stats.prompt_tokens);
  counter("celslm_edge_reused_tokens_total", "Users' own prompt tokens whose KV was copied from an earlier request",
          stats.reused_tokens);
  counter("celslm_edge_preempted_total", "Times a request lost its KV for lack of memory and had to be computed again",
          stats.preempted);
  counter("celslm_edge_completion_tokens_total", "Tokens generated", stats.completion_tokens);
  counter("celslm_edge_shared_bytes_total", "Bytes of packs sent to peers", shared_bytes);
  counter("celslm_edge_requests_total", "Requests that ended", stats.finished, {{"how", "finished"}});
  counter("celslm_edge_requests_total", "Requests that ended", stats.cancelled, {{"how", "cancelled"}});
  counter("celslm_edge_requests_total", "Requests that ended", stats.failed, {{"how", "failed"}});
  if (store) show_free_disk(metrics_, store->free_bytes());
  show_build(metrics_);
  return metrics_.text();
}

}  // namespace celslm
