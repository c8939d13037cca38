// One edge in virtual time: its batch, its queue, and the context that is being loaded. All that happens in an edge between
// two events goes at constant rates, so that only events cost time.
#pragma once

#include <array>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

#include "plan/simulation/fleet_shape.h"

namespace celslm {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

// Where the bytes of a context come from.
enum class Origin { kDisk, kNeighbour, kTier, kCloud };
inline constexpr std::size_t kOrigins = 4;

// A context on its way into memory: computed from its beginning, fetched from its end, there when the two meet. Parts are of
// the context: 0 to 1.
struct ContextLoad {
  int context = -1;
  SimulatedContext shape;
  double began_s = 0;
  bool computes = false;
  double computed = 0;
  double fetched = 0;
  double fetch_from_s = 0;                  // before that nothing arrives
  std::array<double, kOrigins> rates{};     // bytes per second, while it fetches
  std::array<double, kOrigins> received{};  // bytes
};

struct EdgeEvent {
  enum class Kind { kLoaded, kFirstToken, kAnswered };
  Kind kind = Kind::kLoaded;
  int subject = 0;  // a request, or the context that is loaded
};

class SimulatedEdge {
 public:
  explicit SimulatedEdge(const EngineModel& engine) : engine_(engine) {}

  // A request waits for a place in the batch, then for its context; its prompt is then computed, and its answer.
  // `context` -1: none, or one that is in memory.
  void add(int request, int context, double prompt_tokens, double answer_tokens);
  bool is_full() const { return static_cast<int>(queue_.size()) >= engine_.max_queue && !has_place(); }
  // The contexts of requests in the batch that wait for one, without repetition, those that have waited longest first.
  std::vector<int> contexts_wanted() const;
  void context_ready(int context);  // requests need not wait for it

  bool is_loading() const { return load_.context >= 0; }
  void begin_load(ContextLoad load) { load_ = load; }
  ContextLoad& load() { return load_; }
  const ContextLoad& load() const { return load_; }
  ContextLoad end_load() { return std::exchange(load_, {}); }

  // Goes on to `now`; what has finished is in events(), in an order that depends on nothing else.
  void advance(double now);
  std::vector<EdgeEvent> take_events() { return std::exchange(events_, {}); }
  double next_event_s() const;  // kNever: nothing will happen
  double now_s() const { return now_; }

  // All requests leave, in the order in which they came.
  std::vector<int> fail(double now);

  int running() const { return static_cast<int>(batch_.size()); }
  int queued() const { return static_cast<int>(queue_.size()); }
  double prefill_tokens_per_s() const;                                   // that one prompt more would have now
  double row_s() const { return engine_.row_s(count(Phase::kDecode)); }  // of a prompt, as an edge measures its own speed
  double busy_s() const { return busy_s_; }
  double computed_tokens() const { return computed_tokens_; }

 private:
  enum class Phase { kWaiting, kPrefill, kDecode };
  struct Place {
    int request = 0;
    int context = -1;
    Phase phase = Phase::kPrefill;
    double prompt_left = 0;
    double answer_left = 0;
  };
  struct Rates {
    double prefill = 0;  // of each prompt, tokens per second
    double compute = 0;  // of the context
    double decode = 0;   // of each answer
  };

  bool has_place() const { return static_cast<int>(batch_.size()) < engine_.places; }
  Rates rates() const { return rates(count(Phase::kDecode), count(Phase::kPrefill)); }
  Rates rates(int decoding, int prompts) const;
  int count(Phase phase) const;
  void step(double until);
  void finish();
  void fill_places();
  double load_left_s(const Rates& rates) const;

  EngineModel engine_;
  double now_ = 0;
  std::vector<Place> batch_;  // in the order in which they were admitted
  std::deque<Place> queue_;
  ContextLoad load_;
  std::vector<EdgeEvent> events_;
  double busy_s_ = 0;
  double computed_tokens_ = 0;
};

}  // namespace celslm
