// One thread's share of a call: blocks of query vectors over the tiles of every segment that they see.
#if defined(CELSLM_ATTENTION_PASS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_ATTENTION_PASS_INL_H_
#undef CELSLM_ATTENTION_PASS_INL_H_
#else
#define CELSLM_ATTENTION_PASS_INL_H_
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>

#include "hwy/highway.h"
#include "model/attention/block-inl.h"
#include "model/attention/tiling.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::attention_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Hands out 64-byte aligned pieces of a thread's scratch.
class Arena {
 public:
  Arena(std::vector<float>& storage, std::size_t n_floats) {
    const std::size_t wanted = n_floats + kAlignment / sizeof(float);
    if (storage.size() < wanted) storage.resize(wanted);
    const auto address = reinterpret_cast<std::uintptr_t>(storage.data());
    next_ = storage.data() + (rounded_up(address, kAlignment) - address) / sizeof(float);
  }
  float* take(std::size_t n_floats) { return std::exchange(next_, next_ + padded(n_floats)); }
  static constexpr std::size_t padded(std::size_t n) { return rounded_up(n, kAlignment / sizeof(float)); }

 private:
  float* next_;
};

// Query vectors [first, first + n) of one KV head, n <= kMaxVectors, over all that they see.
class Pass {
 public:
  Pass(const AttentionArgs& args, AttentionScratch& scratch, std::size_t max_vectors)
      : args_(args),
        gqa_(args.n_heads / args.n_kv_heads),
        head_dim_(args.head_dim),
        width_(rounded_up(head_dim_, kLanes)),
        list_(scratch.vectors) {
    const std::size_t sizes[] = {max_vectors * width_, max_vectors * kLanes, max_vectors,     max_vectors * head_dim_,
                                 head_dim_ * kTile,    kTile * width_,       kMaxRows * kTile};
    std::size_t total = 0;
    for (const std::size_t size : sizes) total += Arena::padded(size);
    Arena arena(scratch.values, total);
    float** const pieces[] = {&outputs_, &sums_, &max_, &queries_, &keys_, &values_, &scores_};
    for (std::size_t i = 0; i < std::size(sizes); ++i) *pieces[i] = arena.take(sizes[i]);
    list_.reserve(max_vectors);
  }

  void run(std::size_t kv_head, std::size_t first, std::size_t n) {
    kv_head_ = kv_head;
    first_ = first;
    n_ = n;
    std::fill_n(outputs_, n * width_, 0.0F);
    std::fill_n(sums_, n * kLanes, 0.0F);
    std::fill_n(max_, n, std::numeric_limits<float>::lowest());
    if (args_.sinks != nullptr) begin_with_sinks();
    for (std::span<const AttentionGroup> left = args_.groups; !left.empty();) left = left.subspan(attend_groups(left));
    write();
  }

 private:
  using Vector = AttentionScratch::Vector;

  // Lists the vectors of the first groups, as many as share one segment, and attends to it. Returns the number of groups.
  std::size_t attend_groups(std::span<const AttentionGroup> groups) {
    list_.clear();
    std::size_t n = 0;
    int next_row = 0;  // the same row twice would meet its own running state within a block
    for (; n < groups.size() && groups[n].kv.k == groups[0].kv.k && groups[n].first_row >= next_row; ++n) {
      list_vectors(groups[n]);
      next_row = groups[n].first_row + groups[n].n_rows;
    }
    if (!list_.empty()) attend(groups[0].kv);
    return std::max<std::size_t>(n, 1);
  }

  void list_vectors(const AttentionGroup& group) {
    const auto end = static_cast<std::size_t>(std::max(0, group.first_row + group.n_rows)) * gqa_;
    const auto begin = static_cast<std::size_t>(std::max(0, group.first_row)) * gqa_;
    for (std::size_t v = std::max(begin, first_); v < std::min(end, first_ + n_); ++v) {
      const Seen seen = seen_by(group, static_cast<int>(v / gqa_));
      if (seen.count() > 0) list_.push_back({.index = static_cast<int>(v - first_), .seen = seen});
    }
  }

  // As if each vector had seen a key of this score already, whose value is zero.
  void begin_with_sinks() {
    for (std::size_t i = 0; i < n_; ++i) {
      max_[i] = args_.sinks[kv_head_ * gqa_ + (first_ + i) % gqa_] * std::numbers::log2e_v<float>;
      sums_[i * kLanes] = 1.0F;
    }
  }

  // Of the segment at hand: what some vector sees.
  Seen seen_by_any() const {
    Seen out = list_.front().seen;
    for (const Vector& v : list_)
      out = {.first = std::min(out.first, v.seen.first), .last = std::max(out.last, v.seen.last)};
    return out;
  }

  void attend(const KvView& kv) {
    switch (kv.type) {
      case KvType::kF16: return attend<hwy::float16_t>(kv);
      case KvType::kBf16: return attend<hwy::bfloat16_t>(kv);
      case KvType::kF32: return attend<float>(kv);
      case KvType::kQ8: return attend_q8(kv);
    }
  }

  // Rows are widened to f32 a tile at a time; with many vectors to a tile that is soon paid.
  void attend_q8(const KvView& kv) {
    pack_queries();
    const std::size_t row = row_bytes(KvType::kQ8, static_cast<int>(head_dim_));
    const std::size_t head = kv_head_ * static_cast<std::size_t>(kv.capacity) * row;
    const auto* const k = static_cast<const std::byte*>(kv.k) + head;
    const auto* const v = static_cast<const std::byte*>(kv.v) + head;
    const Seen seen = seen_by_any();
    for (int token = seen.first / kTile * kTile; token < seen.last; token += kTile) {
      if (!any_sees(token)) continue;  // between the windows of users far apart
      const int first = std::max(0, seen.first - token);
      const int n_keys = std::min(kTile, seen.last - token);
      widen_q8(k + (token + first) * row, head_dim_, n_keys - first, head_dim_, values_ + first * head_dim_);
      transpose_keys<float>(values_, head_dim_, first, n_keys, keys_);
      widen_q8(v + (token + first) * row, head_dim_, n_keys - first, width_, values_ + first * width_);
      attend_blocks<float>({keys_, values_, log_mass(kv, token), head_dim_, width_, token, first, n_keys});
    }
  }

  const float* log_mass(const KvView& kv, int token) const {
    return kv.log_mass == nullptr ? nullptr : kv.log_mass + kv_head_ * kv.capacity + token;
  }

  // Blocks of nearly equal height.
  std::size_t n_blocks() const { return (list_.size() + kMaxRows - 1) / kMaxRows; }
  std::size_t block_begin(std::size_t block) const { return list_.size() * block / n_blocks(); }

  // Whether a vector sees something of the tile.
  bool any_sees(int token) const {
    return std::ranges::any_of(list_, [&](const Vector& v) { return v.seen.first < token + kTile && v.seen.last > token; });
  }

  template <typename T>
  void attend(const KvView& kv) {
    pack_queries();
    const T* const k = static_cast<const T*>(kv.k) + kv_head_ * kv.capacity * head_dim_;
    const T* const v = static_cast<const T*>(kv.v) + kv_head_ * kv.capacity * head_dim_;
    const Seen seen = seen_by_any();
    // One block reads each value once: converting them on the way saves the store. Not where rows end within a vector.
    const bool direct = n_blocks() == 1 && head_dim_ == width_;
    for (int token = seen.first / kTile * kTile; token < seen.last; token += kTile) {
      if (!any_sees(token)) continue;  // between the windows of users far apart
      const int first = std::max(0, seen.first - token);
      const int n_keys = std::min(kTile, seen.last - token);
      transpose_keys(k + token * head_dim_, head_dim_, first, n_keys, keys_);
      const T* const values = v + token * head_dim_;
      if (direct) {
        attend_blocks<T>({keys_, values, log_mass(kv, token), head_dim_, width_, token, first, n_keys});
      } else {
        convert_values(values + first * head_dim_, head_dim_, n_keys - first, width_, values_ + first * width_);
        attend_blocks<float>({keys_, values_, log_mass(kv, token), head_dim_, width_, token, first, n_keys});
      }
    }
  }

  template <typename V>
  void attend_blocks(const Tile<V>& tile) {
    for (std::size_t block = 0; block < n_blocks(); ++block) {
      const std::size_t begin = block_begin(block);
      const std::size_t n_rows = block_begin(block + 1) - begin;
      std::array<Seen, kMaxRows> seen;
      std::array<float*, kMaxRows> outputs;
      std::array<RunningSoftmax, kMaxRows> softmax;
      for (std::size_t r = 0; r < n_rows; ++r) {
        const Vector& vector = list_[begin + r];
        seen[r] = vector.seen;
        outputs[r] = outputs_ + vector.index * width_;
        softmax[r] = {max_ + vector.index, sums_ + vector.index * kLanes};
      }
      attend_block_of<V>(static_cast<int>(n_rows))(
          tile, {queries_ + begin * head_dim_, seen.data(), outputs.data(), softmax.data(), scores_});
    }
  }

  const float* query(const Vector& vector) const { return args_.q + offset(vector.index); }

  // Of vector `index` of this pass in q and out.
  std::size_t offset(std::size_t index) const {
    const std::size_t v = first_ + index;
    return ((v / gqa_) * args_.n_heads + kv_head_ * gqa_ + v % gqa_) * head_dim_;
  }

  // queries_: per block [head_dim][rows], scaled so that 2^score is the weight.
  void pack_queries() {
    const float scale = args_.scale * std::numbers::log2e_v<float>;
    for (std::size_t block = 0; block < n_blocks(); ++block) {
      const std::size_t begin = block_begin(block);
      const std::size_t n_rows = block_begin(block + 1) - begin;
      for (std::size_t r = 0; r < n_rows; ++r) {
        const float* const q = query(list_[begin + r]);
        float* const to = queries_ + begin * head_dim_ + r;
        for (std::size_t d = 0; d < head_dim_; ++d) to[d * n_rows] = q[d] * scale;
      }
    }
  }

  void write() const {
    const F32 d;
    for (std::size_t i = 0; i < n_; ++i) {
      const float sum = hn::ReduceSum(d, hn::Load(d, sums_ + i * kLanes));
      const float factor = sum > 0.0F ? 1.0F / sum : 0.0F;  // a row that sees nothing: zeros
      float* const out = args_.out + offset(i);
      for (std::size_t j = 0; j < head_dim_; ++j) out[j] = outputs_[i * width_ + j] * factor;
    }
  }

  const AttentionArgs& args_;
  const std::size_t gqa_;  // query heads per KV head
  const std::size_t head_dim_;
  const std::size_t width_;    // head_dim rounded up to whole vectors
  std::vector<Vector>& list_;  // the vectors that see the segment at hand
  std::size_t kv_head_ = 0;
  std::size_t first_ = 0;
  std::size_t n_ = 0;
  float* outputs_;  // [n][width], not yet divided by the sums
  float* sums_;     // [n][kLanes]
  float* max_;      // [n]
  float* queries_;
  float* keys_;    // [head_dim][kTile]
  float* values_;  // [kTile][width]
  float* scores_;  // [kMaxRows][kTile]
};

void attend_share(const AttentionArgs& args, std::size_t first_unit, std::size_t last_unit, AttentionScratch& scratch) {
  const std::size_t per_kv_head = static_cast<std::size_t>(args.n_rows) * (args.n_heads / args.n_kv_heads);
  Pass pass(args, scratch, std::min<std::size_t>(kMaxVectors, std::min(last_unit - first_unit, per_kv_head)));
  for (std::size_t unit = first_unit; unit < last_unit;) {
    const std::size_t kv_head = unit / per_kv_head;
    const std::size_t n = std::min<std::size_t>(kMaxVectors, std::min(last_unit, (kv_head + 1) * per_kv_head) - unit);
    pass.run(kv_head, unit % per_kv_head, n);
    unit += n;
  }
}

}  // namespace celslm::attention_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
