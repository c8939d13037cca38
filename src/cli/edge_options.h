// The command line of `celslm edge`.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/connect.h"
#include "cli/directory_options.h"
#include "cli/listen_options.h"
#include "cli/terminal/device_option.h"
#include "core/result.h"
#include "model/engine/model.h"
#include "serve/edge/edge_service.h"

namespace celslm {

// Where packs come from over the network.
struct CloudAccess {
  std::string url;         // empty: no cloud
  std::string public_key;  // empty: trust on first use
  std::string ca_file;
  std::string token_file;
  std::vector<std::string> peers;
  std::string peer_token_file;
  ClientCertificate certificate;       // see client_certificate()
  std::vector<std::string> neighbors;  // edges that requests may be forwarded to
  std::string neighbor_token_file;
  std::string large;  // an edge that answers with the large model; empty: none
  std::string large_token_file;
  bool token_in_clear = false;                    // may cross the network without TLS
  std::uint64_t max_bytes_per_hour = UINT64_MAX;  // over the network, of all calls together
};

struct CodecSelection {
  std::string name = "auto";
  std::string measurements_file;  // empty: those that are built in, of the models that this project measures
  double max_loss = kMaxCodecLoss;
};

struct EdgeCommand {
  std::string model_file;
  int n_threads = 0;  // 0: one per core
  DeviceOptions device;
  CloudAccess cloud;
  DirectoryOptions directory;
  CodecSelection codec;
  std::optional<Guidance> guidance;  // absent: see complete_options()
  std::string tuning_file;           // empty: none
  std::vector<std::string> context_files;
  RequestPolicy widest_policy = RequestPolicy::kCloud;
  std::string cascade_file;  // empty: answers are not judged
  std::string data_folder;
  std::uint64_t memory_bytes = 0;  // 0: see memory_limit_of()
  std::uint64_t pack_budget_bytes = 8ULL << 30;
  EdgeOptions options;  // see complete_options()
  ListenOptions listen;
  std::string log_level = "info";
};

// `command` must outlive the parsing.
void add_edge_options(CLI::App& app, EdgeCommand& command);

// The certificate that this edge shows to cloud and peers: the server's own, unless another was given.
ClientCertificate client_certificate(const EdgeCommand& command);

// The options, with the texts of the context files read. Guidance is, unless chosen, "tuned" with a tuning and "none"
// without. load.codecs and load.tuning are left to codecs_for() and tuning_for(), which need the model.
Result<EdgeOptions> complete_options(const EdgeCommand& command);

// The rule of --cascade, checked for this model; absent: none. Errors name the file.
Result<std::optional<CascadeRule>> cascade_for(const EdgeCommand& command, const Model& model);

// --memory, or nine tenths of what the system allows this process.
std::uint64_t memory_limit_of(const EdgeCommand& command);
// Budgets that were not given, from what program and model (`fixed_bytes`) leave of the ledger's limit.
void divide_memory(EdgeOptions& options, std::uint64_t fixed_bytes);

// The tuning that contexts are to have, checked for this model and its gate; null: none. Errors name the file.
Result<std::shared_ptr<const KvTuning>> tuning_for(const EdgeCommand& command, const Model& model);

// The codec that was named, or all whose measured effect on this model is small enough. Errors name the file.
Result<CodecLadder> codecs_for(const CodecSelection& selection, const Model& model);

}  // namespace celslm
