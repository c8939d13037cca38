#include "model/engine/engine.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <thread>

#include "model/engine/device_engine.h"
#include "model/engine/foreign_engine.h"
#include "model/engine/graph.h"
#include "model/engine/thread_count.h"

namespace celslm {
namespace {

// Scratch memory grows with the rows of a batch; a batch over this is a mistake (prefill steps are kPrefillStep).
constexpr int kMaxBatchTokens = 8192;
constexpr int kMaxThreads = 512;

const Error kNoRows{ErrorKind::kInvalid, "the layers of a model that libllama runs cannot be read"};

int usable_cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace

struct Engine::Impl {
  Impl(std::shared_ptr<const Model> m, const CpuBackend& c, const EngineOptions& options, int threads)
      : model(std::move(m)),
        cpu(c),
        kernels(options.kernels),
        n_threads(threads, machine_has_idle_core),
        pass(model->impl(), threads) {}

  const ModelConfig& config() const { return model->config(); }

  Status check_tokens(std::span<const Token> tokens) const {
    if (tokens.empty() || tokens.size() > kMaxBatchTokens) {
      return fail(ErrorKind::kInvalid, "a batch of {} tokens; 1 to {} are accepted", tokens.size(), kMaxBatchTokens);
    }
    for (const Token t : tokens) {
      if (t < 0 || t >= config().n_vocab)
        return fail(ErrorKind::kInvalid, "token {} is not in the vocabulary of {}", t, config().n_vocab);
    }
    return {};
  }

  Status check_hidden(const Hidden& hidden) const {
    if (hidden.n_tokens < 1 || hidden.n_tokens > kMaxBatchTokens) {
      return fail(ErrorKind::kInvalid, "a batch of {} tokens; 1 to {} are accepted", hidden.n_tokens, kMaxBatchTokens);
    }
    const std::size_t want = static_cast<std::size_t>(hidden.n_tokens) * static_cast<std::size_t>(config().n_embd);
    if (hidden.values.size() == want) return {};
    return fail(ErrorKind::kInvalid, "{} hidden values for {} tokens of {}", hidden.values.size(), hidden.n_tokens,
                config().n_embd);
  }

  // The graph for this shape: the last one again if it fits, else a new one in the same scratch memory.
  Status prepare(const PassShape& shape) {
    if (graph != nullptr && graph->shape() == shape && kernels == KernelPath::kFused) return {};
    graph.reset();
    CELSLM_TRY(graph, Graph::build(model->impl(), pass, shape, kernels, cpu, scratch.get()));
    return {};
  }

  Status compute() {
    graph->set_masks();
    graph->restart();
    cpu.set_threads(backend.get(), n_threads.now());
    const CpuMeter meter;
    const ggml_status status = ggml_backend_graph_compute(backend.get(), graph->cgraph());
    n_threads.add(meter.spent());
    if (status != GGML_STATUS_SUCCESS) return fail(ErrorKind::kInternal, "ggml: {}", ggml_status_to_string(status));
    return {};
  }

  template <typename T>
  static void set(ggml_tensor* input, std::span<const T> values) {
    if (input != nullptr) ggml_backend_tensor_set(input, values.data(), 0, values.size_bytes());
  }

  std::span<const float> result() const {
    return {static_cast<const float*>(graph->result()->data), static_cast<std::size_t>(ggml_nelements(graph->result()))};
  }

  Status run_layers(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden) {
    pass.begin(batch, first, last);
    CELSLM_CHECK_OK(prepare({.first = first, .last = last, .n_tokens = hidden.n_tokens}));
    set<float>(graph->hidden(), hidden.values);
    const Status computed = compute();
    note_writes(batch, first, last, computed.has_value());
    CELSLM_CHECK_OK(computed);
    std::ranges::copy(result(), hidden.values.begin());
    return {};
  }

  // Where computing failed, a state may be anything.
  void note_writes(std::span<const SequenceChunk> batch, int first, int last, bool computed) const {
    for (const SequenceChunk& chunk : batch) {
      for (int layer = first; layer < last; ++layer) {
        chunk.own->note_write(layer);
        if (config().state_values(layer) > 0)
          chunk.own->set_state_rows(layer, computed ? chunk.own_length + chunk.n_tokens : -1);
      }
    }
  }

  int device_layers() const { return device ? device->n_layers() : 0; }

  // The first layers of a pass where they are, the others here.
  Status run_anywhere(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden, const KvTap& tap) {
    const int there = std::clamp(device_layers(), first, last);
    if (first < there) CELSLM_CHECK_OK(device->run_layers(first, there, batch, hidden, tap));
    if (there == last) return {};
    return tap ? run_tapped(there, last, batch, hidden, tap) : run_layers(there, last, batch, hidden);
  }

  Status refuse_on_device(int layer, const char* what) const {
    if (layer >= device_layers()) return {};
    return fail(ErrorKind::kInvalid, "{} of layer {} cannot be had from a device: load the model with --device cpu", what,
                layer);
  }

  // Layer by layer, so that what is kept for the tap is one layer's and early layers are handed on early.
  Status run_tapped(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden, const KvTap& tap) {
    const std::size_t n = static_cast<std::size_t>(hidden.n_tokens) * static_cast<std::size_t>(config().kv_width());
    std::vector<float> k(n);
    std::vector<float> v(n);
    pass.tap(k, v);
    Status status;
    for (int layer = first; layer < last && status; ++layer) {
      status = run_layers(layer, layer + 1, batch, hidden);
      if (status && config().state_values(layer) == 0) tap(layer, k, v);
    }
    pass.tap({}, {});
    return status;
  }

  // Room for a value of each channel of each query head of each token.
  std::vector<float> for_all_heads(int n_tokens) const {
    return std::vector<float>(static_cast<std::size_t>(n_tokens) * static_cast<std::size_t>(config().n_heads) *
                              static_cast<std::size_t>(config().head_dim));
  }

  std::shared_ptr<const Model> model;
  const CpuBackend& cpu;
  const KernelPath kernels;
  ThreadCount n_threads;
  ggml_backend_ptr backend;
  ggml_gallocr_ptr scratch;
  Pass pass;
  std::unique_ptr<Graph> graph;
  std::unique_ptr<DeviceEngine> device;  // null: the CPU computes all layers
};

Result<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<const Model> model, const EngineOptions& options) {
  if (options.n_threads < 0 || options.n_threads > kMaxThreads) {
    return fail(ErrorKind::kInvalid, "{} threads; 0 (one per core) to {} are accepted", options.n_threads, kMaxThreads);
  }
  CELSLM_TRY(const CpuBackend* cpu, CpuBackend::get());
  const int n_threads = options.n_threads == 0 ? usable_cores() : options.n_threads;
  if (model->foreign()) {
    EngineOptions resolved = options;
    resolved.n_threads = n_threads;
    CELSLM_TRY(auto foreign, ForeignEngine::create(std::move(model), resolved));
    return std::unique_ptr<Engine>(new Engine(nullptr, std::move(foreign)));
  }
  auto impl = std::make_unique<Impl>(std::move(model), *cpu, options, n_threads);
  CELSLM_TRY(impl->backend, cpu->start(n_threads));
  impl->scratch.reset(ggml_gallocr_new(cpu->buffer_type()));
  if (impl->model->impl().device) {
    CELSLM_TRY(impl->device, DeviceEngine::create(*impl->model));
  }
  return std::unique_ptr<Engine>(new Engine(std::move(impl), nullptr));
}

Engine::Engine(std::unique_ptr<Impl> impl, std::unique_ptr<ForeignEngine> foreign)
    : impl_(std::move(impl)), foreign_(std::move(foreign)) {}
Engine::Engine(Engine&& other) noexcept = default;
Engine::~Engine() = default;

const Model& Engine::model() const {
  return foreign_ ? foreign_->model() : *impl_->model;
}

Result<Bytes> Engine::foreign_state(const KvSegment& segment) {
  if (!foreign_) return fail(ErrorKind::kInvalid, "KV of our own layers is not written by libllama");
  return foreign_->state(segment);
}

Result<Hidden> Engine::embed(std::span<const Token> tokens) {
  if (foreign_) return foreign_->embed(tokens);
  CELSLM_CHECK_OK(impl_->check_tokens(tokens));
  const auto n_tokens = static_cast<int>(tokens.size());
  CELSLM_CHECK_OK(impl_->prepare({.n_tokens = n_tokens, .from_tokens = true}));
  impl_->set<Token>(impl_->graph->tokens(), tokens);
  CELSLM_CHECK_OK(impl_->compute());
  const std::span<const float> values = impl_->result();
  return Hidden{.values = {values.begin(), values.end()}, .n_tokens = n_tokens};
}

Status Engine::run_layers(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden, const KvTap& tap) {
  if (foreign_ && tap) return std::unexpected(kNoRows);
  if (foreign_) return foreign_->run_layers(first, last, batch, hidden);
  const ModelConfig& config = impl_->config();
  if (first < 0 || last < first || last > config.n_layers) {
    return fail(ErrorKind::kInvalid, "layers [{}, {}) of a model that has {}", first, last, config.n_layers);
  }
  CELSLM_CHECK_OK(impl_->check_hidden(hidden));
  CELSLM_CHECK_OK(check_batch(config, batch, hidden.n_tokens));
  CELSLM_CHECK_OK(check_states(config, batch, first, last));
  if (first == last) return {};
  return impl_->run_anywhere(first, last, batch, hidden, tap);
}

Result<std::vector<float>> Engine::attention_output(int layer, std::span<const SequenceChunk> batch, const Hidden& hidden) {
  if (foreign_) return std::unexpected(kNoRows);
  if (impl_->kernels != KernelPath::kFused)
    return fail(ErrorKind::kInvalid, "plain kernels do not show what attention puts out");
  CELSLM_CHECK_OK(impl_->refuse_on_device(layer, "attention's output"));
  CELSLM_CHECK_OK(impl_->check_hidden(hidden));
  std::vector<float> out = impl_->for_all_heads(hidden.n_tokens);
  Hidden left = hidden;
  impl_->pass.tap_attention(out);
  const Status status = run_layers(layer, layer + 1, batch, left);
  impl_->pass.tap_attention({});
  if (!status) return std::unexpected(status.error());
  return out;
}

Result<std::vector<float>> Engine::run_layer_for_queries(int layer, std::span<const SequenceChunk> batch, Hidden& hidden) {
  if (foreign_) return std::unexpected(kNoRows);
  CELSLM_CHECK_OK(impl_->refuse_on_device(layer, "the queries"));
  CELSLM_CHECK_OK(impl_->check_hidden(hidden));
  std::vector<float> out = impl_->for_all_heads(hidden.n_tokens);
  impl_->pass.tap_queries(out);
  const Status status = run_layers(layer, layer + 1, batch, hidden);
  impl_->pass.tap_queries({});
  if (!status) return std::unexpected(status.error());
  return out;
}

Result<std::span<const float>> Engine::logits(const Hidden& hidden, std::span<const int> rows) {
  if (foreign_) return foreign_->logits(hidden, rows);
  CELSLM_CHECK_OK(impl_->check_hidden(hidden));
  if (rows.empty() || rows.size() > kMaxBatchTokens) {
    return fail(ErrorKind::kInvalid, "logits of {} rows; 1 to {} are accepted", rows.size(), kMaxBatchTokens);
  }
  const auto width = static_cast<std::size_t>(impl_->config().n_embd);
  std::vector<float> chosen;
  chosen.reserve(rows.size() * width);
  for (const int row : rows) {
    if (row < 0 || row >= hidden.n_tokens) return fail(ErrorKind::kInvalid, "row {} of a batch of {}", row, hidden.n_tokens);
    const float* values = hidden.values.data() + static_cast<std::size_t>(row) * width;
    chosen.insert(chosen.end(), values, values + width);
  }
  const int n_layers = impl_->config().n_layers;
  const auto n = static_cast<int>(rows.size());
  if (impl_->device && impl_->device->has_head()) return impl_->device->logits({.values = std::move(chosen), .n_tokens = n});
  CELSLM_CHECK_OK(impl_->prepare({.first = n_layers, .last = n_layers, .n_tokens = n, .n_outputs = n}));
  impl_->set<float>(impl_->graph->hidden(), chosen);
  CELSLM_CHECK_OK(impl_->compute());
  return impl_->result();
}

Result<std::span<const float>> Engine::forward(std::span<const Token> tokens, std::span<const SequenceChunk> batch) {
  if (foreign_) return foreign_->forward(tokens, batch);
  const ModelConfig& config = impl_->config();
  CELSLM_CHECK_OK(impl_->check_tokens(tokens));
  const auto n_tokens = static_cast<int>(tokens.size());
  CELSLM_CHECK_OK(check_batch(config, batch, n_tokens));
  CELSLM_CHECK_OK(check_states(config, batch, 0, config.n_layers));
  if (impl_->device) return forward_on_device(tokens, batch);
  impl_->pass.begin(batch, 0, config.n_layers);
  CELSLM_CHECK_OK(impl_->prepare(
      {.last = config.n_layers, .n_tokens = n_tokens, .from_tokens = true, .n_outputs = static_cast<int>(batch.size())}));
  impl_->set<Token>(impl_->graph->tokens(), tokens);
  impl_->set<int>(impl_->graph->output_rows(), last_rows(batch));
  const Status computed = impl_->compute();
  impl_->note_writes(batch, 0, config.n_layers, computed.has_value());
  CELSLM_CHECK_OK(computed);
  for (const SequenceChunk& chunk : batch) chunk.own->set_length(chunk.own_length + chunk.n_tokens);
  return impl_->result();
}

Result<std::span<const float>> Engine::forward_on_device(std::span<const Token> tokens,
                                                         std::span<const SequenceChunk> batch) {
  CELSLM_TRY(Hidden hidden, embed(tokens));
  Result<std::span<const float>> out;
  if (impl_->device->has_head()) {
    out = impl_->device->forward(batch, hidden);
  } else {
    CELSLM_CHECK_OK(impl_->run_anywhere(0, impl_->config().n_layers, batch, hidden, {}));
    out = logits(hidden, last_rows(batch));
  }
  if (!out) return out;
  for (const SequenceChunk& chunk : batch) chunk.own->set_length(chunk.own_length + chunk.n_tokens);
  return out;
}

}  // namespace celslm
