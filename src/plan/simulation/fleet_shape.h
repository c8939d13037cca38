// What a simulated fleet is made of. Times in seconds, rates per second.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/load_policy.h"
#include "plan/policy.h"
#include "plan/simulation/link_class.h"

namespace celslm {

// An edge's engine, which works in steps as BatchRunner does: a layer of 512 tokens of the context that is loaded, then
// tokens of prompts, in equal shares, and one of each answer.
struct EngineModel {
  double prefill_tokens_per_s = 400;
  double decode_base_s = 0.013;      // of a step, whoever is in it
  double decode_per_user_s = 0.001;  // for each answer in it
  double stall_s = 0.1;              // --max-stall
  int n_layers = 24;
  int places = 16;     // requests in its batch
  int max_queue = 64;  // further requests that wait; more are refused
  double step_s(int users) const { return users > 0 ? decode_base_s + decode_per_user_s * users : 0; }
  // Tokens of prompts in a step beside so many answers: as many as fit stall_s at the time that a row of such steps takes.
  double prompt_share(int users) const;
  // What a row of such a step takes.
  double row_s(int users) const;
};

// A registered context: its tokens and the bytes of its pack.
struct SimulatedContext {
  int tokens = 2048;
  double pack_bytes = 25e6;
};

// How a request finds its node.
enum class FleetRouting {
  kHome,        // the edge that was asked answers
  kRandom,      // any edge of its site, at random
  kRoundRobin,  // the edges of its site in turn
  kPredicted,   // choose_route() of plan/routing.h
};

struct Failures {
  double edge_mtbf_s = 0;  // mean time from one failure to the next, of each; 0: none
  double cloud_mtbf_s = 0;
  double repair_s = 60;
};

struct FleetShape {
  int n_edges = 12;
  int site_size = 12;  // edges that are near each other, and trust each other
  int n_clouds = 3;
  std::vector<LinkClass> links;    // of the edges, by turns; empty: fibre
  double lan_bytes_per_s = 125e6;  // of each edge, towards its neighbours; 0: no contexts come from these
  double lan_round_trip_s = 0.0005;
  double disk_bytes_per_s = 1e9;
  double cloud_bytes_per_s = 1.25e9;  // of each cloud, towards all edges
  double cloud_prefill_tokens_per_s = 4000;
  double tier_bytes_per_s = 0;  // of the shared pack tier; 0: there is none
  EngineModel engine;
  double context_memory_bytes = 100e6;  // of each edge, for contexts
  double disk_bytes = 8e9;              // of each edge, for packs
  std::vector<SimulatedContext> contexts;
  int n_pushed = 0;  // the most popular contexts, in every edge's memory from the start
  Prefer prefer = Prefer::kLatency;
  FleetRouting routing = FleetRouting::kHome;
  RequestPolicy policy = RequestPolicy::kFleet;  // of all requests; kEdgeOnly makes every routing kHome
  double heartbeat_s = 1;                        // how old may be what a node knows of its neighbours
  Failures failures;
  std::uint64_t seed = 1;
};

// Requests are sorted by time.
struct FleetRequest {
  double at_s = 0;
  int edge = 0;      // that is asked
  int context = -1;  // -1: none
  int prompt_tokens = 64;
  int answer_tokens = 64;
};

}  // namespace celslm
