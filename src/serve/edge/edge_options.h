// What an edge is configured with. The command line parses straight into it (cli/edge_options.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/access/audit_log.h"
#include "plan/routing.h"
#include "serve/batch/batch_loop.h"
#include "serve/load/context_loader.h"
#include "serve/route/cascade_rule.h"

namespace celslm {

// Who may answer requests besides this edge, and when.
struct RoutingOptions {
  RequestPolicy policy = RequestPolicy::kEdgeOnly;  // of requests that name none
  RequestPolicy widest = RequestPolicy::kCloud;     // that any request can have; a client's key may allow less
  RouteOptions choice;
  // Tokens a second of one request's prompt and answer, until requests have shown them; 0: unknown, and requests stay.
  double assumed_prefill_tokens_per_s = 0;
  double assumed_decode_tokens_per_s = 0;
  std::optional<CascadeRule> cascade;  // absent: the small model's answers are not judged
};

struct EdgeOptions {
  std::string model_name;                           // as clients name it; empty: the model's own
  std::uint64_t context_budget_bytes = 4ULL << 30;  // memory for contexts' KV
  std::size_t max_contexts = SIZE_MAX;              // in memory, however small they are
  // How often the cloud's list of contexts is read where the cloud cannot hold its answer until something changes, and after
  // failures; also how often idle work is looked for.
  std::chrono::milliseconds refresh{2'000};
  std::chrono::seconds hold{180};     // for how long the cloud is asked to hold its answer, at most; 0: not at all
  std::vector<std::string> contexts;  // texts shared by this edge's own users: contexts without any cloud
  // While no request runs: registered contexts to load before the first request for them, at most so many ...
  int max_prefetched = 0;
  // ... and exact KV in place of what came by an approximate codec.
  bool refine = false;
  // Whether clients may register and remove contexts at the cloud through this edge, with its token.
  bool forwards_registrations = true;
  std::shared_ptr<AuditLog> audit;  // of registrations, removals and packs fetched by neighbours; null: none
  RoutingOptions routing;
  LoaderOptions load;
  // batch.kv_type is contexts' type, too, unless load.codecs begins with an exact codec: see context_kv_type().
  BatchOptions batch;

  // An exact codec needs KV of its own type in memory; q8 was chosen to save memory, whatever the codec.
  KvType context_kv_type() const {
    const KvType wanted = batch.kv_type;
    return wanted == KvType::kQ8 ? wanted : load.codecs.rungs().front().codec->exact_for().value_or(wanted);
  }
};

}  // namespace celslm
