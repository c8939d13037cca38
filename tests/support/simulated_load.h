// Simulates the loading of a context in virtual time: sources and compute are modelled by a few numbers each, a LoadPlan
// decides.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "plan/load_plan.h"

namespace celslm::testing_support {

struct SimulatedSource {
  double rate_bytes_per_s = 1e6;
  double latency_s = 0;
  int max_transfers = 4;
  bool is_neighbour = false;
  bool known = false;                   // the plan starts with its rate and latency
  std::optional<double> dies_at_s{};    // from then on every request fails
  std::optional<double> stalls_at_s{};  // from then on no bytes arrive, without an error
  std::optional<double> slows_at_s{};   // from then on it has a thousandth of its rate
  double garbage_share = 0;             // share of its blocks that are damaged
  double layer_every_s = 0;             // it is still computing the context, one layer in this time; 0: it has all layers
};

struct SimulatedLoad {
  LoadShape shape;
  PlanOptions options;
  std::vector<SimulatedSource> sources;
  double unit_s = 0;  // time of one unit of local compute; 0: no local compute
  int units_per_layer = 2;
  bool compute_known = false;
};

struct SimulationResult {
  bool complete = false;
  double seconds = 0;
  std::vector<int> writes;           // [n_blocks]: how often each was written
  std::vector<std::uint64_t> bytes;  // [n_sources]: received from each
  int layers_computed = 0;
  std::vector<int> order;  // the blocks in the order in which they were written
  bool operator==(const SimulationResult&) const = default;
};

// Each source serves its requests round-robin, piece by piece, each request beginning one latency after it was made.
class Simulation {
 public:
  explicit Simulation(const SimulatedLoad& load) : load_(load), plan_(load.shape, options(load), at(0)) {
    out_.writes.resize(static_cast<std::size_t>(load.shape.n_blocks()));
    out_.bytes.resize(load.sources.size());
    lanes_.resize(load.sources.size());
    for (const SimulatedSource& source : load.sources) {
      SourceTraits traits{.max_transfers = source.max_transfers, .is_neighbour = source.is_neighbour};
      if (source.known) {
        traits.estimate.rate_bytes_per_s.add(source.rate_bytes_per_s);
        traits.estimate.latency_s.add(source.latency_s);
      }
      const SourceId id = plan_.add_source(traits, at(0));
      if (source.layer_every_s == 0) plan_.offer(id, {0, load.shape.n_blocks()});
    }
  }

  SimulationResult run(double limit_s = 1e5) {
    while (!plan_.complete() && now_ < limit_s) {
      step();
      if (!anything_left()) break;
    }
    out_.complete = plan_.complete();
    out_.seconds = now_;
    return out_;
  }

 private:
  static constexpr std::uint64_t kPiece = 32U << 10;
  struct Lane {  // a request in progress
    Transfer transfer;
    double ready_s = 0;      // when its first byte can be sent
    int sent = 0;            // complete blocks
    std::uint64_t part = 0;  // bytes of the next block
  };
  struct Pipe {
    std::vector<Lane> lanes;
    std::size_t turn = 0;
    std::optional<double> piece_done_s;
    std::uint64_t piece = 0;
    double offered_layers = 0;
  };

  static TimePoint at(double s) {
    return TimePoint{} + std::chrono::hours(1) + Duration(static_cast<std::int64_t>(s * 1e9));
  }
  static PlanOptions options(const SimulatedLoad& load) {
    PlanOptions out = load.options;
    if (load.compute_known) out.layer_s = load.unit_s * load.units_per_layer;
    return out;
  }
  double rate(std::size_t i) const {
    const SimulatedSource& s = load_.sources[i];
    return s.slows_at_s && now_ >= *s.slows_at_s ? s.rate_bytes_per_s / 1000 : s.rate_bytes_per_s;
  }
  bool dead(std::size_t i) const { return load_.sources[i].dies_at_s && now_ >= *load_.sources[i].dies_at_s; }
  bool stalled(std::size_t i) const { return load_.sources[i].stalls_at_s && now_ >= *load_.sources[i].stalls_at_s; }
  bool anything_left() const { return load_.unit_s > 0 || plan_.any_source_alive(); }

  void step() {
    double next = now_ + 0.01;  // maximum step
    for (std::size_t i = 0; i < lanes_.size(); ++i) next = std::min(next, serve(i));
    if (load_.unit_s > 0) next = std::min(next, compute());
    for (const TransferId late : plan_.stalled(at(now_), std::chrono::seconds(3))) end(late, TransferEnd::kFailed);
    if (!plan_.complete()) now_ = std::max(next, now_ + 1e-9);
  }

  // Everything that source i does at now_. Returns the time of its next event.
  double serve(std::size_t i) {
    Pipe& pipe = lanes_[i];
    offer_more(i);
    if (dead(i)) {
      while (!pipe.lanes.empty()) end(pipe.lanes.front().transfer.id, TransferEnd::kFailed);
    }
    for (std::size_t k = pipe.lanes.size(); k-- > 0;) {
      if (!plan_.is_needed(pipe.lanes[k].transfer.id)) end(pipe.lanes[k].transfer.id, TransferEnd::kDone);
    }
    if (pipe.piece_done_s && now_ >= *pipe.piece_done_s && !pipe.lanes.empty()) deliver(i);
    while (const auto transfer = plan_.next(static_cast<SourceId>(i), at(now_))) {
      pipe.lanes.push_back({*transfer, now_ + load_.sources[i].latency_s});
      if (dead(i)) end(transfer->id, TransferEnd::kFailed);
    }
    if (!pipe.piece_done_s && !stalled(i)) begin_piece(i);
    if (pipe.piece_done_s && !stalled(i)) return std::max(*pipe.piece_done_s, now_);
    double next = 1e9;
    for (const Lane& lane : pipe.lanes) {
      if (lane.ready_s > now_) next = std::min(next, lane.ready_s);
    }
    return next;
  }

  void offer_more(std::size_t i) {
    const double every = load_.sources[i].layer_every_s;
    Pipe& pipe = lanes_[i];
    while (every > 0 && pipe.offered_layers < load_.shape.n_layers && now_ >= (pipe.offered_layers + 1) * every) {
      plan_.offer(static_cast<SourceId>(i),
                  {static_cast<int>(pipe.offered_layers) * load_.shape.blocks_per_layer, load_.shape.blocks_per_layer});
      pipe.offered_layers += 1;
    }
  }

  void begin_piece(std::size_t i) {
    Pipe& pipe = lanes_[i];
    for (std::size_t k = 0; k < pipe.lanes.size(); ++k) {
      const std::size_t turn = (pipe.turn + k) % pipe.lanes.size();
      Lane& lane = pipe.lanes[turn];
      if (lane.ready_s > now_) continue;
      pipe.turn = turn;
      pipe.piece = std::min<std::uint64_t>(kPiece, block_bytes(lane) - lane.part);
      pipe.piece_done_s = now_ + static_cast<double>(pipe.piece) / rate(i);
      return;
    }
  }

  void deliver(std::size_t i) {
    Pipe& pipe = lanes_[i];
    pipe.piece_done_s.reset();
    pipe.turn %= pipe.lanes.size();
    Lane& lane = pipe.lanes[pipe.turn++];
    plan_.bytes_arrived(lane.transfer.id, pipe.piece, at(now_));
    lane.part += pipe.piece;
    if (lane.part < block_bytes(lane)) return;
    lane.part = 0;
    const int block = lane.transfer.blocks.first + lane.sent;
    out_.bytes[i] += load_.shape.block_bytes[static_cast<std::size_t>(block)];
    // Damaged blocks are spread evenly and deterministically.
    if (load_.sources[i].garbage_share > 0 && (block * 7919 % 1000) < load_.sources[i].garbage_share * 1000) {
      return end(lane.transfer.id, TransferEnd::kFailed);
    }
    if (plan_.claim_next(lane.transfer.id, at(now_))) write(block);
    if (++lane.sent == lane.transfer.blocks.count) end(lane.transfer.id, TransferEnd::kDone);
  }

  std::uint64_t block_bytes(const Lane& lane) const {
    return load_.shape.block_bytes[static_cast<std::size_t>(lane.transfer.blocks.first + lane.sent)];
  }

  double compute() {
    if (unit_done_s_ && now_ >= *unit_done_s_) {
      plan_.unit_computed(1.0 / load_.units_per_layer, at(*unit_done_s_ - load_.unit_s), at(now_));
      unit_done_s_.reset();
      if (++units_ == load_.units_per_layer) {
        units_ = 0;
        for (const int block : plan_.claim_layer(out_.layers_computed)) write(block);
        ++out_.layers_computed;
      }
    }
    if (!unit_done_s_ && plan_.wants_compute(at(now_))) unit_done_s_ = now_ + load_.unit_s;
    return unit_done_s_.value_or(1e9);
  }

  void write(int block) {
    ++out_.writes[static_cast<std::size_t>(block)];
    out_.order.push_back(block);
    plan_.written(block);
  }

  void end(TransferId transfer, TransferEnd how) {
    plan_.ended(transfer, how, at(now_));
    for (Pipe& pipe : lanes_) {
      const auto it = std::ranges::find(pipe.lanes, transfer, [](const Lane& lane) { return lane.transfer.id; });
      if (it == pipe.lanes.end()) continue;
      const auto index = static_cast<std::size_t>(it - pipe.lanes.begin());
      if (index == pipe.turn) pipe.piece_done_s.reset();  // the piece in transit is lost with its request
      if (index < pipe.turn) --pipe.turn;
      pipe.lanes.erase(it);
    }
  }

  const SimulatedLoad load_;
  LoadPlan plan_;
  SimulationResult out_;
  std::vector<Pipe> lanes_;
  std::optional<double> unit_done_s_;
  int units_ = 0;
  double now_ = 0;
};

inline SimulationResult simulate(const SimulatedLoad& load) {
  return Simulation(load).run();
}

}  // namespace celslm::testing_support
