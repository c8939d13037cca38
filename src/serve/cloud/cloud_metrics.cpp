#include "serve/cloud/cloud_metrics.h"

namespace celslm {

void CloudMetrics::waiting(const HostedModel& model, int packs) {
  metrics_.gauge("celslm_cloud_packs_waiting", "Packs waiting for their turn to be computed.", {{"model", model.name}})
      .Set(packs);
}

void CloudMetrics::computed(const HostedModel& model, const PackIdentity& identity, std::uint64_t bytes, Duration took) {
  const prometheus::Labels labels{{"model", model.name}};
  metrics_.counter("celslm_cloud_packs_computed_total", "Packs computed to the end.", labels).Increment();
  metrics_.counter("celslm_cloud_tokens_computed_total", "Context tokens in packs computed to the end.", labels)
      .Increment(identity.n_tokens());
  metrics_.counter("celslm_cloud_pack_bytes_computed_total", "Bytes of blocks in packs computed to the end.", labels)
      .Increment(static_cast<double>(bytes));
  metrics_
      .histogram("celslm_cloud_pack_seconds", "Time to compute a pack, without waiting for its turn.", seconds_buckets(),
                 labels)
      .Observe(seconds(took));
}

void CloudMetrics::failed(const HostedModel& model, const Error& error) {
  metrics_
      .counter("celslm_cloud_packs_failed_total", "Packs whose computation failed or was cancelled.",
               {{"model", model.name}, {"kind", to_string(error.kind)}})
      .Increment();
}

void CloudMetrics::answered(const std::string& route, int status) {
  metrics_
      .counter("celslm_cloud_requests_total", "Requests answered, by route and status.",
               {{"route", route}, {"status", std::to_string(status)}})
      .Increment();
}

void CloudMetrics::sent(const std::string& part, std::size_t bytes) {
  metrics_.counter("celslm_cloud_sent_bytes_total", "Bytes of packs sent, by part.", {{"part", part}})
      .Increment(static_cast<double>(bytes));
}

std::string CloudMetrics::text(std::size_t contexts, std::uint64_t pack_store_bytes, std::uint64_t pack_budget_bytes) {
  metrics_.gauge("celslm_cloud_contexts", "Contexts registered.").Set(static_cast<double>(contexts));
  metrics_.gauge("celslm_cloud_pack_store_bytes", "Bytes of packs on disk.").Set(static_cast<double>(pack_store_bytes));
  metrics_.gauge("celslm_cloud_pack_store_budget_bytes", "Bytes of packs that may be on disk.")
      .Set(static_cast<double>(pack_budget_bytes));
  return metrics_.text();
}

HttpHandler counted(CloudMetrics& metrics, std::string route, HttpHandler handler) {
  return [&metrics, route = std::move(route), handler = std::move(handler)](const HttpRequest& request) {
    HttpResponse response = handler(request);
    metrics.answered(route, response.status);
    return response;
  };
}

}  // namespace celslm
