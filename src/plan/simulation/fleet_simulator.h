// A fleet of edges and clouds in virtual time. What is decided is decided by the code that edges run: forecast() divides the
// loading of a context, choose_route() picks the edge that answers. What things cost is a model (docs/simulator.md).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "plan/estimate.h"
#include "plan/forecast.h"
#include "plan/routing.h"
#include "plan/simulation/chance.h"
#include "plan/simulation/context_shelf.h"
#include "plan/simulation/fleet_result.h"
#include "plan/simulation/fleet_shape.h"
#include "plan/simulation/shared_pipe.h"
#include "plan/simulation/simulated_edge.h"

namespace celslm {

// The same shape and requests give the same result. Every request is answered, or refused, exactly once.
class FleetSimulator {
 public:
  FleetSimulator(FleetShape shape, std::vector<FleetRequest> requests);
  FleetResult run();

 private:
  // Where a load's bytes from afar come from: a cloud, the tier, or nowhere.
  struct Wide {
    int cloud = -1;
    bool tier = false;
    bool none() const { return cloud < 0 && !tier; }
  };
  // As MeasuredSpeed of serve/edge, in seconds.
  struct MeasuredRates {
    Ewma row_s;      // of a prompt's token
    Ewma token_s;    // of an answer's
    Ewma context_s;  // of a load
  };
  struct Node {
    SimulatedEdge edge;
    LinkClass link;
    ContextShelf memory;
    ContextShelf disk;
    SharedPipe uplink;   // towards neighbours
    int neighbour = -1;  // that the load under way reads from
    Wide wide;
    bool alive = true;
    std::uint64_t version = 0;     // of its event in the queue
    std::vector<int> parked = {};  // requests that wait until it is back
    MeasuredRates measured = {};
    RouteCandidate known = {};               // what its neighbours know of it
    double beat = -1;                        // number of the heartbeat that told them
    std::unordered_map<int, int> sent = {};  // by edge: requests that it has sent here since
  };
  struct Cloud {
    SharedPipe link;
    bool alive = true;
    double free_at_s = 0;  // from prefill
  };
  struct PackState {
    double ready_s = kNever;  // computed; kNever: nobody has asked for it
    int cloud = -1;           // that computes it
  };
  struct RequestState {
    int edge = -1;
    double first_token_s = 0;
    int repeats = 0;
    double row_s = 0;  // of its prompt
    bool settled = false;
  };
  enum class What { kEdge, kEdgeFails, kEdgeReturns, kCloudFails, kCloudReturns };
  struct Event {
    double at_s = 0;
    std::uint64_t number = 0;  // events at the same time happen in the order in which they were planned
    What what = What::kEdge;
    int subject = 0;
    std::uint64_t version = 0;
    bool operator>(const Event& other) const { return at_s != other.at_s ? at_s > other.at_s : number > other.number; }
  };
  struct Happened {
    int edge = 0;
    EdgeEvent event;
  };

  Node& node(int i) { return nodes_[static_cast<std::size_t>(i)]; }
  const Node& node(int i) const { return nodes_[static_cast<std::size_t>(i)]; }
  Cloud& cloud(int i) { return clouds_[static_cast<std::size_t>(i)]; }
  const SimulatedContext& context(int i) const { return shape_.contexts[static_cast<std::size_t>(i)]; }
  const FleetRequest& request(int i) const { return requests_[static_cast<std::size_t>(i)]; }
  std::pair<int, int> site_of(int edge) const;

  void plan(double at_s, What what, int subject, std::uint64_t version = 0);
  void plan_failure(What what, int subject, double mtbf_s);
  void happen(const Event& event);
  void settle();
  void handle(int edge, const EdgeEvent& event);

  // routing
  void arrive(int request);
  void deliver(int request, int edge);
  void refuse(int request);
  int route(int request);
  int predicted_route(int request);
  RouteCandidate candidate(int edge, int context, int home);
  RouteCandidate figures(int edge) const;
  void beat(int edge);
  void measure(int edge, const FleetRequest& asked, const RequestState& state);
  int living_neighbour(int edge);

  // loading
  void load_next(int edge);
  void begin_load(int edge, int context);
  void find_sources(int edge, ContextLoad& load);
  bool worth_computing(int edge, const ContextLoad& load) const;
  ForecastInput forecast_input(int edge, const SimulatedContext& shape, std::vector<std::uint64_t>& missing) const;
  int holder_near(int edge, int context) const;
  Wide wide_source(int context) const;
  double pack_ready_s(int context, int cloud);
  void join_wide(int edge, ContextLoad& load);
  void leave_sources(int edge);
  SharedPipe* wide_pipe(const Wide& wide);
  void balance(SharedPipe& pipe);
  void set_rates(int edge);
  void end_load(int edge);
  void count_bytes(const ContextLoad& load);
  void compute_again(int failed);

  void advance(int edge);
  void reschedule(int edge);
  void fail_edge(int edge);
  void fail_cloud(int cloud);

  const FleetShape shape_;
  const std::vector<FleetRequest> requests_;
  Chance chance_;
  double now_ = 0;
  std::vector<Node> nodes_;
  std::vector<Cloud> clouds_;
  SharedPipe tier_;
  std::vector<PackState> packs_;      // by context
  std::vector<RequestState> states_;  // by request
  std::vector<int> turns_;            // of round robin, by site
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::deque<Happened> happened_;
  std::vector<int> touched_;  // edges whose next event is to be planned again
  std::uint64_t n_events_ = 0;
  std::uint64_t n_settled_ = 0;
  FleetResult out_;
};

}  // namespace celslm
