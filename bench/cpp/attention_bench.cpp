// Attention of one layer with the shape of Qwen2.5-0.5B: ours and ggml_flash_attn_ext, alternating, on the same f16 K and V.
//
//   ./dev run build/release/bench/celslm_bench_attention
//
// Times are medians in milliseconds; ratio = ggml / ours. CELSLM_BENCH_THREADS sets the number of threads (default 2). With
// one thread CPU time is measured, so that load on the machine does not distort the comparison.
#include <benchmark/benchmark.h>
#include <ggml-cpp.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <thread>
#include <vector>

#include "model/attention/attention.h"
#include "model/attention/attention_test_support.h"

namespace celslm {
namespace {

using attention_test::Problem;
using attention_test::Shape;
using attention_test::Store;

constexpr Shape kQwen{.n_heads = 14, .n_kv_heads = 2, .head_dim = 64, .type = KvType::kF16};

int thread_count() {
  const char* text = std::getenv("CELSLM_BENCH_THREADS");
  return text != nullptr ? std::max(1, std::atoi(text)) : 2;
}

// A pool of threads that wait at a barrier between calls, like ggml's graph workers.
class Team {
 public:
  explicit Team(int n) : scratch_(n), start_(n), finish_(n) {
    for (int i = 1; i < n; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  ~Team() {
    stop_ = true;
    start_.arrive_and_wait();
  }
  void run(const AttentionArgs& args) {
    args_ = args;
    start_.arrive_and_wait();
    attention(args_, 0, static_cast<int>(scratch_.size()), scratch_[0]);
    finish_.arrive_and_wait();
  }

 private:
  void work(int i) {
    for (;;) {
      start_.arrive_and_wait();
      if (stop_) return;
      attention(args_, i, static_cast<int>(scratch_.size()), scratch_[i]);
      finish_.arrive_and_wait();
    }
  }

  std::vector<AttentionScratch> scratch_;
  AttentionArgs args_;
  std::barrier<> start_;
  std::barrier<> finish_;
  std::atomic<bool> stop_ = false;
  std::vector<std::jthread> workers_;
};

// The same attention as one ggml operator.
class Peer {
 public:
  Peer(const AttentionArgs& args, int n_threads)
      : backend_(cpu_backend(n_threads)),
        context_(ggml_init({.mem_size = 1 << 20, .mem_buffer = nullptr, .no_alloc = true})) {
    ggml_context* const c = context_.get();
    const AttentionGroup& group = args.groups.front();
    const int n_keys = group.kv.length;
    ggml_tensor* q = ggml_new_tensor_3d(c, GGML_TYPE_F32, args.head_dim, args.n_heads, args.n_rows);
    ggml_tensor* k = ggml_new_tensor_3d(c, GGML_TYPE_F16, args.head_dim, n_keys, args.n_kv_heads);
    ggml_tensor* v = ggml_new_tensor_3d(c, GGML_TYPE_F16, args.head_dim, n_keys, args.n_kv_heads);
    ggml_tensor* mask = group.causal != 0 ? ggml_new_tensor_2d(c, GGML_TYPE_F16, n_keys, args.n_rows) : nullptr;
    out_ = ggml_flash_attn_ext(c, ggml_permute(c, q, 0, 2, 1, 3), k, v, mask, args.scale, 0.0F, 0.0F);
    graph_ = ggml_new_graph(c);
    ggml_build_forward_expand(graph_, out_);
    buffer_.reset(ggml_backend_alloc_ctx_tensors(c, backend_.get()));
    ggml_backend_tensor_set(q, args.q, 0, ggml_nbytes(q));
    ggml_backend_tensor_set(k, group.kv.k, 0, ggml_nbytes(k));
    ggml_backend_tensor_set(v, group.kv.v, 0, ggml_nbytes(v));
    if (mask != nullptr) set_causal(mask, group);
  }

  void run() { ggml_backend_graph_compute(backend_.get(), graph_); }

  std::vector<float> result() const {
    std::vector<float> values(ggml_nelements(out_));
    ggml_backend_tensor_get(out_, values.data(), 0, ggml_nbytes(out_));
    return values;
  }

 private:
  static ggml_backend_ptr cpu_backend(int n_threads) {
    if (ggml_backend_reg_count() == 0) ggml_backend_load_all();
    ggml_backend_ptr backend(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend.get()));
    const auto set_n_threads =
        reinterpret_cast<ggml_backend_set_n_threads_t>(ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads"));
    set_n_threads(backend.get(), n_threads);
    return backend;
  }

  static void set_causal(ggml_tensor* mask, const AttentionGroup& group) {
    std::vector<ggml_fp16_t> values;
    for (int row = 0; row < mask->ne[1]; ++row) {
      for (int key = 0; key < mask->ne[0]; ++key) {
        const bool seen = key < group.visible + row * group.causal;
        values.push_back(ggml_fp32_to_fp16(seen ? 0.0F : -std::numeric_limits<float>::infinity()));
      }
    }
    ggml_backend_tensor_set(mask, values.data(), 0, ggml_nbytes(mask));
  }

  ggml_backend_ptr backend_;
  ggml_context_ptr context_;
  ggml_backend_buffer_ptr buffer_;
  ggml_cgraph* graph_ = nullptr;
  ggml_tensor* out_ = nullptr;
};

double now(int n_threads) {
  timespec t{};
  clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

template <typename F>
double seconds(int n_threads, const F& f) {
  const double start = now(n_threads);
  f();
  return now(n_threads) - start;
}

double median(std::vector<double>& values) {
  std::ranges::nth_element(values, values.begin() + values.size() / 2);
  return values[values.size() / 2];
}

double flop_count(const AttentionArgs& args) {
  double pairs = 0;
  for (const AttentionGroup& group : args.groups) {
    for (int i = 0; i < group.n_rows; ++i) pairs += group.visible + static_cast<double>(i) * group.causal;
  }
  return pairs * args.n_heads * args.head_dim * 4;
}

void compare(benchmark::State& state, Problem& problem) {
  const int n_threads = thread_count();
  const AttentionArgs args = problem.args();
  Team team(n_threads);
  Peer peer(args, n_threads);
  peer.run();
  if (attention_test::largest_difference(problem.run(), peer.result()) > 0.02F) return state.SkipWithError("results differ");

  std::vector<double> ours;
  std::vector<double> theirs;
  for (auto _ : state) {
    ours.push_back(seconds(n_threads, [&] { team.run(args); }));
    theirs.push_back(seconds(n_threads, [&] { peer.run(); }));
    state.SetIterationTime(ours.back());
  }
  const double ours_s = median(ours);
  const double theirs_s = median(theirs);
  state.counters["ours_ms"] = ours_s * 1e3;
  state.counters["ggml_ms"] = theirs_s * 1e3;
  state.counters["ratio"] = theirs_s / ours_s;
  state.counters["ours_gflops"] = flop_count(args) / ours_s * 1e-9;
}

// range(0) context tokens, range(1) users with one row each.
void BM_SharedContext(benchmark::State& state) {
  const int n_rows = static_cast<int>(state.range(1));
  const int n_tokens = static_cast<int>(state.range(0));
  Problem problem(kQwen, n_rows, 1);
  problem.context(*problem.store(n_tokens, n_tokens), 0, n_rows);
  compare(state, problem);
}
BENCHMARK(BM_SharedContext)
    ->ArgsProduct({{2048, 8192}, {1, 8, 32}})
    ->UseManualTime()
    ->Iterations(40)
    ->Unit(benchmark::kMillisecond);

// Prefill: 512 new rows at the end of range(0) tokens.
void BM_Prefill(benchmark::State& state) {
  const int n_tokens = static_cast<int>(state.range(0));
  Problem problem(kQwen, 512, 1);
  problem.own(n_tokens, n_tokens, 0, 512);
  compare(state, problem);
}
BENCHMARK(BM_Prefill)->Arg(512)->Arg(2048)->Arg(8192)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(5);

}  // namespace
}  // namespace celslm
