#include "model/kv/kv_segment.h"

#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "core/pages.h"
#include "model/numeric/q8_0.h"

namespace celslm {
namespace {

// A segment over this size is a mistake or an attack, not a context: 1 TiB.
constexpr std::size_t kMaxSegmentBytes = std::size_t{1} << 40;

std::size_t round_up(std::size_t n, std::size_t to) {
  return (n + to - 1) / to * to;
}

}  // namespace

const char* to_string(KvType type) {
  switch (type) {
    case KvType::kF32: return "f32";
    case KvType::kF16: return "f16";
    case KvType::kBf16: return "bf16";
    case KvType::kQ8: return "q8";
  }
  return "unknown";
}

Result<KvType> kv_type_from(std::string_view name) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kBf16, KvType::kQ8}) {
    if (name == to_string(type)) return type;
  }
  return fail(ErrorKind::kInvalid, "no KV type '{}': use f32, f16, bf16 or q8", name);
}

std::size_t row_bytes(KvType type, int head_dim) {
  const auto n = static_cast<std::size_t>(head_dim);
  switch (type) {
    case KvType::kF32: return 4 * n;
    case KvType::kF16:
    case KvType::kBf16: return 2 * n;
    case KvType::kQ8: return n / kQ8Values * kQ8Bytes;
  }
  return 0;
}

// Anonymous pages: zero, aligned, resident only where written, and returned to the system at once. K and V of a layer lie
// one after the other, each padded to full cache lines.
struct KvSegment::Memory {
  std::byte* data = nullptr;
  std::size_t size = 0;
  std::size_t half_stride = 0;  // bytes from a layer's K to its V

  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (data != nullptr) ::munmap(data, size);
  }
};

Result<std::shared_ptr<KvSegment>> KvSegment::create(const ModelConfig& config, KvType type, int first_position,
                                                     int capacity) {
  if (first_position < 0 || capacity <= 0 || config.n_layers <= 0 || config.kv_width() <= 0) {
    return fail(ErrorKind::kInvalid, "a KV segment of {} tokens from position {}, {} layers, {} values per token", capacity,
                first_position, config.n_layers, config.kv_width());
  }
  if (type == KvType::kQ8 && config.head_dim % static_cast<int>(kQ8Values) != 0)
    return fail(ErrorKind::kInvalid, "KV of type q8 needs heads of a multiple of 32 values, these have {}", config.head_dim);
  const std::size_t token_bytes = static_cast<std::size_t>(config.n_kv_heads) * row_bytes(type, config.head_dim);
  const std::size_t half = round_up(token_bytes * static_cast<std::size_t>(capacity), 64);
  const int n_row_layers = config.n_row_layers();
  const std::size_t size = half * 2 * static_cast<std::size_t>(n_row_layers);
  if (half > kMaxSegmentBytes || size > kMaxSegmentBytes) {
    return fail(ErrorKind::kInvalid, "a KV segment of {} tokens would take {} bytes, over the limit of {}", capacity, size,
                kMaxSegmentBytes);
  }
  CELSLM_TRY(auto memory, allocate(half, n_row_layers));
  return std::shared_ptr<KvSegment>(new KvSegment(config, type, first_position, capacity, std::move(memory)));
}

Result<std::unique_ptr<KvSegment::Memory>> KvSegment::allocate(std::size_t half_bytes, int n_layers) {
  auto memory = std::make_unique<Memory>();
  const std::size_t size = half_bytes * 2 * static_cast<std::size_t>(n_layers);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return fail(ErrorKind::kOverloaded, "no memory for a KV segment of {} bytes", size);
  memory->data = static_cast<std::byte*>(data);
  memory->size = size;
  memory->half_stride = half_bytes;
  return memory;
}

KvSegment::KvSegment(const ModelConfig& config, KvType type, int first_position, int capacity,
                     std::unique_ptr<Memory> memory)
    : type_(type),
      first_position_(first_position),
      capacity_(capacity),
      n_layers_(config.n_layers),
      n_kv_heads_(config.n_kv_heads),
      head_dim_(config.head_dim),
      places_(static_cast<std::size_t>(config.n_layers)),
      memory_(std::move(memory)),
      writes_(static_cast<std::size_t>(config.n_layers)) {
  int n_rows = 0;
  std::size_t n_values = 0;
  for (int layer = 0; layer < n_layers_; ++layer) {
    Place& place = places_[static_cast<std::size_t>(layer)];
    place.state_values = static_cast<std::size_t>(config.state_values(layer));
    place.state = n_values;
    n_values += place.state_values;
    if (place.state_values == 0) place.rows = n_rows++;
  }
  states_.resize(n_values);
}

KvSegment::~KvSegment() = default;

Result<std::shared_ptr<KvSegment>> KvSegment::create_condensed(const ModelConfig& config, KvType type, int n_rows,
                                                               int n_tokens) {
  if (n_rows > n_tokens)
    return fail(ErrorKind::kInvalid, "a KV segment of {} rows that would stand for {} tokens only", n_rows, n_tokens);
  CELSLM_TRY(auto segment, create(config, type, 0, n_rows));
  const auto rows = static_cast<std::size_t>(config.n_layers) * static_cast<std::size_t>(config.n_kv_heads) *
                    static_cast<std::size_t>(n_rows);
  segment->n_tokens_ = n_tokens;
  segment->log_masses_.resize(rows);
  segment->replaced_.resize(static_cast<std::size_t>(config.n_layers));
  segment->length_ = n_rows;
  return segment;
}

std::size_t KvSegment::size_bytes() const {
  return memory_->size + (log_masses_.size() + states_.size()) * sizeof(float) + replaced_bytes_;
}

std::size_t KvSegment::resident_bytes(const ModelConfig& config, KvType type, int tokens) {
  const std::size_t page = page_bytes();
  const std::size_t head_bytes = static_cast<std::size_t>(tokens) * row_bytes(type, config.head_dim);
  // A head's rows may begin in the middle of a page: one more.
  return (round_up(head_bytes, page) + page) * 2 * static_cast<std::size_t>(config.n_kv_heads) *
             static_cast<std::size_t>(config.n_row_layers()) +
         config.state_bytes();
}

int KvSegment::copyable(int n_tokens) const {
  const bool elsewhere = std::ranges::any_of(
      places_, [n_tokens](const Place& place) { return place.state_values > 0 && place.state_rows != n_tokens; });
  return elsewhere ? 0 : n_tokens;
}

void KvSegment::copy_layer(const KvSegment& other, int layer) {
  assert(other.type_ == type_ && other.capacity_ == capacity_ && other.n_layers_ == n_layers_);
  if (has_rows(layer)) {
    const std::size_t n_bytes =
        static_cast<std::size_t>(n_kv_heads_) * static_cast<std::size_t>(capacity_) * row_bytes(type_, head_dim_);
    std::memcpy(k_data(layer), other.view(layer).k, n_bytes);
    std::memcpy(v_data(layer), other.view(layer).v, n_bytes);
  } else {
    std::ranges::copy(other.state(layer), state(layer).begin());
    set_state_rows(layer, other.state_rows(layer));
  }
  note_write(layer);
}

void KvSegment::copy_from(const KvSegment& other, int n_tokens) {
  assert(other.type_ == type_ && other.first_position_ == first_position_ && other.n_layers_ == n_layers_);
  assert(n_tokens <= capacity_ && n_tokens <= other.capacity_ && !condensed() && !other.condensed());
  if (other.foreign_) {
    foreign_ = other.foreign_->first(first_position_ + n_tokens);
    return set_length(foreign_ ? n_tokens : 0);
  }
  if (other.copyable(n_tokens) < n_tokens) return set_length(0);
  const std::size_t row = row_bytes(type_, head_dim_);
  const std::size_t n_bytes = row * static_cast<std::size_t>(n_tokens);
  for (int layer = 0; layer < n_layers_; ++layer) {
    if (!has_rows(layer)) {
      std::ranges::copy(other.state(layer), state(layer).begin());
      set_state_rows(layer, n_tokens);
      continue;
    }
    const KvView from = other.view(layer);
    for (std::size_t head = 0; head < static_cast<std::size_t>(n_kv_heads_); ++head) {
      const std::size_t to_offset = head * static_cast<std::size_t>(capacity_) * row;
      const std::size_t from_offset = head * static_cast<std::size_t>(other.capacity_) * row;
      std::memcpy(static_cast<std::byte*>(k_data(layer)) + to_offset, static_cast<const std::byte*>(from.k) + from_offset,
                  n_bytes);
      std::memcpy(static_cast<std::byte*>(v_data(layer)) + to_offset, static_cast<const std::byte*>(from.v) + from_offset,
                  n_bytes);
    }
    note_write(layer);
  }
  set_length(n_tokens);
}

void KvSegment::set_length(int tokens) {
  assert(tokens >= 0 && tokens <= capacity_ && !condensed());
  length_.store(tokens, std::memory_order_release);
}

Status KvSegment::replace_layer(int layer, const KvSegment& ordinary) {
  assert(condensed() && !ordinary.condensed() && ordinary.type_ == type_ && ordinary.capacity_ == n_tokens_);
  const std::size_t rows = static_cast<std::size_t>(n_kv_heads_) * static_cast<std::size_t>(n_tokens_);
  const std::size_t half = round_up(rows * row_bytes(type_, head_dim_), 64);
  CELSLM_TRY(auto memory, allocate(half, 1));
  std::memcpy(memory->data, ordinary.view(layer).k, half);
  std::memcpy(memory->data + half, ordinary.view(layer).v, half);
  replaced_bytes_ += memory->size;
  replaced_[static_cast<std::size_t>(layer)] = std::move(memory);
  note_write(layer);
  return {};
}

KvView KvSegment::view(int layer) const {
  if (const Memory* replaced = condensed() ? replaced_[static_cast<std::size_t>(layer)].get() : nullptr) {
    return {.type = type_,
            .k = replaced->data,
            .v = replaced->data + replaced->half_stride,
            .capacity = n_tokens_,
            .length = n_tokens_,
            .first_position = first_position_};
  }
  const std::byte* k = rows_of(layer);
  return {.type = type_,
          .k = k,
          .v = k == nullptr ? nullptr : k + memory_->half_stride,
          .capacity = capacity_,
          .length = length(),
          .first_position = first_position_,
          .log_mass = condensed() ? log_masses_.data() + log_mass_offset(layer) : nullptr};
}

std::size_t KvSegment::log_mass_offset(int layer) const {
  return static_cast<std::size_t>(layer) * static_cast<std::size_t>(n_kv_heads_) * static_cast<std::size_t>(capacity_);
}

float* KvSegment::log_mass(int layer) {
  return condensed() ? log_masses_.data() + log_mass_offset(layer) : nullptr;
}

const std::byte* KvSegment::rows_of(int layer) const {
  if (!has_rows(layer)) return nullptr;
  return memory_->data + memory_->half_stride * 2 * static_cast<std::size_t>(place(layer).rows);
}

void* KvSegment::k_data(int layer) {
  return const_cast<std::byte*>(rows_of(layer));
}

void* KvSegment::v_data(int layer) {
  return has_rows(layer) ? static_cast<std::byte*>(k_data(layer)) + memory_->half_stride : nullptr;
}

std::span<const float> KvSegment::state(int layer) const {
  return std::span(states_).subspan(place(layer).state, place(layer).state_values);
}

std::span<float> KvSegment::state(int layer) {
  return std::span(states_).subspan(place(layer).state, place(layer).state_values);
}

}  // namespace celslm
