#include "model/engine/graph.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <utility>

#include "model/device/device_segment.h"
#include "model/engine/layer_nodes.h"
#include "model/engine/node_count.h"
#include "model/engine/plain_keys.h"

namespace celslm {
namespace {

// Weights and inputs take places of their own, as many as there are for nodes. There are fewer of them than nodes, but in
// graphs of one or two nodes: by so many at most.
constexpr std::size_t kMoreInputs = 8;

constexpr float kLeastShare = 6.103515625e-5F;  // the least normal f16: what a sum of experts' shares is taken for at least
constexpr float kNoLimit = std::numeric_limits<float>::infinity();

int shares_each(std::int64_t rows) {
  return rows >= kManyRows ? Shares::kEach : 1;
}

}  // namespace

// Builds node by node; shapes in comments are ggml's, fastest dimension first.
class GraphBuilder : private LayerNodes {
 public:
  GraphBuilder(Graph& out, const Model::Impl& model, Pass& pass, KernelPath kernels, const CpuBackend& cpu)
      : LayerNodes(model.config), out_(out), weights_(*model.weights), pass_(pass), kernels_(kernels), cpu_(cpu) {}

  bool run() {
    const PassShape& s = out_.shape_;
    const std::size_t capacity = count_nodes(c_, weights_, s, pass_.batch(), kernels_) + kMoreInputs;
    const std::size_t memory = ggml_tensor_overhead() * capacity * 2 + ggml_graph_overhead_custom(capacity, false);
    out_.context_.reset(ggml_init({.mem_size = memory, .mem_buffer = nullptr, .no_alloc = true}));
    if (!out_.context_) return false;
    ctx_ = out_.context_.get();
    out_.graph_ = ggml_new_graph_custom(ctx_, capacity, false);
    ggml_tensor* x = input();
    for (int layer = s.first; layer < s.last; ++layer) x = transformer_layer(x, layer);
    if (s.n_outputs > 0) x = head(select(x));
    out_.result_ = x;
    ggml_set_output(x);
    ggml_build_forward_expand(out_.graph_, x);
    return true;
  }

 private:
  ggml_tensor* input() {
    const PassShape& s = out_.shape_;
    if (s.n_outputs > 0 && s.n_outputs < s.n_tokens) {
      out_.output_rows_ = ggml_new_tensor_1d(ctx_, GGML_TYPE_I32, s.n_outputs);
      ggml_set_input(out_.output_rows_);
    }
    if (s.from_tokens) {
      out_.tokens_ = ggml_new_tensor_1d(ctx_, GGML_TYPE_I32, s.n_tokens);
      ggml_set_input(out_.tokens_);
      return scaled(ggml_get_rows(ctx_, weights_.token_embd, out_.tokens_), c_.embedding_scale);
    }
    out_.hidden_ = ggml_new_tensor_2d(ctx_, GGML_TYPE_F32, c_.n_embd, s.n_tokens);
    ggml_set_input(out_.hidden_);
    return out_.hidden_;
  }

  bool own(const Linear* l) const { return l->packed != nullptr && kernels_ == KernelPath::kFused; }

  // W x + b, + residual if there is one.
  ggml_tensor* linear(const Linear& l, ggml_tensor* x, ggml_tensor* residual = nullptr) {
    if (own(&l)) return product({&l}, x, residual);
    ggml_tensor* y = ggml_mul_mat(ctx_, l.w, x);
    if (l.b != nullptr) y = ggml_add(ctx_, y, l.b);
    return residual == nullptr ? y : ggml_add(ctx_, y, residual);
  }

  // Of several matrices and one x. Where our own kernel computes all of them, it does so in one operator: each ends in a
  // barrier.
  template <std::size_t kN>
  std::array<ggml_tensor*, kN> linears(const std::array<const Linear*, kN>& of, ggml_tensor* x) {
    std::array<ggml_tensor*, kN> out{};
    if (!std::ranges::all_of(of, [&](const Linear* l) { return own(l); })) {
      std::ranges::transform(of, out.begin(), [&](const Linear* l) { return linear(*l, x); });
      return out;
    }
    ggml_tensor* all = product({of.begin(), of.end()}, x, nullptr);
    std::size_t at = 0;
    for (std::size_t i = 0; i < kN; ++i) {
      const std::int64_t n_out = of[i]->packed->n_out();
      out[i] = ggml_view_2d(ctx_, all, n_out, x->ne[1], static_cast<std::size_t>(n_out) * sizeof(float), at);
      at += static_cast<std::size_t>(n_out * x->ne[1]) * sizeof(float);
    }
    return out;
  }

  // x as blocks of 8 bits, [n_in / 32 * sizeof(Q8Block), n_tokens].
  ggml_tensor* quantized(ggml_tensor* x) {
    if (x == quantized_from_) return quantized_;
    const auto run = [](ggml_tensor* dst, int, int nth, void* data) {
      const ggml_tensor* in = dst->src[0];
      static_cast<Graph::Task*>(data)->shares.take(shares_each(in->ne[1]), nth, [&](int share, int n) {
        q8_quantize(floats(in), in->ne[0], in->ne[1], static_cast<Q8Block*>(dst->data), share, n);
      });
    };
    const std::int64_t row_bytes = x->ne[0] / PackedMatrix::kBlock * static_cast<std::int64_t>(sizeof(Q8Block));
    quantized_from_ = x;
    quantized_ = ggml_custom_4d(ctx_, GGML_TYPE_I8, row_bytes, x->ne[1], 1, 1, &x, 1, run, GGML_N_TASKS_MAX, task({}));
    return quantized_;
  }

  // One behind another, each [n_out, n_tokens]; the residual is for a single one. A single token is rounded by every thread
  // for itself, which takes less time than a barrier.
  ggml_tensor* product(const std::vector<const Linear*>& of, ggml_tensor* x, ggml_tensor* residual) {
    const auto run = [](ggml_tensor* dst, int ith, int nth, void* data) {
      auto& t = *static_cast<Graph::Task*>(data);
      const ggml_tensor* in = dst->src[0];
      const bool rounded = in->type == GGML_TYPE_I8;
      const auto* blocks =
          rounded ? static_cast<const Q8Block*>(in->data) : t.pass->rounded({floats(in), elements(in)}, ith);
      const float* addend = dst->src[1] == nullptr ? nullptr : floats(dst->src[1]);
      const std::int64_t n_tokens = in->ne[1];
      t.shares.take(shares_each(n_tokens), nth, [&](int share, int n) {
        auto* out = static_cast<float*>(dst->data);
        for (const Graph::Product& p : t.products) {
          p.matrix->multiply(blocks, n_tokens, out, share, n, {.bias = p.bias, .residual = addend});
          out += p.matrix->n_out() * n_tokens;
        }
      });
    };
    Graph::Operand operand{.pass = &pass_};
    std::int64_t n_out = 0;
    for (const Linear* l : of) {
      operand.products.push_back({.matrix = l->packed, .bias = l->b == nullptr ? nullptr : floats(l->b)});
      n_out += l->packed->n_out();
    }
    const std::int64_t n_tokens = x->ne[1];
    const bool apart = of.size() > 1;
    std::array args = {n_tokens == 1 ? x : quantized(x), residual};
    return ggml_custom_4d(ctx_, GGML_TYPE_F32, apart ? n_out * n_tokens : n_out, apart ? 1 : n_tokens, 1, 1, args.data(),
                          residual == nullptr ? 1 : 2, run, GGML_N_TASKS_MAX, task(std::move(operand)));
  }

  // RMS norm of each head: [n_heads * head_dim, n_tokens] -> [head_dim, n_heads, n_tokens], the same values in place. Its
  // weights come now or, as a gain, behind RoPE (Pass::store): a rotation does not change the mean square.
  ggml_tensor* head_norm(ggml_tensor* x, ggml_tensor* weight, const ggml_tensor* gain) {
    if (weight == nullptr && gain == nullptr) return x;
    ggml_tensor* heads = ggml_reshape_3d(ctx_, x, c_.head_dim, x->ne[0] / c_.head_dim, x->ne[1]);
    return weight == nullptr ? ggml_rms_norm(ctx_, heads, c_.rms_epsilon) : norm(heads, weight);
  }

  // What attention puts out, before its output matrix.
  ggml_tensor* attention(ggml_tensor* normed, const LayerWeights& w, int layer) {
    if (c_.traits().gated_attention) return gated_attention(normed, w, layer);
    auto [q, k, v] = linears<3>({&w.q, &w.k, &w.v}, normed);
    q = head_norm(q, w.q_norm, w.q_gain);
    k = head_norm(k, w.k_norm, w.k_gain);
    return attend(store(q, k, v, layer), layer);
  }

  // Each head of Q is followed by a gate as wide.
  ggml_tensor* gated_attention(ggml_tensor* normed, const LayerWeights& w, int layer) {
    const auto [both, k, v] = linears<3>({&w.q, &w.k, &w.v}, normed);
    const std::size_t head = static_cast<std::size_t>(c_.head_dim) * both->nb[0];
    const auto half = [&, both](std::size_t offset) {
      return ggml_view_3d(ctx_, both, c_.head_dim, c_.n_heads, both->ne[1], 2 * head, both->nb[1], offset);
    };
    ggml_tensor* q = norm(half(0), w.q_norm);
    ggml_tensor* mixed = attend(store(q, head_norm(k, w.k_norm, w.k_gain), v, layer), layer);
    ggml_tensor* gate = ggml_cont_2d(ctx_, half(head), mixed->ne[0], mixed->ne[1]);
    return ggml_mul(ctx_, mixed, ggml_sigmoid(ctx_, gate));
  }

  // The same of a recurrent layer, whose states are read and replaced on the side; the same operators for both kernel paths.
  ggml_tensor* recurrent(ggml_tensor* normed, const LayerWeights& w, int layer) {
    const RecurrentWeights& of = w.recurrent;
    if (c_.traits().recurrence == Recurrence::kShortConv) return convolved(linear(of.in, normed), layer);
    auto args = linears<4>({&of.in, &of.alpha, &of.beta, &of.gate}, normed);
    args[0] = convolved(args[0], layer);
    const auto run = [](ggml_tensor* dst, int ith, int nth, void* data) {
      const auto& t = *static_cast<const Graph::Task*>(data);
      const auto in = [dst](int i) { return floats(dst->src[i]); };
      t.pass->delta_net(t.layer, {.qkv = in(0), .alpha = in(1), .beta = in(2), .gate = in(3)},
                        static_cast<float*>(dst->data), ith, nth);
    };
    return ggml_custom_4d(ctx_, GGML_TYPE_F32, c_.recurrence.value_width(), normed->ne[1], 1, 1, args.data(), 4, run,
                          GGML_N_TASKS_MAX, task({.pass = &pass_, .layer = layer}));
  }

  ggml_tensor* convolved(ggml_tensor* in, int layer) {
    const auto run = [](ggml_tensor* dst, int ith, int nth, void* data) {
      const auto& t = *static_cast<const Graph::Task*>(data);
      t.pass->convolve(t.layer, floats(dst->src[0]), static_cast<float*>(dst->data), ith, nth);
    };
    return ggml_custom_4d(ctx_, GGML_TYPE_F32, c_.recurrence.conv_channels, in->ne[1], 1, 1, &in, 1, run, GGML_N_TASKS_MAX,
                          task({.pass = &pass_, .layer = layer}));
  }

  ggml_tensor* transformer_layer(ggml_tensor* x, int layer) {
    const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
    ggml_tensor* normed = norm(x, w.attn_norm);
    ggml_tensor* mixed = c_.state_values(layer) > 0 ? recurrent(normed, w, layer) : attention(normed, w, layer);
    if (layer == out_.shape_.last - 1) {  // what follows is row by row: only the rows that are asked for
      mixed = select(mixed);
      x = select(x);
      selected_ = true;
    }
    x = back(w.attn_output, mixed, w.attn_post_norm, x);
    ggml_tensor* in = norm(x, w.ffn_norm);
    if (w.experts.router != nullptr) return residual(norm(mixture(in, w.experts), w.ffn_post_norm), x);
    const auto [gate, up] = linears<2>({&w.gate, &w.up}, in);
    return back(w.down, gated(gate, up), w.ffn_post_norm, x);
  }

  // x with what l and a norm, if there is one, make of `in` added to it.
  ggml_tensor* back(const Linear& l, ggml_tensor* in, ggml_tensor* post_norm, ggml_tensor* x) {
    if (adds_itself(c_, post_norm)) return linear(l, in, x);
    return residual(norm(linear(l, in), post_norm), x);
  }

  // The sum of what the chosen experts make of each token, each with its weight.
  ggml_tensor* mixture(ggml_tensor* x, const ExpertWeights& w) {
    const std::int64_t n_tokens = x->ne[1];
    const int n_used = c_.experts.n_used;
    ggml_tensor* scores = ggml_mul_mat(ctx_, w.router, x);  // [n, n_tokens]
    if (w.router_bias != nullptr) scores = ggml_add(ctx_, scores, w.router_bias);
    const bool of_all = c_.traits().experts == Experts::kShareOfAll;
    if (of_all) scores = ggml_soft_max(ctx_, scores);
    ggml_tensor* chosen = ggml_argsort_top_k(ctx_, scores, n_used);  // [n_used, n_tokens]
    ggml_tensor* weights = ggml_get_rows(ctx_, ggml_reshape_3d(ctx_, scores, 1, c_.experts.n, n_tokens), chosen);
    weights = ggml_reshape_2d(ctx_, weights, n_used, n_tokens);
    weights = of_all ? ggml_div(ctx_, weights, ggml_clamp(ctx_, ggml_sum_rows(ctx_, weights), kLeastShare, kNoLimit))
                     : ggml_soft_max(ctx_, weights);
    weights = ggml_reshape_3d(ctx_, weights, 1, n_used, n_tokens);

    ggml_tensor* in = ggml_reshape_3d(ctx_, x, c_.n_embd, 1, n_tokens);
    ggml_tensor* gate = by_experts(w.gate, w.gate_bias, in, chosen);
    ggml_tensor* out = by_experts(w.down, w.down_bias, gated(gate, by_experts(w.up, w.up_bias, in, chosen)), chosen);
    out = ggml_mul(ctx_, out, weights);  // [n_embd, n_used, n_tokens]
    ggml_tensor* sum = nullptr;
    for (int i = 0; i < n_used; ++i) {
      ggml_tensor* one = ggml_view_2d(ctx_, out, c_.n_embd, n_tokens, out->nb[2], static_cast<std::size_t>(i) * out->nb[1]);
      sum = sum == nullptr ? one : ggml_add(ctx_, sum, one);
    }
    return sum;
  }

  // [n_in, 1 or n_used, n_tokens] -> [n_out, n_used, n_tokens]
  ggml_tensor* by_experts(ggml_tensor* w, ggml_tensor* bias, ggml_tensor* x, ggml_tensor* chosen) {
    ggml_tensor* y = ggml_mul_mat_id(ctx_, w, x, chosen);
    return bias == nullptr ? y : ggml_add_id(ctx_, y, bias, chosen);
  }

  ggml_tensor* select(ggml_tensor* x) {
    if (selected_ || out_.output_rows_ == nullptr) return x;
    return ggml_get_rows(ctx_, x, out_.output_rows_);
  }

  ggml_tensor* head(ggml_tensor* x) { return logits_of(linear(weights_.output, norm(x, weights_.output_norm))); }

  Graph::Task* task(Graph::Operand of) { return &out_.tasks_.emplace_back(std::move(of)); }

  static const float* floats(const ggml_tensor* t) { return static_cast<const float*>(t->data); }
  static std::size_t elements(const ggml_tensor* t) { return static_cast<std::size_t>(ggml_nelements(t)); }

  // Rotated q, [head_dim, n_heads, n_tokens]; K and V go to the segments on the side.
  ggml_tensor* store(ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int layer) {
    std::array args = {q, k, v};
    const auto run = [](ggml_tensor* dst, int ith, int nth, void* data) {
      const auto& t = *static_cast<const Graph::Task*>(data);
      t.pass->store(t.layer, floats(dst->src[0]), floats(dst->src[1]), floats(dst->src[2]), static_cast<float*>(dst->data),
                    ith, nth);
    };
    ggml_tensor* out = ggml_custom_4d(ctx_, GGML_TYPE_F32, c_.head_dim, c_.n_heads, out_.shape_.n_tokens, 1, args.data(), 3,
                                      run, GGML_N_TASKS_MAX, task({.pass = &pass_, .layer = layer}));
    ggml_build_forward_expand(out_.graph_, out);  // before anything that reads the segments
    return out;
  }

  // q: [head_dim, n_heads, n_tokens], out: [n_heads * head_dim, n_tokens]
  ggml_tensor* attend(ggml_tensor* q, int layer) {
    ggml_tensor* out = kernels_ == KernelPath::kFused ? attend_fused(q, layer) : attend_plain(q, layer);
    return ggml_reshape_2d(ctx_, out, std::int64_t{c_.n_heads} * c_.head_dim, out_.shape_.n_tokens);
  }

  ggml_tensor* attend_fused(ggml_tensor* q, int layer) {
    const auto run = [](ggml_tensor* dst, int ith, int nth, void* data) {
      auto& t = *static_cast<Graph::Task*>(data);
      t.shares.take(shares_each(dst->ne[2]), nth, [&](int share, int n) {
        t.pass->attend(t.layer, floats(dst->src[0]), static_cast<float*>(dst->data), ith, share, n);
      });
    };
    return ggml_custom_4d(ctx_, GGML_TYPE_F32, q->ne[0], q->ne[1], q->ne[2], 1, &q, 1, run, GGML_N_TASKS_MAX,
                          task({.pass = &pass_, .layer = layer}));
  }

  ggml_tensor* attend_plain(ggml_tensor* q, int layer) {
    ggml_tensor* all = nullptr;
    std::int64_t row = 0;
    for (std::size_t i = 0; i < pass_.batch().size(); ++i) {
      const SequenceChunk& chunk = pass_.batch()[i];
      ggml_tensor* own_q = ggml_view_3d(ctx_, q, q->ne[0], q->ne[1], chunk.n_tokens, q->nb[1], q->nb[2],
                                        static_cast<std::size_t>(row) * q->nb[2]);
      ggml_tensor* mixed = attend_chunk(own_q, chunk, i, layer);
      all = all == nullptr ? mixed : ggml_concat(ctx_, all, mixed, 2);
      row += chunk.n_tokens;
    }
    return all;
  }

  // Softmax over the concatenation of context and own keys, all in f32. Keys before the window of the chunk's first row are
  // left out.
  ggml_tensor* attend_chunk(ggml_tensor* q, const SequenceChunk& chunk, std::size_t index, int layer) {
    const PlainKeys keys = plain_keys(chunk, layer, c_.layer(layer).window);
    const KvView own = chunk.own->view(layer);
    const KvView context = context_view(chunk, layer);
    ggml_tensor* k = segment_rows(own, own.k, keys.own);
    ggml_tensor* v = segment_rows(own, own.v, keys.own);
    if (keys.context.count() > 0) {
      k = ggml_concat(ctx_, segment_rows(context, context.k, keys.context), k, 1);
      v = ggml_concat(ctx_, segment_rows(context, context.v, keys.context), v, 1);
    }
    ggml_tensor* by_head = ggml_cont(ctx_, ggml_permute(ctx_, q, 0, 2, 1, 3));  // [head_dim, n, n_heads]
    ggml_tensor* scores = ggml_mul_mat(ctx_, k, by_head);                       // [n_visible, n, n_heads]
    ggml_tensor* weights = ggml_soft_max_ext(ctx_, scores, mask(index, layer, chunk, keys), c_.attention_scale, 0.0F);
    ggml_soft_max_add_sinks(weights, weights_.layer(layer).sinks);
    ggml_tensor* v_by_token = ggml_cont(ctx_, ggml_transpose(ctx_, v));  // [n_visible, head_dim, n_kv_heads]
    ggml_tensor* mixed = ggml_mul_mat(ctx_, v_by_token, weights);        // [head_dim, n, n_heads]
    return ggml_cont(ctx_, ggml_permute(ctx_, mixed, 0, 2, 1, 3));       // [head_dim, n_heads, n]
  }

  // Rows of one layer's K or V as f32, [head_dim, rows.count(), n_kv_heads].
  ggml_tensor* segment_rows(const KvView& segment, const void* data, AttentionSeen rows) {
    const ggml_type type = ggml_type_of(segment.type);
    ggml_tensor* whole = ggml_new_tensor_3d(ctx_, type, c_.head_dim, segment.capacity, c_.n_kv_heads);
    auto* base = const_cast<void*>(data);
    out_.segments_.emplace_back(
        ggml_backend_dev_buffer_from_host_ptr(cpu_.device(), base, ggml_nbytes(whole), ggml_nbytes(whole)));
    ggml_backend_tensor_alloc(out_.segments_.back().get(), whole, base);
    ggml_tensor* part = ggml_view_3d(ctx_, whole, c_.head_dim, rows.count(), c_.n_kv_heads, whole->nb[1], whole->nb[2],
                                     static_cast<std::size_t>(rows.first) * whole->nb[1]);
    return type == GGML_TYPE_F32 ? ggml_cont(ctx_, part) : ggml_cast(ctx_, part, GGML_TYPE_F32);
  }

  // One mask per chunk serves all layers that are alike. Those of a condensed context have one each, for every head: with
  // what is added to the scores.
  ggml_tensor* mask(std::size_t index, int layer, const SequenceChunk& chunk, const PlainKeys& keys) {
    const KvView context = context_view(chunk, layer);
    const int window = c_.layer(layer).window;
    ggml_tensor*& shared = chunk_masks_[{index, window}];
    const int n_keys = keys.context.count() + keys.own.count();
    const bool fits = shared != nullptr && shared->ne[0] == n_keys && shared->ne[2] == 1;
    if (context.log_mass == nullptr && fits) return shared;
    ggml_tensor* t =
        ggml_new_tensor_3d(ctx_, GGML_TYPE_F32, n_keys, chunk.n_tokens, context.log_mass == nullptr ? 1 : c_.n_heads);
    ggml_set_input(t);
    out_.masks_.push_back({.tensor = t,
                           .n_before = n_keys - chunk.n_tokens,
                           .window = window,
                           .context = context,
                           .gqa = c_.n_heads / c_.n_kv_heads});
    return shared = t;
  }

  Graph& out_;
  const Weights& weights_;
  Pass& pass_;
  const KernelPath kernels_;
  const CpuBackend& cpu_;
  bool selected_ = false;
  std::map<std::pair<std::size_t, int>, ggml_tensor*> chunk_masks_;  // the last of each chunk, by its window
  ggml_tensor* quantized_from_ = nullptr;
  ggml_tensor* quantized_ = nullptr;
};

Result<std::unique_ptr<Graph>> Graph::build(const Model::Impl& model, Pass& pass, const PassShape& shape, KernelPath kernels,
                                            const CpuBackend& cpu, ggml_gallocr_t scratch) {
  std::unique_ptr<Graph> graph(new Graph);
  graph->shape_ = shape;
  if (!GraphBuilder(*graph, model, pass, kernels, cpu).run() || !ggml_gallocr_alloc_graph(scratch, graph->graph_)) {
    return fail(ErrorKind::kOverloaded, "no memory for a pass of {} tokens", shape.n_tokens);
  }
  return graph;
}

void Graph::Mask::set() const {
  const std::int64_t n_visible = tensor->ne[0];
  auto* values = static_cast<float*>(tensor->data);
  for (std::int64_t head = 0; head < tensor->ne[2]; ++head) {
    const float* log_mass = context.log_mass == nullptr ? nullptr : context.log_mass + head / gqa * context.capacity;
    for (std::int64_t row = 0; row < tensor->ne[1]; ++row, values += n_visible) {
      std::fill_n(values, n_visible, -std::numeric_limits<float>::infinity());
      const std::int64_t seen = n_before + row + 1;
      const std::int64_t hidden = window == 0 ? 0 : std::max<std::int64_t>(0, seen - window);
      std::fill(values + hidden, values + seen, 0.0F);
      if (log_mass != nullptr) std::copy_n(log_mass, context.length, values);
    }
  }
}

void Graph::restart() {
  for (Task& task : tasks_) task.shares.restart();
}

void Graph::set_masks() const {
  for (const Mask& mask : masks_) mask.set();
}

}  // namespace celslm
