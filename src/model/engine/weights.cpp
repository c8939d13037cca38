#include "model/engine/weights.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include "model/engine/panel_cache.h"
#include "model/engine/tensor_names.h"

namespace celslm {
namespace {

// Tells the system that these pages of the file will not be read again soon: with a repacked copy in memory, they would
// only make the process look, and on a small machine be, twice as large.
void release_pages(ByteView bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(bytes.data()) + bytes.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

// Weights are read from end to end for every token: large pages spare most of the address translation. Before first use.
void prefer_large_pages(void* begin, std::size_t size) {
  constexpr std::uintptr_t kLarge = std::uintptr_t{2} << 20;
  const auto first = (reinterpret_cast<std::uintptr_t>(begin) + kLarge - 1) / kLarge * kLarge;
  const auto last = (reinterpret_cast<std::uintptr_t>(begin) + size) / kLarge * kLarge;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

// The types that our own kernel takes.
std::optional<WeightType> packed_type(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_0: return WeightType::kQ40;
    case GGML_TYPE_Q4_1: return WeightType::kQ41;
    case GGML_TYPE_Q5_0: return WeightType::kQ50;
    case GGML_TYPE_Q5_1: return WeightType::kQ51;
    case GGML_TYPE_Q8_0: return WeightType::kQ80;
    case GGML_TYPE_IQ4_NL: return WeightType::kIq4Nl;
    case GGML_TYPE_MXFP4: return WeightType::kMxfp4;
    case GGML_TYPE_Q2_K: return WeightType::kQ2K;
    case GGML_TYPE_Q3_K: return WeightType::kQ3K;
    case GGML_TYPE_Q4_K: return WeightType::kQ4K;
    case GGML_TYPE_Q5_K: return WeightType::kQ5K;
    case GGML_TYPE_Q6_K: return WeightType::kQ6K;
    default: return std::nullopt;
  }
}

ggml_context_ptr make_context(std::size_t n_tensors) {
  return ggml_context_ptr(
      ggml_init({.mem_size = ggml_tensor_overhead() * (n_tensors + 1), .mem_buffer = nullptr, .no_alloc = true}));
}

// Whether the backend multiplies by this weight when it lies in a buffer of this type. The question has to be put with
// the tensor placed there: supports_op looks at the buffer.
bool multiplies_in(const CpuBackend& cpu, ggml_backend_buffer_type_t type, const ggml_tensor* weight) {
  const ggml_context_ptr scratch = make_context(5);
  const ggml_backend_buffer_ptr placed(ggml_backend_buft_alloc_buffer(type, 0));
  if (!scratch || !placed) return false;
  ggml_tensor* w = ggml_dup_tensor(scratch.get(), weight);
  constexpr std::int64_t kTokens = 512;
  w->buffer = placed.get();
  if (w->ne[2] == 1) {
    ggml_tensor* x = ggml_new_tensor_2d(scratch.get(), GGML_TYPE_F32, w->ne[0], kTokens);
    return ggml_backend_dev_supports_op(cpu.device(), ggml_mul_mat(scratch.get(), w, x));
  }
  ggml_tensor* x = ggml_new_tensor_3d(scratch.get(), GGML_TYPE_F32, w->ne[0], 1, kTokens);
  ggml_tensor* experts = ggml_new_tensor_2d(scratch.get(), GGML_TYPE_I32, 1, kTokens);
  return ggml_backend_dev_supports_op(cpu.device(), ggml_mul_mat_id(scratch.get(), w, x, experts));
}

}  // namespace

std::vector<Linear*> LayerWeights::linears() {
  std::vector<Linear*> out = {
      &recurrent.in, &recurrent.gate, &recurrent.alpha, &recurrent.beta, &q, &k, &v, &attn_output, &gate, &up, &down};
  std::erase_if(out, [](const Linear* linear) { return linear->w == nullptr; });
  return out;
}

std::vector<const Linear*> LayerWeights::linears() const {
  std::vector<const Linear*> out = {
      &recurrent.in, &recurrent.gate, &recurrent.alpha, &recurrent.beta, &q, &k, &v, &attn_output, &gate, &up, &down};
  std::erase_if(out, [](const Linear* linear) { return linear->w == nullptr; });
  return out;
}

class WeightsLoader {
 public:
  WeightsLoader(const CpuBackend& cpu, ModelConfig& config, const ModelOptions& options)
      : cpu_(cpu), config_(config), options_(options), out_(new Weights), names_(config) {}

  Result<std::unique_ptr<Weights>> run(std::vector<GgufPart> parts) {
    out_->parts_ = std::move(parts);
    CELSLM_CHECK_OK(names_.name_all(out_->parts_, *out_));
    CELSLM_CHECK_OK(refuse_unknown());
    for (const GgufPart& part : out_->parts_) CELSLM_CHECK_OK(map_file(part));
    if (options_.repack) CELSLM_CHECK_OK(plan_repacking());
    CELSLM_CHECK_OK(plan_packing());
    CELSLM_CHECK_OK(read_data());
    CELSLM_CHECK_OK(fill_panels());
    return std::move(out_);
  }

 private:
  // A tensor of the file that our own kernels multiply by, and what it is in the graphs.
  struct Packing {
    WeightType type = {};
    const ggml_tensor* tensor = nullptr;
    ByteView bytes;
    std::vector<Linear*> users;
  };

  // Calls what(tensor, its bytes) for every tensor in the files' order until one fails.
  template <typename What>
  static Status for_each_tensor(std::span<const GgufPart> parts, const What& what) {
    for (const GgufPart& part : parts) {
      for (std::int64_t id = 0; id < gguf_get_n_tensors(part.header.get()); ++id) {
        ggml_tensor* t = ggml_get_tensor(part.tensors.get(), gguf_get_tensor_name(part.header.get(), id));
        CELSLM_CHECK_OK(what(t, part.bytes_of(id)));
      }
    }
    return {};
  }

  // A tensor that no graph reads means a model that computes something else than these graphs do.
  Status refuse_unknown() const {
    return for_each_tensor(out_->parts_, [this](ggml_tensor* t, ByteView) -> Status {
      if (names_.known(t)) return {};
      return fail(ErrorKind::kMismatch, "tensor '{}' is not one that a {} model has; its part would be ignored",
                  ggml_get_name(t), to_string(config_.architecture));
    });
  }

  Status map_file(const GgufPart& part) {
    const ByteView file = part.file->bytes();
    auto* base = const_cast<std::byte*>(file.data());  // ggml takes weights as mutable; nothing writes to them
    ggml_backend_buffer_ptr mapping(ggml_backend_dev_buffer_from_host_ptr(cpu_.device(), base, file.size(), file.size()));
    if (!mapping) return fail(ErrorKind::kUnavailable, "ggml cannot use the mapped file");
    ggml_backend_buffer_set_usage(mapping.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    const Status placed = for_each_tensor(std::span(&part, 1), [&](ggml_tensor* t, ByteView bytes) -> Status {
      auto* data = const_cast<std::byte*>(bytes.data());
      if (ggml_backend_tensor_alloc(mapping.get(), t, data) != GGML_STATUS_SUCCESS) {
        return fail(ErrorKind::kUnavailable, "ggml cannot place tensor '{}'", ggml_get_name(t));
      }
      for (const TensorSlice& slice : names_.slices_of(t)) {
        if (ggml_backend_tensor_alloc(mapping.get(), slice.rows, data + slice.offset) != GGML_STATUS_SUCCESS)
          return fail(ErrorKind::kUnavailable, "ggml cannot place a part of tensor '{}'", ggml_get_name(t));
      }
      out_->size_bytes_ += ggml_nbytes(t);
      return {};
    });
    out_->mappings_.push_back(std::move(mapping));
    return placed;
  }

  // That the CPU multiplies by.
  std::vector<Linear*> matrices() {
    const auto n_elsewhere = options_.device.empty() ? 0 : static_cast<std::size_t>(std::max(1, options_.device_layers));
    if (n_elsewhere >= out_->layers.size()) return {};
    std::vector<Linear*> all = {&out_->output};
    for (LayerWeights& w : std::span(out_->layers).subspan(n_elsewhere)) {
      for (Linear* linear : w.linears()) all.push_back(linear);
    }
    return all;
  }

  // What graphs multiply by, and its bytes: a tensor of the file, or the slices that it is used in.
  struct Piece {
    ggml_tensor* tensor = nullptr;
    ByteView bytes;
  };
  std::vector<Piece> pieces_of(ggml_tensor* t, ByteView bytes) const {
    std::vector<Piece> out;
    for (const TensorSlice& slice : names_.slices_of(t))
      out.push_back({.tensor = slice.rows, .bytes = bytes.subspan(slice.offset, ggml_nbytes(slice.rows))});
    if (out.empty()) out.push_back({.tensor = t, .bytes = bytes});
    return out;
  }

  // Where graphs find the matrices that ggml multiplies by.
  std::vector<ggml_tensor**> places_for_ggml() {
    std::vector<ggml_tensor**> out;
    for (Linear* linear : matrices()) {
      if (!packed_users_.contains(linear->w)) out.push_back(&linear->w);
    }
    for (LayerWeights& w : out_->layers) {
      if (w.experts.router == nullptr) continue;
      for (ggml_tensor** matrix : {&w.experts.gate, &w.experts.up, &w.experts.down}) out.push_back(matrix);
    }
    return out;
  }

  Status plan_repacking() {
    for (Linear* linear : matrices()) {
      if (packed_type(linear->w->type)) packed_users_[linear->w].push_back(linear);
    }
    const auto all = places_for_ggml();
    out_->repacked_ = make_context(all.size());
    std::map<std::array<std::int64_t, 4>, bool> answers;  // by type and shape: a model has a handful
    for (const ggml_backend_buffer_type_t type : cpu_.extra_buffer_types()) {
      answers.clear();
      std::vector<ggml_tensor*> chosen;
      for (ggml_tensor** place : all) {
        ggml_tensor*& slot = *place;
        const std::array<std::int64_t, 4> kind = {slot->type, slot->ne[0], slot->ne[1], slot->ne[2]};
        if (copies_.contains(slot) || taken_.contains(slot)) continue;
        const auto [answer, is_new] = answers.try_emplace(kind, false);
        if (is_new) answer->second = multiplies_in(cpu_, type, slot);
        if (!answer->second) continue;
        ggml_tensor* copy = ggml_dup_tensor(out_->repacked_.get(), slot);
        ggml_set_name(copy, ggml_get_name(slot));
        copies_[slot] = copy;
        taken_.insert(copy);
        chosen.push_back(copy);
        slot = copy;
      }
      CELSLM_CHECK_OK(place(chosen, type));
    }
    return {};
  }

  // What our own kernels multiply by, in the files' order; and whether an earlier start has kept it.
  Status plan_packing() {
    std::vector<std::size_t> sizes;
    CELSLM_CHECK_OK(for_each_tensor(out_->parts_, [&](ggml_tensor* t, ByteView all) -> Status {
      for (const auto& [piece, bytes] : pieces_of(t, all)) {
        const auto users = packed_users_.find(piece);
        if (users == packed_users_.end()) continue;
        packings_.push_back({.type = *packed_type(piece->type), .tensor = piece, .bytes = bytes, .users = users->second});
        CELSLM_TRY(const std::size_t size, PackedMatrix::panel_bytes(packings_.back().type, piece->ne[0], piece->ne[1]));
        sizes.push_back(size);
      }
      return {};
    }));
    if (options_.panel_folder.empty() || packings_.empty()) return {};
    panel_file_ = panel_file(options_.panel_folder, hash_of_headers());
    cached_ = CachedPanels::open(panel_file_, sizes);
    return {};
  }

  Hash256 hash_of_headers() const {
    Hasher hasher;
    hasher.update_u64(kPanelLayout);
    for (const GgufPart& part : out_->parts_)
      hasher.update(part.file->bytes().first(gguf_get_data_offset(part.header.get())));
    return hasher.finish();
  }

  // Where panels of an earlier start are there, they wait for the weights' hash.
  Status fill_panels() {
    if (cached_ && cached_->hold(out_->hash_)) {
      for (std::size_t i = 0; i < packings_.size(); ++i) {
        const Packing& p = packings_[i];
        CELSLM_TRY(auto matrix,
                   PackedMatrix::view(p.type, cached_->panels(i), p.tensor->ne[0], p.tensor->ne[1], cached_->owner()));
        use(p, std::move(matrix));
      }
      out_->panels_are_mapped_ = true;
      return {};
    }
    if (cached_) {
      note("it was made from other weights, or is damaged");
      for (const Packing& packing : packings_) CELSLM_CHECK_OK(pack(packing));
    }
    if (!panel_file_.empty()) keep_panels();
    return {};
  }

  Status pack(const Packing& p) {
    CELSLM_TRY(auto matrix, PackedMatrix::create(p.type, p.bytes, p.tensor->ne[0], p.tensor->ne[1], n_threads_));
    use(p, std::move(matrix));
    return {};
  }

  void use(const Packing& p, std::unique_ptr<PackedMatrix> matrix) {
    for (Linear* linear : p.users) linear->packed = matrix.get();
    out_->packed_.push_back(std::move(matrix));
    release_pages(p.bytes);
  }

  // For the next start.
  void keep_panels() {
    std::vector<ByteView> panels;
    panels.reserve(out_->packed_.size());
    for (const auto& matrix : out_->packed_) panels.push_back(matrix->panels());
    try {
      out_->panel_writer_ = std::jthread([file = panel_file_, panels = std::move(panels), weights = out_->hash_,
                                          log = options_.log](const std::stop_token& stop) {
        ::setpriority(PRIO_PROCESS, 0, 10);  // this thread's: whoever asks something goes first
        const Status written = write_panels(file, weights, panels, stop);
        if (!written && written.error().kind != ErrorKind::kCancelled && log)
          log->warn("packed weights are not kept for the next start: {}", written.error().message);
      });
    } catch (const std::system_error& error) {
      note(error.what());
    }
  }

  void note(std::string_view why) const {
    if (options_.log) options_.log->warn("{} is not used: {}", panel_file_.string(), why);
  }

  Status place(std::span<ggml_tensor* const> tensors, ggml_backend_buffer_type_t type) {
    if (tensors.empty()) return {};
    const std::size_t alignment = ggml_backend_buft_get_alignment(type);
    const auto padded = [&](ggml_tensor* t) {
      return (ggml_backend_buft_get_alloc_size(type, t) + alignment - 1) / alignment * alignment;
    };
    std::size_t size = alignment;
    for (ggml_tensor* t : tensors) size += padded(t);
    ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(type, size));
    if (!buffer) return fail(ErrorKind::kOverloaded, "no memory for {} bytes of weights", size);
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    auto* at = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer.get()));
    prefer_large_pages(at, size);
    for (ggml_tensor* t : tensors) {
      if (ggml_backend_tensor_alloc(buffer.get(), t, at) != GGML_STATUS_SUCCESS) {
        return fail(ErrorKind::kUnavailable, "ggml cannot place tensor '{}'", ggml_get_name(t));
      }
      at += padded(t);
    }
    out_->buffers_.push_back(std::move(buffer));
    return {};
  }

  // One pass over the files: each tensor is hashed, put into another form if it has one, and let go.
  Status read_data() {
    auto packing = packings_.begin();
    Hasher hasher;
    hasher.update_field("celslm.weights.v1");
    std::size_t done = 0;
    const Status read = for_each_tensor(out_->parts_, [&](ggml_tensor* t, ByteView bytes) -> Status {
      hasher.update_field(ggml_get_name(t)).update_field(ggml_type_name(t->type));
      for (const std::int64_t n : t->ne) hasher.update_u64(static_cast<std::uint64_t>(n));
      hasher.update(bytes);
      for (const Piece& piece : pieces_of(t, bytes)) {
        if (const auto copy = copies_.find(piece.tensor); copy != copies_.end()) {
          ggml_backend_tensor_set(copy->second, piece.bytes.data(), 0, piece.bytes.size());
          release_pages(piece.bytes);
        }
        if (packing == packings_.end() || packing->tensor != piece.tensor) continue;
        if (cached_) {
          release_pages(piece.bytes);
        } else {
          CELSLM_CHECK_OK(pack(*packing));
        }
        ++packing;
      }
      done += bytes.size();
      if (options_.progress) options_.progress(static_cast<float>(done) / static_cast<float>(out_->size_bytes_));
      return {};
    });
    out_->hash_ = hasher.finish();
    return read;
  }

  const CpuBackend& cpu_;
  ModelConfig& config_;
  const ModelOptions& options_;
  const int n_threads_ = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::unique_ptr<Weights> out_;
  TensorNames names_;
  std::map<const ggml_tensor*, ggml_tensor*> copies_;                // from the mapped tensor to its repacked copy
  std::set<const ggml_tensor*> taken_;                               // the copies
  std::map<const ggml_tensor*, std::vector<Linear*>> packed_users_;  // tensors that our own kernel multiplies by
  std::vector<Packing> packings_;
  std::filesystem::path panel_file_;      // empty: nothing is kept
  std::unique_ptr<CachedPanels> cached_;  // null: there is none
};

// The head and the embeddings don't matter: no KV is made of products with them.
Arithmetic Weights::arithmetic() const {
  const auto is_small = [](const Linear& linear) {
    const auto type = packed_type(linear.w->type);
    return type && *type != WeightType::kQ80;
  };
  const bool any = std::ranges::any_of(layers, [&](const LayerWeights& w) {
    return std::ranges::any_of(w.linears(), [&](const Linear* linear) { return is_small(*linear); });
  });
  return any ? Arithmetic::kCpuIntegers : Arithmetic::kCpu;
}

Result<std::unique_ptr<Weights>> Weights::load(std::vector<GgufPart> parts, ModelConfig& config,
                                               const ModelOptions& options) {
  CELSLM_TRY(const CpuBackend* cpu, CpuBackend::get());
  return WeightsLoader(*cpu, config, options).run(std::move(parts));
}

}  // namespace celslm
