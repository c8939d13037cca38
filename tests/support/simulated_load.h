// Simulates the loading of a context in virtual time: sources and compute are modelled by a few numbers each, and the
// LoadCoordinator that an edge runs gives the orders.
#pragma once

#include <algorithm>
#include <climits>
#include <optional>
#include <utility>
#include <vector>

#include "plan/load_coordinator.h"

namespace celslm::testing_support {

struct SimulatedSource {
  double rate_bytes_per_s = 1e6;
  double latency_s = 0;
  int max_transfers = 4;
  bool is_neighbour = false;
  bool known = false;                    // the plan starts with its rate and latency
  std::optional<double> dies_at_s{};     // from then on every request fails
  std::optional<double> stalls_at_s{};   // from then on no bytes arrive, without an error
  std::optional<double> slows_at_s{};    // from then on it has a thousandth of its rate
  double garbage_share = 0;              // share of its blocks that are damaged
  std::uint64_t max_bytes = UINT64_MAX;  // it may be asked for
  double layer_every_s = 0;              // it is still computing the context, one layer in this time; 0: it has all layers
};

struct SimulatedLoad {
  LoadShape shape;
  PlanOptions options;
  std::vector<SimulatedSource> sources;
  double unit_s = 0;  // time of one unit of local compute; 0: no local compute
  int units_per_layer = 2;
  bool compute_known = false;
  int max_reads = INT_MAX;  // transfers under way, of all sources
};

struct SimulationResult {
  bool complete = false;
  double seconds = 0;
  std::vector<int> writes;           // [n_blocks]: how often each was written
  std::vector<std::uint64_t> bytes;  // [n_sources]: received from each
  int layers_computed = 0;
  int reviews = 0;         // how often time alone made the coordinator look again
  std::vector<int> order;  // the blocks in the order in which they were written
  bool operator==(const SimulationResult&) const = default;
};

// Each source serves its requests round-robin, piece by piece, each request beginning one latency after it was made. The
// engine asks when it begins, after each unit, and when it is woken; time passes from one event to the next, or to the
// moment at which the coordinator wants to look again.
class Simulation final : WorkPlaces {
 public:
  explicit Simulation(const SimulatedLoad& load)
      : load_(load), load_coordinator_(load.shape, options(load), clock_, *this), pipes_(load.sources.size()) {
    out_.writes.resize(static_cast<std::size_t>(load.shape.n_blocks()));
    out_.bytes.resize(load.sources.size());
    for (const SimulatedSource& source : load.sources) {
      SourceTraits traits{
          .max_transfers = source.max_transfers, .is_neighbour = source.is_neighbour, .max_bytes = source.max_bytes};
      if (source.known) {
        traits.estimate.rate_bytes_per_s.add(source.rate_bytes_per_s);
        traits.estimate.latency_s.add(source.latency_s);
      }
      load_coordinator_.add_source(traits);
    }
  }

  SimulationResult run(double limit_s = 1e5) {
    load_coordinator_.start();
    carry_out();
    while (!plan().complete() && now_ < limit_s) {
      step();
      if (!anything_left()) break;
    }
    out_.complete = plan().complete();
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
    bool opening = false;
    std::vector<Lane> lanes;
    std::size_t turn = 0;
    std::optional<double> piece_done_s;
    std::uint64_t piece = 0;
    int offered_layers = 0;
  };
  class SimulatedClock final : public Clock {
   public:
    TimePoint now() const override { return time; }
    std::chrono::system_clock::time_point wall() const override { return {}; }
    void wait(EventCount&, std::uint64_t, TimePoint) const override {}
    TimePoint time = at(0);
  };

  static TimePoint at(double s) {
    return TimePoint{} + std::chrono::hours(1) + Duration(static_cast<std::int64_t>(s * 1e9));
  }
  static PlanOptions options(const SimulatedLoad& load) {
    PlanOptions out = load.options;
    if (load.compute_known) out.layer_s = load.unit_s * load.units_per_layer;
    return out;
  }
  const LoadPlan& plan() const { return load_coordinator_.plan(); }
  double rate(std::size_t i) const {
    const SimulatedSource& s = load_.sources[i];
    return s.slows_at_s && now_ >= *s.slows_at_s ? s.rate_bytes_per_s / 1000 : s.rate_bytes_per_s;
  }
  bool dead(std::size_t i) const { return load_.sources[i].dies_at_s && now_ >= *load_.sources[i].dies_at_s; }
  bool stalled(std::size_t i) const { return load_.sources[i].stalls_at_s && now_ >= *load_.sources[i].stalls_at_s; }
  bool anything_left() const { return load_.unit_s > 0 || plan().any_source_alive(); }

  Result<bool> take(LoadWork work) override {
    if (work != LoadWork::kRead || reading_ < load_.max_reads) {
      reading_ += work == LoadWork::kRead ? 1 : 0;
      return true;
    }
    return false;
  }
  void put_back(LoadWork work) override { reading_ -= work == LoadWork::kRead ? 1 : 0; }

  void step() {
    double next = 1e9;
    for (std::size_t i = 0; i < pipes_.size(); ++i) next = std::min(next, serve(i));
    if (load_.unit_s > 0) next = std::min(next, compute());
    if (plan().complete() || !anything_left()) return;
    if (const auto review = load_coordinator_.review_at()) {
      const double review_s = seconds(*review - at(0));
      if (review_s_ == 0 || review_s < review_s_) review_s_ = review_s;
    } else {
      review_s_ = 0;
    }
    if (review_s_ > 0) next = std::min(next, review_s_);
    for (std::size_t i = 0; i < pipes_.size(); ++i) next = std::min(next, next_of(i));
    now_ = std::max(next, now_ + 1e-9);
    clock_.time = at(now_);
    if (review_s_ > 0 && now_ >= review_s_) {
      review_s_ = 0;
      ++out_.reviews;
      load_coordinator_.tick();
      carry_out();
    }
  }

  void carry_out() {
    for (auto orders = load_coordinator_.take_orders(); !orders.empty(); orders = load_coordinator_.take_orders()) {
      for (const LoadOrder& order : orders) {
        std::visit([&](const auto& o) { carry_out(o); }, order);
      }
    }
  }
  // The header comes at once, and no blocks with it.
  void carry_out(const OpenSource& order) {
    if (order.early) load_coordinator_.ended(order.early->id, TransferEnd::kDone);
    const auto i = static_cast<std::size_t>(order.source);
    pipes_[i].opening = true;
    if (load_.sources[i].layer_every_s > 0) return;
    load_coordinator_.offered(order.source, {0, load_.shape.n_blocks()});
    finish_opening(i, true);
  }
  void carry_out(const ReadBlocks& order) {
    const auto i = static_cast<std::size_t>(order.transfer.source);
    pipes_[i].lanes.push_back({order.transfer, now_ + load_.sources[i].latency_s});
    if (dead(i)) end(order.transfer.id, TransferEnd::kFailed);
  }
  void carry_out(const CancelTransfer& order) { end(order.transfer, TransferEnd::kDone); }
  void carry_out(const CancelOpening& order) { finish_opening(static_cast<std::size_t>(order.source), false); }
  void carry_out(const LayerComplete&) {}
  void carry_out(const WakeEngine&) { engine_waits_ = false; }
  void carry_out(const FallBack&) { load_coordinator_.fell_back(); }
  void carry_out(const GiveUpSources&) {}
  void carry_out(const SourceSpent&) {}
  void carry_out(const KeepRows&) { load_coordinator_.rows_kept(); }
  void carry_out(const CloseLoad&) { load_coordinator_.closed(); }

  void finish_opening(std::size_t i, bool success) {
    if (std::exchange(pipes_[i].opening, false)) load_coordinator_.opened(static_cast<SourceId>(i), success);
  }

  // Everything that source i does at now_. Returns the time of its next event.
  double serve(std::size_t i) {
    Pipe& pipe = pipes_[i];
    offer_more(i);
    if (dead(i)) {
      finish_opening(i, false);
      while (!pipe.lanes.empty()) end(pipe.lanes.front().transfer.id, TransferEnd::kFailed);
      carry_out();
    }
    if (pipe.piece_done_s && now_ >= *pipe.piece_done_s && !pipe.lanes.empty()) deliver(i);
    return next_of(i);
  }

  double next_of(std::size_t i) {
    Pipe& pipe = pipes_[i];
    if (!pipe.piece_done_s && !stalled(i)) begin_piece(i);
    double next = 1e9;
    if (load_.sources[i].dies_at_s && !dead(i)) next = *load_.sources[i].dies_at_s;
    if (pipe.opening) next = std::min(next, (pipe.offered_layers + 1) * load_.sources[i].layer_every_s);
    if (pipe.piece_done_s && !stalled(i)) return std::min(next, std::max(*pipe.piece_done_s, now_));
    for (const Lane& lane : pipe.lanes) {
      if (lane.ready_s > now_) next = std::min(next, lane.ready_s);
    }
    return next;
  }

  void offer_more(std::size_t i) {
    const double every = load_.sources[i].layer_every_s;
    Pipe& pipe = pipes_[i];
    while (pipe.opening && now_ >= (pipe.offered_layers + 1) * every) {
      const BlockRange layer{load_.shape.first_block(pipe.offered_layers), load_.shape.blocks_of(pipe.offered_layers)};
      load_coordinator_.offered(static_cast<SourceId>(i), layer);
      if (++pipe.offered_layers == load_.shape.n_layers) finish_opening(i, true);
      carry_out();
    }
  }

  void begin_piece(std::size_t i) {
    Pipe& pipe = pipes_[i];
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
    Pipe& pipe = pipes_[i];
    pipe.piece_done_s.reset();
    pipe.turn %= pipe.lanes.size();
    Lane& lane = pipe.lanes[pipe.turn++];
    load_coordinator_.arrived(lane.transfer.id, pipe.piece);
    lane.part += pipe.piece;
    if (lane.part < block_bytes(lane)) return;
    lane.part = 0;
    const int block = lane.transfer.blocks.first + lane.sent;
    out_.bytes[i] += load_.shape.block_bytes[static_cast<std::size_t>(block)];
    const TransferId id = lane.transfer.id;
    // Damaged blocks are spread evenly and deterministically.
    if (load_.sources[i].garbage_share > 0 && (block * 7919 % 1000) < load_.sources[i].garbage_share * 1000) {
      end(id, TransferEnd::kFailed);
      return carry_out();
    }
    const bool last = ++lane.sent == lane.transfer.blocks.count;
    if (load_coordinator_.verified(id, block)) {
      note_write(block);
      load_coordinator_.written(block);
    }
    if (last) end(id, TransferEnd::kDone);
    carry_out();
  }

  std::uint64_t block_bytes(const Lane& lane) const {
    return load_.shape.block_bytes[static_cast<std::size_t>(lane.transfer.blocks.first + lane.sent)];
  }

  double compute() {
    if (unit_done_s_ && now_ >= *unit_done_s_) {
      load_coordinator_.unit_computed(1.0 / load_.units_per_layer, at(*unit_done_s_ - load_.unit_s));
      unit_done_s_.reset();
      engine_waits_ = false;
      if (++units_ == load_.units_per_layer) {
        units_ = 0;
        const std::vector<int> blocks = load_coordinator_.claim_layer(out_.layers_computed);
        for (const int block : blocks) note_write(block);
        load_coordinator_.layer_written(blocks);
        ++out_.layers_computed;
      }
      carry_out();
    }
    if (!unit_done_s_ && !engine_waits_) {
      const bool wants = load_coordinator_.wants_unit();
      engine_waits_ = !wants;
      if (wants) unit_done_s_ = now_ + load_.unit_s;
      carry_out();
    }
    return unit_done_s_.value_or(1e9);
  }

  void note_write(int block) {
    ++out_.writes[static_cast<std::size_t>(block)];
    out_.order.push_back(block);
  }

  void end(TransferId transfer, TransferEnd how) {
    for (Pipe& pipe : pipes_) {
      const auto it = std::ranges::find(pipe.lanes, transfer, [](const Lane& lane) { return lane.transfer.id; });
      if (it == pipe.lanes.end()) continue;
      const auto index = static_cast<std::size_t>(it - pipe.lanes.begin());
      if (index == pipe.turn) pipe.piece_done_s.reset();  // the piece in transit is lost with its request
      if (index < pipe.turn) --pipe.turn;
      pipe.lanes.erase(it);
      --reading_;
      load_coordinator_.ended(transfer, how);
      load_coordinator_.places_free();
      return;
    }
  }

  const SimulatedLoad load_;
  SimulatedClock clock_;
  LoadCoordinator load_coordinator_;
  SimulationResult out_;
  std::vector<Pipe> pipes_;
  int reading_ = 0;
  std::optional<double> unit_done_s_;
  bool engine_waits_ = false;
  int units_ = 0;
  double review_s_ = 0;  // 0: none
  double now_ = 0;
};

inline SimulationResult simulate(const SimulatedLoad& load) {
  return Simulation(load).run();
}

}  // namespace celslm::testing_support
