#include "model/engine/device_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <limits>

#include "model/engine/layer_nodes.h"

namespace celslm {
namespace {

// Nodes and views of a layer at most, and of each chunk in it.
constexpr std::size_t kNodesOfLayer = 88;
constexpr std::size_t kNodesOfChunk = 56;
constexpr std::size_t kOtherNodes = 24;

constexpr std::uint16_t kF16Hidden = 0xFC00;  // minus infinity

ggml_tensor* rows_view(ggml_context* ctx, ggml_tensor* t, std::int64_t rows) {
  return ggml_view_3d(ctx, t, t->ne[0], rows, t->ne[2], t->nb[1], t->nb[2], 0);
}

// Products of many rows take a multiple of so many: of others ggml's kernel for Vulkan computed the last rows wrongly on
// Mesa's software device (ggml 0.27, f32 and f16 weights, 65 and 70 rows; 64 and fewer, 88, 128 and 200 were right).
constexpr std::int64_t kRowsTogether = 8;
constexpr std::int64_t kFewRows = 64;

// a: [n_in, n_out, ..], b: [n_in, n, ..] -> [n_out, n, ..]. Sums are at least as precise as `sums`.
ggml_tensor* multiply(ggml_context* ctx, ggml_tensor* a, ggml_tensor* b, ggml_prec sums = GGML_PREC_UNDEFINED) {
  const std::int64_t n = b->ne[1];
  const bool fits = n <= kFewRows || n % kRowsTogether == 0;
  if (!fits) b = ggml_pad(ctx, b, 0, static_cast<int>(kRowsTogether - n % kRowsTogether), 0, 0);
  ggml_tensor* out = ggml_mul_mat(ctx, a, b);
  ggml_prec_set_acc(out, sums);
  if (fits) return out;
  return ggml_cont(ctx, ggml_view_3d(ctx, out, out->ne[0], n, out->ne[2], out->nb[1], out->nb[2], 0));
}

std::string describe(const ggml_tensor* node) {
  std::string types;
  for (const ggml_tensor* source : node->src) {
    if (source != nullptr) types += fmt::format("{}{}", types.empty() ? "" : ", ", ggml_type_name(source->type));
  }
  return fmt::format("{} of {} to {}", ggml_op_desc(node), types, ggml_type_name(node->type));
}

}  // namespace

ggml_type export_type(KvType type) {
  return type == KvType::kQ8 ? GGML_TYPE_F16 : ggml_type_of(type);
}

// Builds node by node; shapes in comments are ggml's, fastest dimension first.
class DeviceGraphBuilder : private LayerNodes {
 public:
  DeviceGraphBuilder(DeviceGraph& out, const ModelConfig& config, const DeviceModel& model, const DeviceBatch& batch,
                     const PassShape& shape, const DevicePlaces& places)
      : LayerNodes(config), out_(out), model_(model), batch_(batch), shape_(shape), places_(places) {}

  bool run() {
    const std::size_t n_layers = static_cast<std::size_t>(shape_.last - shape_.first);
    const std::size_t capacity = n_layers * (kNodesOfLayer + kNodesOfChunk * batch_.chunks.size()) + kOtherNodes;
    const std::size_t memory = 2 * capacity * ggml_tensor_overhead() + ggml_graph_overhead_custom(capacity, false);
    out_.context_.reset(ggml_init({.mem_size = memory, .mem_buffer = nullptr, .no_alloc = true}));
    if (!out_.context_) return false;
    ctx_ = out_.context_.get();
    out_.graph_ = ggml_new_graph_custom(ctx_, capacity, false);
    out_.first_ = shape_.first;
    if (n_layers > 0) begin_layers();
    ggml_tensor* x = enter();
    for (int layer = shape_.first; layer < shape_.last; ++layer) x = transformer_layer(x, layer);
    leave(shape_.n_outputs > 0 ? head(x) : x);
    return true;
  }

 private:
  struct Run {  // chunks next to each other that share a context, or one without
    std::size_t first = 0;
    std::size_t last = 0;
    std::int64_t row = 0;  // of the batch
    std::int64_t n_rows = 0;
    std::int64_t n_own = 0;               // own rows that products take of each chunk: the most that one sees, padded
    ggml_tensor* mask = nullptr;          // over own rows
    ggml_tensor* context_mask = nullptr;  // over a context of so many rows without log masses, padded
    int masked_rows = 0;
  };

  template <typename T>
  ggml_tensor* input(ggml_tensor* tensor, const std::vector<T>& values) {
    ggml_set_input(tensor);
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    out_.inputs_.push_back({.tensor = tensor, .data = {bytes, bytes + values.size() * sizeof(T)}});
    return tensor;
  }

  void begin_layers() {
    positions_ = places_.positions;
    own_rows_ = places_.own_rows;
    if (positions_ == nullptr) find_rows();
    if (shape_.n_outputs > 0 && shape_.n_outputs < shape_.n_tokens) {
      output_rows_ = input(ggml_new_tensor_1d(ctx_, GGML_TYPE_I32, shape_.n_outputs), last_rows(batch_.chunks));
    }
    find_runs();
  }

  void find_rows() {
    std::vector<std::int32_t> positions;
    std::vector<std::int64_t> rows;
    for (const SequenceChunk& chunk : batch_.chunks) {
      for (int i = 0; i < chunk.n_tokens; ++i) {
        positions.push_back(chunk.own->first_position() + chunk.own_length + i);
        rows.push_back(chunk.own_length + i);
      }
    }
    positions_ = input(ggml_new_tensor_1d(ctx_, GGML_TYPE_I32, shape_.n_tokens), positions);
    own_rows_ = input(ggml_new_tensor_1d(ctx_, GGML_TYPE_I64, shape_.n_tokens), rows);
  }

  void find_runs() {
    std::int64_t row = 0;
    for (std::size_t i = 0; i < batch_.chunks.size(); ++i) {
      const SequenceChunk& chunk = batch_.chunks[i];
      const bool joins = !runs_.empty() && batch_.contexts[i] != nullptr &&
                         batch_.contexts[i] == batch_.contexts[runs_.back().first] &&
                         chunk.context_rows == batch_.chunks[runs_.back().first].context_rows;
      if (!joins) runs_.push_back({.first = i, .row = row});
      Run& run = runs_.back();
      run.last = i + 1;
      run.n_rows += chunk.n_tokens;
      run.n_own = std::max<std::int64_t>(run.n_own, padded_rows(chunk.own_length + chunk.n_tokens));
      row += chunk.n_tokens;
    }
  }

  ggml_tensor* enter() {
    if (places_.in != nullptr) return places_.in;
    out_.hidden_ = ggml_new_tensor_2d(ctx_, GGML_TYPE_F32, c_.n_embd, shape_.n_tokens);
    ggml_set_input(out_.hidden_);
    return out_.hidden_;
  }

  void leave(ggml_tensor* x) {
    if (places_.out != nullptr) {
      x = ggml_cpy(ctx_, x, places_.out);
    } else {
      ggml_set_output(x);
      out_.result_ = x;
    }
    ggml_build_forward_expand(out_.graph_, x);
  }

  ggml_tensor* head(ggml_tensor* x) { return logits_of(linear(model_.output, norm(x, model_.output_norm))); }

  ggml_tensor* mlp(ggml_tensor* x, const LayerWeights& w) {
    ggml_tensor* gate = linear(w.gate, x);
    return linear(w.down, gated(gate, linear(w.up, x)));
  }

  ggml_tensor* linear(const Linear& l, ggml_tensor* x) {
    ggml_tensor* y = multiply(ctx_, l.w, x);
    return l.b == nullptr ? y : ggml_add(ctx_, y, l.b);
  }

  // [n_heads * head_dim, n_tokens] as [head_dim, n_heads, n_tokens], normed where the model does that.
  ggml_tensor* heads_of(ggml_tensor* x, ggml_tensor* norm_weight) {
    ggml_tensor* heads = ggml_reshape_3d(ctx_, x, c_.head_dim, x->ne[0] / c_.head_dim, x->ne[1]);
    return norm_weight == nullptr ? heads : norm(heads, norm_weight);
  }

  ggml_tensor* rope(ggml_tensor* x, int layer) {
    const RopeUse use = c_.layer(layer).rope;
    if (use == RopeUse::kNone) return x;
    const bool is_global = use == RopeUse::kGlobal;
    const RopeConfig& r = is_global ? c_.rope : c_.local_rope;
    return ggml_rope_ext(ctx_, x, positions_, is_global ? model_.rope_factors : nullptr, r.dimensions,
                         r.neox ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL, r.original_context, r.base, 1.0F / r.factor,
                         r.yarn_ext_factor, r.yarn_attn_factor, r.yarn_beta_fast, r.yarn_beta_slow);
  }

  // Rounded as the cache is, and kept for the host, in f32 again.
  ggml_tensor* rounded(ggml_tensor* x, ggml_tensor*& kept) {
    const ggml_type type = export_type(batch_.chunks.front().own->type());
    kept = type == GGML_TYPE_F32 ? ggml_cont(ctx_, x) : ggml_cast(ctx_, x, type);
    ggml_set_output(kept);
    ggml_build_forward_expand(out_.graph_, kept);
    return type == GGML_TYPE_F32 ? kept : ggml_cast(ctx_, kept, GGML_TYPE_F32);
  }

  ggml_tensor* transformer_layer(ggml_tensor* x, int layer) {
    const LayerWeights& w = model_.layers[static_cast<std::size_t>(layer)];
    ggml_tensor* normed = norm(x, w.attn_norm);
    ggml_tensor* q = rope(heads_of(linear(w.q, normed), w.q_norm), layer);
    DeviceGraph::Exports& exports = out_.exports_.emplace_back();
    ggml_tensor* k = rounded(heads_of(linear(w.k, normed), w.k_norm), exports.k);
    if (w.k_bias != nullptr) k = ggml_add(ctx_, k, ggml_reshape_2d(ctx_, w.k_bias, c_.head_dim, c_.n_kv_heads));
    ggml_tensor* v = rounded(heads_of(linear(w.v, normed), nullptr), exports.v);
    ggml_tensor* mixed = attend(q, rope(k, layer), v, layer);
    if (layer == shape_.last - 1 && output_rows_ != nullptr) {  // what follows is row by row
      mixed = ggml_get_rows(ctx_, mixed, output_rows_);
      x = ggml_get_rows(ctx_, x, output_rows_);
    }
    x = residual(norm(linear(w.attn_output, mixed), w.attn_post_norm), x);
    return residual(norm(mlp(norm(x, w.ffn_norm), w), w.ffn_post_norm), x);
  }

  // Rows of a chunk into its segment's K or V: [head_dim, rows, n_kv_heads], of which only `x`'s rows change.
  ggml_tensor* store(ggml_tensor* into, ggml_tensor* x, std::int64_t row, std::int64_t n) {
    ggml_tensor* of_chunk =
        ggml_view_3d(ctx_, x, x->ne[0], x->ne[1], n, x->nb[1], x->nb[2], static_cast<std::size_t>(row) * x->nb[2]);
    ggml_tensor* where = ggml_view_1d(ctx_, own_rows_, n, static_cast<std::size_t>(row) * own_rows_->nb[0]);
    ggml_tensor* stored = ggml_set_rows(ctx_, into, ggml_permute(ctx_, of_chunk, 0, 2, 1, 3), where);
    ggml_build_forward_expand(out_.graph_, stored);
    return stored;
  }

  // q, k, v: [head_dim, heads, n_tokens], after RoPE; out: [n_heads * head_dim, n_tokens].
  ggml_tensor* attend(ggml_tensor* q, ggml_tensor* k, ggml_tensor* v, int layer) {
    ggml_tensor* all = nullptr;
    for (Run& run : runs_) {
      std::vector<ggml_tensor*> keys;
      std::vector<ggml_tensor*> values;
      std::int64_t row = run.row;
      for (std::size_t i = run.first; i < run.last; ++i) {
        const int n = batch_.chunks[i].n_tokens;
        keys.push_back(store(batch_.owns[i]->k(layer), k, row, n));
        values.push_back(store(batch_.owns[i]->v(layer), v, row, n));
        row += n;
      }
      ggml_tensor* of_run = ggml_view_3d(ctx_, q, q->ne[0], q->ne[1], run.n_rows, q->nb[1], q->nb[2],
                                         static_cast<std::size_t>(run.row) * q->nb[2]);
      ggml_tensor* mixed = attend_run(run, of_run, keys, values, layer);
      all = all == nullptr ? mixed : ggml_concat(ctx_, all, mixed, 2);
    }
    return ggml_reshape_2d(ctx_, all, std::int64_t{c_.n_heads} * c_.head_dim, shape_.n_tokens);
  }

  ggml_tensor* attend_run(Run& run, ggml_tensor* q, const std::vector<ggml_tensor*>& keys,
                          const std::vector<ggml_tensor*>& values, int layer) {
    const KvView context = context_view(batch_.chunks[run.first], layer);
    if (batch_.contexts[run.first] == nullptr) {
      if (ggml_tensor* out = attend_flash(run, q, keys.front(), values.front())) return out;
      return attend_scores(run, q, keys, values, layer, {});
    }
    return attend_scores(run, q, keys, values, layer, context);
  }

  // [head_dim, n_heads, n_tokens], or null where the device has no such operator for these shapes and types.
  ggml_tensor* attend_flash(Run& run, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v) {
    if (no_flash_) return nullptr;
    if (run.mask == nullptr) run.mask = causal_mask(run);
    ggml_tensor* out = ggml_flash_attn_ext(ctx_, ggml_permute(ctx_, q, 0, 2, 1, 3), rows_view(ctx_, k, run.n_own),
                                           rows_view(ctx_, v, run.n_own), run.mask, c_.attention_scale, 0.0F, 0.0F);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    if (ggml_backend_dev_supports_op(model_.device()->handle(), out)) return out;
    no_flash_ = true;
    run.mask = nullptr;  // that input is read by nobody, and gets no memory
    return nullptr;
  }

  // f16 [n_keys, n_tokens], of a chunk alone. Made on the device where that can be: for long contexts it is megabytes.
  ggml_tensor* causal_mask(const Run& run) {
    const SequenceChunk& chunk = batch_.chunks[run.first];
    const std::int64_t n_keys = run.n_own;
    ggml_tensor* zeros = ggml_fill(ctx_, ggml_new_tensor_2d(ctx_, GGML_TYPE_F32, n_keys, chunk.n_tokens), 0.0F);
    ggml_tensor* hidden = ggml_diag_mask_inf(ctx_, zeros, chunk.own_length);
    ggml_tensor* narrow = ggml_cast(ctx_, hidden, GGML_TYPE_F16);
    const auto runs = [&](const ggml_tensor* t) { return ggml_backend_dev_supports_op(model_.device()->handle(), t); };
    if (runs(zeros) && runs(hidden) && runs(narrow)) return narrow;
    std::vector<std::uint16_t> values(static_cast<std::size_t>(n_keys * chunk.n_tokens), kF16Hidden);
    for (int row = 0; row < chunk.n_tokens; ++row)
      std::fill_n(values.begin() + n_keys * row, chunk.own_length + row + 1, std::uint16_t{0});
    return input(ggml_new_tensor_2d(ctx_, GGML_TYPE_F16, n_keys, chunk.n_tokens), values);
  }

  // The query heads of a KV head are rows of one product: f32 [n_own, heads per KV head * n_tokens], token by token.
  ggml_tensor* own_mask(const Run& run) {
    const int group = c_.n_heads / c_.n_kv_heads;
    const auto n_keys = static_cast<std::size_t>(run.n_own);
    std::vector<float> values;
    for (std::size_t i = run.first; i < run.last; ++i) {
      const SequenceChunk& chunk = batch_.chunks[i];
      for (int row = 0; row < chunk.n_tokens * group; ++row) {
        values.resize(values.size() + n_keys, -std::numeric_limits<float>::infinity());
        std::fill_n(values.end() - static_cast<std::ptrdiff_t>(n_keys), chunk.own_length + row / group + 1, 0.0F);
      }
    }
    return input(ggml_new_tensor_2d(ctx_, GGML_TYPE_F32, run.n_own, group * run.n_rows), values);
  }

  // Softmax over context and own keys together. q: [head_dim, n_heads, n]; R rows are the n tokens of each of a group's
  // query heads.
  ggml_tensor* attend_scores(Run& run, ggml_tensor* q, const std::vector<ggml_tensor*>& keys,
                             const std::vector<ggml_tensor*>& values, int layer, const KvView& context) {
    const std::int64_t group = c_.n_heads / c_.n_kv_heads;
    if (run.mask == nullptr) run.mask = own_mask(run);
    ggml_tensor* grouped = ggml_view_4d(ctx_, q, q->ne[0], group, c_.n_kv_heads, run.n_rows, q->nb[1],
                                        q->nb[1] * static_cast<std::size_t>(group), q->nb[2], 0);
    ggml_tensor* rows = ggml_cont_3d(ctx_, ggml_permute(ctx_, grouped, 0, 1, 3, 2), q->ne[0], group * run.n_rows,
                                     c_.n_kv_heads);  // [head_dim, R, n_kv_heads]
    ggml_tensor* scores = ggml_add(ctx_, own_scores(run, rows, keys), run.mask);
    if (context.length > 0) scores = ggml_concat(ctx_, context_scores(run, rows, layer, context), scores, 0);
    ggml_tensor* weights = ggml_soft_max_ext(ctx_, scores, nullptr, c_.attention_scale, 0.0F);  // [N + n_own, R, n_kv_heads]
    const int n_context = context.length > 0 ? padded_rows(context.length) : 0;
    ggml_tensor* out = own_values(run, weights, values, n_context);  // [head_dim, R, n_kv_heads]
    if (context.length > 0) {
      ggml_tensor* of_context =
          ggml_view_3d(ctx_, weights, n_context, weights->ne[1], weights->ne[2], weights->nb[1], weights->nb[2], 0);
      ggml_tensor* v = batch_.contexts[run.first]->v(layer);
      v = ggml_view_3d(ctx_, v, n_context, v->ne[1], v->ne[2], v->nb[1], v->nb[2], 0);
      out = ggml_add(ctx_, multiply(ctx_, v, of_context, GGML_PREC_F32), out);
    }
    ggml_tensor* apart = ggml_reshape_4d(ctx_, out, q->ne[0], group, run.n_rows, c_.n_kv_heads);
    return ggml_cont_3d(ctx_, ggml_permute(ctx_, apart, 0, 1, 3, 2), q->ne[0], c_.n_heads, run.n_rows);
  }

  // [N, R, n_kv_heads], N padded.
  ggml_tensor* context_scores(Run& run, ggml_tensor* rows, int layer, const KvView& context) {
    ggml_tensor* k = rows_view(ctx_, batch_.contexts[run.first]->k(layer), padded_rows(context.length));
    ggml_tensor* scores = multiply(ctx_, k, rows, GGML_PREC_F32);
    if (context.log_mass != nullptr) return ggml_add(ctx_, scores, context_mask(context));
    if (k->ne[1] == context.length) return scores;
    if (run.masked_rows != context.length) run.context_mask = context_mask(context);
    run.masked_rows = context.length;
    return ggml_add(ctx_, scores, run.context_mask);
  }

  // f32 [N, 1, n_kv_heads or 1]: hides the padding. Log masses count before the scale, by which the softmax multiplies
  // everything.
  ggml_tensor* context_mask(const KvView& context) {
    const int n = padded_rows(context.length);
    const int heads = context.log_mass == nullptr ? 1 : c_.n_kv_heads;
    std::vector<float> values;
    for (int head = 0; head < heads; ++head) {
      for (int i = 0; i < context.length; ++i) {
        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(head) * context.capacity + i;
        values.push_back(context.log_mass == nullptr ? 0.0F : context.log_mass[at] / c_.attention_scale);
      }
      values.resize(values.size() + static_cast<std::size_t>(n - context.length), -std::numeric_limits<float>::infinity());
    }
    return input(ggml_new_tensor_3d(ctx_, GGML_TYPE_F32, n, 1, heads), values);
  }

  // [n_own, R, n_kv_heads]
  ggml_tensor* own_scores(const Run& run, ggml_tensor* rows, const std::vector<ggml_tensor*>& keys) {
    const std::int64_t group = c_.n_heads / c_.n_kv_heads;
    ggml_tensor* all = nullptr;
    std::size_t first = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const std::int64_t n = group * batch_.chunks[run.first + i].n_tokens;
      ggml_tensor* of_chunk = part(rows, 0, rows->ne[0], first, n);
      ggml_tensor* scores = multiply(ctx_, rows_view(ctx_, keys[i], run.n_own), of_chunk, GGML_PREC_F32);
      all = all == nullptr ? scores : ggml_concat(ctx_, all, scores, 1);
      first += static_cast<std::size_t>(n);
    }
    return all;
  }

  // [head_dim, R, n_kv_heads]
  ggml_tensor* own_values(const Run& run, ggml_tensor* weights, const std::vector<ggml_tensor*>& values, int n_context) {
    const std::int64_t group = c_.n_heads / c_.n_kv_heads;
    ggml_tensor* all = nullptr;
    std::size_t first = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t n = group * batch_.chunks[run.first + i].n_tokens;
      ggml_tensor* of_chunk = ggml_cont(ctx_, part(weights, n_context, run.n_own, first, n));
      ggml_tensor* v = rows_view(ctx_, values[i], run.n_own);
      if (ggml_is_quantized(v->type)) v = ggml_cast(ctx_, v, GGML_TYPE_F32);
      ggml_tensor* turned = ggml_cont(ctx_, ggml_transpose(ctx_, v));  // [n_own, head_dim, n_kv_heads]
      ggml_tensor* mixed = multiply(ctx_, turned, of_chunk, GGML_PREC_F32);
      all = all == nullptr ? mixed : ggml_concat(ctx_, all, mixed, 1);
      first += static_cast<std::size_t>(n);
    }
    return all;
  }

  // Columns [column, column + n_columns) of rows [row, row + n_rows).
  ggml_tensor* part(ggml_tensor* t, std::int64_t column, std::int64_t n_columns, std::size_t row, std::int64_t n_rows) {
    return ggml_view_3d(ctx_, t, n_columns, n_rows, t->ne[2], t->nb[1], t->nb[2],
                        static_cast<std::size_t>(column) * t->nb[0] + row * t->nb[1]);
  }

  DeviceGraph& out_;
  const DeviceModel& model_;
  const DeviceBatch& batch_;
  const PassShape& shape_;
  const DevicePlaces& places_;
  ggml_tensor* positions_ = nullptr;
  ggml_tensor* own_rows_ = nullptr;
  ggml_tensor* output_rows_ = nullptr;  // null: all
  std::vector<Run> runs_;
  bool no_flash_ = false;
};

Result<std::unique_ptr<DeviceGraph>> DeviceGraph::build(const ModelConfig& config, const DeviceModel& model,
                                                        const DeviceBatch& batch, const PassShape& shape,
                                                        const DevicePlaces& places, ggml_gallocr_t scratch) {
  std::unique_ptr<DeviceGraph> out(new DeviceGraph);
  if (!DeviceGraphBuilder(*out, config, model, batch, shape, places).run())
    return fail(ErrorKind::kOverloaded, "no memory for the graph of {} tokens", shape.n_tokens);
  CELSLM_CHECK_OK(out->check(*model.device()));
  CELSLM_CHECK_OK(out->allocate(*model.device(), scratch));
  return out;
}

// What a device cannot compute would have to go to the CPU and back in the middle of a layer.
Status DeviceGraph::check(const OpenDevice& device) const {
  for (int i = 0; i < ggml_graph_n_nodes(graph_); ++i) {
    const ggml_tensor* node = ggml_graph_node(graph_, i);
    if (ggml_backend_dev_supports_op(device.handle(), node)) continue;
    return fail(ErrorKind::kUnavailable,
                "{} cannot compute {}: the layer would be split between it and the CPU (use --device cpu, or weights of "
                "another type)",
                device.name(), describe(node));
  }
  return {};
}

Status DeviceGraph::allocate(const OpenDevice& device, ggml_gallocr_t scratch) const {
  try {
    if (ggml_gallocr_alloc_graph(scratch, graph_)) return {};
  } catch (const std::exception&) {  // a driver's
  }
  std::size_t size = 0;
  ggml_gallocr_reserve_n_size(scratch, graph_, nullptr, nullptr, &size);
  return device.no_room(size, "scratch memory");
}

void DeviceGraph::set_inputs() const {
  for (const Input& input : inputs_) {
    if (input.tensor->buffer != nullptr) ggml_backend_tensor_set(input.tensor, input.data.data(), 0, input.data.size());
  }
}

}  // namespace celslm
