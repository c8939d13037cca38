// GET /v1/status at an edge: what is registered, held and loading, for people's pages. docs/http-protocol.md describes it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "net/access/caller.h"
#include "serve/batch/batch_loop.h"
#include "serve/edge/context_directory.h"
#include "serve/edge/context_memory.h"

namespace celslm {

// What the status is about.
struct EdgeStatusParts {
  const std::string& model_name;
  const Model& model;
  const BatchStats& stats;
  const ContextDirectory& directory;
  const ContextMemory& contexts;
  const Caller& caller;  // who asks
};

// Shared contexts only, and of those the ones that the caller may see: nothing of any request. At most kMaxStatusContexts
// registered ones are listed.
inline constexpr std::size_t kMaxStatusContexts = 500;
nlohmann::json edge_status(const EdgeStatusParts& parts);

}  // namespace celslm
