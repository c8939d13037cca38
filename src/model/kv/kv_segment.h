// KV of consecutive positions of one sequence, for all layers of one model.
//
// A sequence is a list of segments: at most one frozen, shared segment that holds the context, then its own growing one.
// A context may be condensed: fewer rows than tokens, each row of each KV head with a position of its own and a log mass,
// the logarithm of how many tokens it stands for, which attention adds to the row's scores.
// Rounding: K is rounded to the segment's type before its bias and RoPE and again after, V once. The bias is a constant of
// the model; "K before RoPE" is without it everywhere. A segment filled by local prefill and one filled by
// Engine::import_rows() from a pack of the same exact codec therefore hold the same bits.
// A recurrent layer has no rows but a state, f32: that behind one of the segment's rows. So a segment of a model with such
// layers can be continued, and copied, at that point only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "model/config.h"
#include "model/kv/foreign_kv.h"

namespace celslm {

// kQ8 is ggml's Q8_0: blocks of 32 values with a scale, 8.5 bits a value; for head sizes that are multiples of 32. K is
// rounded to it after RoPE only (to f16 before).
enum class KvType : std::uint8_t { kF32, kF16, kBf16, kQ8 };
const char* to_string(KvType type);
Result<KvType> kv_type_from(std::string_view name);  // "f32", "f16", "bf16", "q8"
std::size_t row_bytes(KvType type, int head_dim);    // K or V of one token and one KV head

// Where one layer of a segment lies in memory. K is after RoPE.
struct KvView {
  KvType type = KvType::kF16;
  const void* k = nullptr;          // [n_kv_heads][capacity] rows of head_dim values, row_bytes() each
  const void* v = nullptr;          // the same layout
  int capacity = 0;                 // tokens; the stride of a head is so many rows
  int length = 0;                   // tokens valid
  int first_position = 0;           // position of token 0 in its sequence
  const float* log_mass = nullptr;  // [n_kv_heads][capacity], added to scaled scores; null: nothing is added
};

// Threads: one writer at a time; any number of readers of layers that are ready or of rows below length(). Memory is host
// memory, 64-byte aligned, zero until written, returned to the system on destruction.
class KvSegment {
 public:
  // Fails with kOverloaded when the memory cannot be had, kInvalid when the sizes are not positive.
  static Result<std::shared_ptr<KvSegment>> create(const ModelConfig& config, KvType type, int first_position, int capacity);
  // A context of n_rows rows that stand for n_tokens >= n_rows tokens, from position 0 on. Its length is n_rows from the
  // start, and its log masses are 0 until written. Errors as create().
  static Result<std::shared_ptr<KvSegment>> create_condensed(const ModelConfig& config, KvType type, int n_rows,
                                                             int n_tokens);
  ~KvSegment();
  KvSegment(const KvSegment&) = delete;
  KvSegment& operator=(const KvSegment&) = delete;

  KvType type() const { return type_; }
  int first_position() const { return first_position_; }
  int capacity() const { return capacity_; }
  int n_layers() const { return n_layers_; }
  int n_kv_heads() const { return n_kv_heads_; }
  int head_dim() const { return head_dim_; }
  bool condensed() const { return !log_masses_.empty(); }
  // Where the sequence goes on: behind its rows or, of a condensed segment, behind the tokens that they stand for.
  int next_position() const { return first_position_ + (condensed() ? n_tokens_ : length()); }
  std::size_t size_bytes() const;
  // An upper bound of the memory that a segment of this model holds with so many tokens in it: pages count once written.
  static std::size_t resident_bytes(const ModelConfig& config, KvType type, int tokens);

  // Makes the first n_tokens rows of every layer those of `other`, and the length n_tokens. `other` is of the same model,
  // type and first position, and holds them; neither is condensed. Where that cannot be had (copyable(), foreign KV),
  // length() is 0 then.
  void copy_from(const KvSegment& other, int n_tokens);
  // How many of the first n_tokens copy_from() can take from here: all or, where a state is behind another row, none.
  int copyable(int n_tokens) const;

  // KV of a model that another library computes: it keeps the rows, and the segment's own memory is never written. Null for
  // our own models, and before the first row. Set by the writer.
  void set_foreign(std::shared_ptr<ForeignKv> kv) { foreign_ = std::move(kv); }
  const std::shared_ptr<ForeignKv>& foreign() const { return foreign_; }

  // Tokens that every layer holds. The engine advances it when a batch has passed all layers; truncate() takes back
  // (rejected or re-used suffixes).
  int length() const { return length_.load(std::memory_order_acquire); }
  void set_length(int tokens);  // 0 <= tokens <= capacity; not of a condensed segment

  bool has_states() const { return !states_.empty(); }
  bool has_rows(int layer) const { return place(layer).rows >= 0; }
  // Null pointers for a layer that has no rows.
  KvView view(int layer) const;
  // The state of a recurrent layer, which is that behind the first state_rows() rows; empty for a layer that has rows. Zero
  // at first.
  std::span<const float> state(int layer) const;
  std::span<float> state(int layer);
  int state_rows(int layer) const { return place(layer).state_rows; }  // -1 while the state is written
  void set_state_rows(int layer, int n_rows) { places_[static_cast<std::size_t>(layer)].state_rows = n_rows; }
  // Makes a layer, rows or state, that of `other`, a segment of the same model, type and capacity.
  void copy_layer(const KvSegment& other, int layer);
  // Writers' view of a layer; the engine's store operator and import use it.
  void* k_data(int layer);
  void* v_data(int layer);
  float* log_mass(int layer);  // [n_kv_heads][capacity]; null unless condensed
  // Who has written rows of a layer says so, afterwards: copies elsewhere (on a GPU) compare the count to know that they are
  // out of date.
  void note_write(int layer) { writes_[static_cast<std::size_t>(layer)].fetch_add(1, std::memory_order_release); }
  std::uint32_t writes(int layer) const { return writes_[static_cast<std::size_t>(layer)].load(std::memory_order_acquire); }
  // Gives a layer of a condensed segment the rows of an ordinary one, which holds all its tokens and is of the same type:
  // from now on view() shows those, without log masses. Once for a layer, before anybody reads it. kOverloaded when the
  // memory cannot be had.
  Status replace_layer(int layer, const KvSegment& ordinary);

 private:
  struct Memory;
  // Where a layer is.
  struct Place {
    int rows = -1;                 // among the layers with rows; -1: it has none
    std::size_t state = 0;         // its first value in states_
    std::size_t state_values = 0;  // 0: it has no state
    int state_rows = 0;
  };
  const Place& place(int layer) const { return places_[static_cast<std::size_t>(layer)]; }
  const std::byte* rows_of(int layer) const;
  static Result<std::unique_ptr<Memory>> allocate(std::size_t half_bytes, int n_layers);
  KvSegment(const ModelConfig& config, KvType type, int first_position, int capacity, std::unique_ptr<Memory> memory);
  std::size_t log_mass_offset(int layer) const;

  const KvType type_;
  const int first_position_;
  const int capacity_;
  const int n_layers_;
  const int n_kv_heads_;
  const int head_dim_;
  std::vector<Place> places_;  // [n_layers]
  std::unique_ptr<Memory> memory_;
  std::vector<float> states_;                      // one after the other
  std::shared_ptr<ForeignKv> foreign_;             // null: rows are in memory_
  int n_tokens_ = 0;                               // that a condensed segment stands for
  std::vector<float> log_masses_;                  // [n_layers][n_kv_heads][capacity]; empty unless condensed
  std::vector<std::unique_ptr<Memory>> replaced_;  // [n_layers] of a condensed segment; null: in memory_
  std::atomic<std::size_t> replaced_bytes_{0};
  std::vector<std::atomic<std::uint32_t>> writes_;  // [n_layers]
  std::atomic<int> length_{0};
};

}  // namespace celslm
