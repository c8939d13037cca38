#include "model/engine/pass.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>

#include "model/engine/engine.h"
#include "model/recurrent/convolution.h"
#include "model/recurrent/delta_net.h"

namespace celslm {
namespace {

Status check_segment(const ModelConfig& config, const KvSegment& segment, std::size_t chunk, const char* which) {
  if (segment.n_layers() == config.n_layers && segment.n_kv_heads() == config.n_kv_heads &&
      segment.head_dim() == config.head_dim) {
    return {};
  }
  return fail(ErrorKind::kInvalid, "chunk {}: the {} segment has {} layers, {} KV heads of {}; the model {}, {} of {}",
              chunk, which, segment.n_layers(), segment.n_kv_heads(), segment.head_dim(), config.n_layers, config.n_kv_heads,
              config.head_dim);
}

float temperature(const QueryTemperature& of, int position) {
  if (of.scale == 0.0F) return 1.0F;
  return 1.0F + of.scale * std::log(1.0F + std::floor(static_cast<float>(position) / static_cast<float>(of.step)));
}

Status check_context_rows(const SequenceChunk& chunk, std::size_t index) {
  if (!chunk.context_rows) return {};
  const int rows = *chunk.context_rows;
  if (chunk.context->condensed())
    return fail(ErrorKind::kInvalid, "chunk {}: a condensed context is attended in full, not its first {} rows", index,
                rows);
  if (rows >= 0 && rows <= chunk.context->length()) return {};
  return fail(ErrorKind::kInvalid, "chunk {}: its context has {} rows, not {}", index, chunk.context->length(), rows);
}

Status check_chunk(const ModelConfig& config, const SequenceChunk& chunk, std::size_t index) {
  if (chunk.n_tokens < 1) return fail(ErrorKind::kInvalid, "chunk {} has {} tokens", index, chunk.n_tokens);
  if (chunk.own == nullptr) return fail(ErrorKind::kInvalid, "chunk {} has no segment of its own", index);
  CELSLM_CHECK_OK(check_segment(config, *chunk.own, index, "own"));
  if (chunk.own->condensed()) return fail(ErrorKind::kInvalid, "chunk {} would write a condensed segment", index);
  if (chunk.own_length < 0 || chunk.own_length > chunk.own->capacity() - chunk.n_tokens) {
    return fail(ErrorKind::kInvalid, "chunk {}: {} tokens after {} do not fit a segment of {}", index, chunk.n_tokens,
                chunk.own_length, chunk.own->capacity());
  }
  int expected_position = 0;
  if (chunk.context != nullptr) {
    if (chunk.context == chunk.own) return fail(ErrorKind::kInvalid, "chunk {} would write its own context", index);
    CELSLM_CHECK_OK(check_segment(config, *chunk.context, index, "context"));
    if (chunk.context->condensed()) CELSLM_CHECK_OK(check_condensable(config));
    CELSLM_CHECK_OK(check_context_rows(chunk, index));
    expected_position = chunk.context_rows.value_or(chunk.context->next_position());
  }
  if (chunk.own->first_position() != expected_position) {
    return fail(ErrorKind::kInvalid, "chunk {}: its segment begins at position {}, its context ends at {}", index,
                chunk.own->first_position(), expected_position);
  }
  return {};
}

}  // namespace

Status check_batch(const ModelConfig& config, std::span<const SequenceChunk> batch, int n_tokens) {
  if (batch.empty()) return fail(ErrorKind::kInvalid, "a batch without chunks");
  std::int64_t sum = 0;
  std::vector<const KvSegment*> written;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    CELSLM_CHECK_OK(check_chunk(config, batch[i], i));
    sum += batch[i].n_tokens;
    written.push_back(batch[i].own.get());
  }
  std::ranges::sort(written);
  if (std::ranges::adjacent_find(written) != written.end())
    return fail(ErrorKind::kInvalid, "two chunks would write one segment");
  if (sum != n_tokens) return fail(ErrorKind::kInvalid, "chunks of {} tokens in all for a batch of {}", sum, n_tokens);
  return {};
}

Status check_states(const ModelConfig& config, std::span<const SequenceChunk> batch, int first, int last) {
  for (int layer = first; layer < last; ++layer) {
    if (config.state_values(layer) == 0) continue;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const SequenceChunk& chunk = batch[i];
      const bool is_first = chunk.own_length == 0;
      const KvSegment* holder = is_first ? chunk.context.get() : chunk.own.get();
      if (holder == nullptr) continue;
      const int wanted = is_first ? chunk.context_rows.value_or(holder->length()) : chunk.own_length;
      if (holder->state_rows(layer) == wanted) continue;
      return fail(ErrorKind::kInvalid, "chunk {}: the state of layer {} is that after {} tokens of its {}, not after {}", i,
                  layer, holder->state_rows(layer), is_first ? "context" : "segment", wanted);
    }
  }
  return {};
}

Pass::Pass(const Model::Impl& model, int n_threads) : model_(model), config_(model.config), weights_(*model.weights) {
  scratch_.resize(static_cast<std::size_t>(n_threads));
  const int widest =
      std::max({config_.n_embd, config_.n_heads * config_.head_dim, config_.n_ff, config_.recurrence.value_width()});
  for (ThreadScratch& s : scratch_) {
    s.head.resize(key_scratch(config_.head_dim));
    s.row.resize(static_cast<std::size_t>(widest / PackedMatrix::kBlock));
  }
}

const Q8Block* Pass::rounded(std::span<const float> x, int thread) {
  Q8Block* const out = scratch_[static_cast<std::size_t>(thread)].row.data();
  q8_quantize(x.data(), static_cast<std::int64_t>(x.size()), 1, out, 0, 1);
  return out;
}

void Pass::begin(std::span<const SequenceChunk> batch, int first_layer, int last_layer) {
  batch_ = batch;
  first_layer_ = first_layer;
  rows_.clear();
  by_context_.clear();
  std::vector<int> positions;
  for (std::size_t c = 0; c < batch.size(); ++c) {
    const SequenceChunk& chunk = batch[c];
    for (int i = 0; i < chunk.n_tokens; ++i) {
      const int position = chunk.own->first_position() + chunk.own_length + i;
      rows_.push_back({.chunk = static_cast<int>(c),
                       .own_row = chunk.own_length + i,
                       .temperature = temperature(config_.temperature, position)});
      positions.push_back(position);
    }
    if (chunk.context != nullptr && chunk.context->length() > 0) by_context_.push_back(static_cast<int>(c));
  }
  std::ranges::stable_sort(by_context_, {}, [&](int c) { return batch[static_cast<std::size_t>(c)].context.get(); });
  for (int layer = first_layer; layer < last_layer; ++layer)
    angles_[static_cast<std::size_t>(config_.layer(layer).rope)].fill(*rotation(layer).rope, positions);
  groups_.clear();
  for (int layer = first_layer; layer < last_layer; ++layer) groups_.push_back(groups_of(layer));
}

std::vector<AttentionGroup> Pass::groups_of(int layer) const {
  if (config_.state_values(layer) > 0) return {};
  std::vector<int> first_rows(batch_.size());
  for (std::size_t c = 1; c < batch_.size(); ++c) first_rows[c] = first_rows[c - 1] + batch_[c - 1].n_tokens;
  std::vector<AttentionGroup> groups;
  for (const int index : by_context_) {
    const auto c = static_cast<std::size_t>(index);
    groups.push_back(group(layer, c, first_rows[c], false));
  }
  for (std::size_t c = 0; c < batch_.size(); ++c) groups.push_back(group(layer, c, first_rows[c], true));
  return groups;
}

// A chunk's rows over its context, or over its own tokens.
AttentionGroup Pass::group(int layer, std::size_t chunk, int first_row, bool own) const {
  const SequenceChunk& of = batch_[chunk];
  AttentionGroup out{
      .kv = own ? of.own->view(layer) : context_view(of, layer), .first_row = first_row, .n_rows = of.n_tokens};
  if (own) {
    out.kv.length = of.own_length + of.n_tokens;  // the new rows are there by the time this group is read
    out.visible = of.own_length + 1;
    out.causal = 1;
  } else {
    out.visible = out.kv.length;
  }
  if (const int window = config_.layer(layer).window; window > 0) {
    const int position = of.own->first_position() + of.own_length;  // of the first row
    out.hidden = position - window + 1 - out.kv.first_position;
    out.sliding = 1;
  }
  return out;
}

void Pass::store(int layer, const float* q, const float* k, const float* v, float* q_out, int ith, int nth) {
  const int heads = config_.n_heads + config_.n_kv_heads;  // of work per row: a query head, or a KV head's K and V
  const auto d = static_cast<std::size_t>(config_.head_dim);
  const std::int64_t items = static_cast<std::int64_t>(rows_.size()) * heads;
  for (std::int64_t item = items * ith / nth; item < items * (ith + 1) / nth; ++item) {
    const auto row = static_cast<std::size_t>(item / heads);
    const auto head = static_cast<int>(item % heads);
    if (head < config_.n_heads) {
      const std::size_t at = (row * static_cast<std::size_t>(config_.n_heads) + static_cast<std::size_t>(head)) * d;
      store_query(layer, static_cast<int>(row), q + at, q_out + at);
      if (!tap_queries_.empty()) std::copy_n(q_out + at, d, tap_queries_.data() + at);
    } else {
      store_head(layer, static_cast<int>(row), head - config_.n_heads, k, v, scratch_[static_cast<std::size_t>(ith)]);
    }
  }
}

// One head of one row, [head_dim].
void Pass::store_query(int layer, int row, const float* q, float* out) const {
  const auto d = static_cast<std::size_t>(config_.head_dim);
  rotation(layer).rope->rotate({q, d}, angles(layer, row), out);
  if (const float* gain = weights_.q_gain(layer)) std::transform(out, out + d, gain, out, std::multiplies());
  const float temperature = rows_[static_cast<std::size_t>(row)].temperature;
  if (temperature != 1.0F) std::transform(out, out + d, out, [=](float value) { return value * temperature; });
}

void Pass::store_head(int layer, int row, int head, const float* k, const float* v, ThreadScratch& scratch) {
  const auto d = static_cast<std::size_t>(config_.head_dim);
  const std::size_t at =
      (static_cast<std::size_t>(row) * static_cast<std::size_t>(config_.n_kv_heads) + static_cast<std::size_t>(head)) * d;
  const Row& to = rows_[static_cast<std::size_t>(row)];
  KvSegment& own = *batch_[static_cast<std::size_t>(to.chunk)].own;
  const KvRows rows = rows_of(own, layer, weights_.k_bias(layer), weights_.k_gain(layer));
  store_key(rows, *rotation(layer).rope, head, to.own_row, k + at, angles(layer, row), scratch.head.data());
  store_value(rows, head, to.own_row, v + at);
  if (tap_k_.empty()) return;
  std::copy_n(scratch.head.data(), d, tap_k_.data() + at);
  round_values(own.type(), {v + at, d}, tap_v_.data() + at);
}

const float* Pass::state_before(const SequenceChunk& chunk, int layer) {
  const KvSegment* holder = chunk.own_length > 0 ? chunk.own.get() : chunk.context.get();
  return holder == nullptr ? nullptr : holder->state(layer).data();
}

void Pass::convolve(int layer, const float* in, float* out, int ith, int nth) {
  const RecurrenceConfig& of = config_.recurrence;
  const bool gated = config_.traits().recurrence == Recurrence::kShortConv;
  ConvolutionArgs args{.kind = gated ? ConvolutionKind::kGated : ConvolutionKind::kSilu,
                       .n_channels = of.conv_channels,
                       .span = of.conv_tokens,
                       .weights = weights_.convolution(layer)};
  const auto width = static_cast<std::size_t>(of.conv_channels);
  for (const SequenceChunk& chunk : batch_) {
    args.in = in;
    args.out = out;
    args.n_tokens = chunk.n_tokens;
    args.before = state_before(chunk, layer);
    args.after = chunk.own->state(layer).data();
    celslm::convolve(args, of.conv_channels * ith / nth, of.conv_channels * (ith + 1) / nth);
    const std::size_t n_values = width * static_cast<std::size_t>(chunk.n_tokens);
    in += gated ? 3 * n_values : n_values;
    out += n_values;
  }
}

void Pass::delta_net(int layer, DeltaNetInputs in, float* out, int ith, int nth) {
  const RecurrenceConfig& of = config_.recurrence;
  const RecurrentWeights& w = weights_.layer(layer).recurrent;
  const auto data = [](const ggml_tensor* t) { return static_cast<const float*>(t->data); };
  DeltaNetArgs args{.n_key_heads = of.n_key_heads,
                    .n_value_heads = of.n_value_heads,
                    .head_dim = of.head_dim,
                    .alpha_bias = data(w.alpha_bias),
                    .decay = data(w.decay),
                    .norm = data(w.norm),
                    .epsilon = config_.rms_epsilon};
  for (const SequenceChunk& chunk : batch_) {
    const float* before = state_before(chunk, layer);  // the convolution's part comes first
    args.before = before == nullptr ? nullptr : before + of.conv_values();
    args.after = chunk.own->state(layer).data() + of.conv_values();
    args.qkv = in.qkv;
    args.alpha = in.alpha;
    args.beta = in.beta;
    args.gate = in.gate;
    args.out = out;
    args.n_tokens = chunk.n_tokens;
    celslm::delta_net(args, of.n_value_heads * ith / nth, of.n_value_heads * (ith + 1) / nth,
                      scratch_[static_cast<std::size_t>(ith)].state);
    const auto n = static_cast<std::size_t>(chunk.n_tokens);
    in.qkv += n * static_cast<std::size_t>(of.conv_channels);
    in.alpha += n * static_cast<std::size_t>(of.n_value_heads);
    in.beta += n * static_cast<std::size_t>(of.n_value_heads);
    in.gate += n * static_cast<std::size_t>(of.value_width());
    out += n * static_cast<std::size_t>(of.value_width());
  }
}

void Pass::attend(int layer, const float* q, float* out, int thread, int share, int n_shares) {
  AttentionArgs args{.q = q,
                     .out = out,
                     .n_rows = n_tokens(),
                     .n_heads = config_.n_heads,
                     .n_kv_heads = config_.n_kv_heads,
                     .head_dim = config_.head_dim,
                     .scale = config_.attention_scale,
                     .sinks = weights_.sinks(layer),
                     .groups = groups_[static_cast<std::size_t>(layer - first_layer_)]};
  AttentionScratch& scratch = scratch_[static_cast<std::size_t>(thread)].attention;
  attention(args, share, n_shares, scratch);
  if (tap_attention_.empty()) return;
  args.out = tap_attention_.data();  // once more: which rows are in a share is the kernel's own affair
  attention(args, share, n_shares, scratch);
}

}  // namespace celslm
