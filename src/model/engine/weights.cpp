#include "model/engine/weights.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include "model/engine/panel_cache.h"

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

std::string shape_text(std::span<const std::int64_t> ne) {
  std::string out;
  for (const std::int64_t n : ne) out += fmt::format("{}{}", out.empty() ? "" : " x ", n);
  return out;
}

// Whether ggml can multiply by weights of this type: those with a vector product, which leaves out types that exist only
// inside products (Q8_1, Q8_K) and integers.
bool is_weight_type(ggml_type type) {
  if (type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) return true;
  return ggml_is_quantized(type) && ggml_get_type_traits(type)->to_float != nullptr && type != GGML_TYPE_Q8_1 &&
         type != GGML_TYPE_Q8_K;
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
  const ggml_context_ptr scratch = make_context(4);
  const ggml_backend_buffer_ptr placed(ggml_backend_buft_alloc_buffer(type, 0));
  if (!scratch || !placed) return false;
  ggml_tensor* w = ggml_dup_tensor(scratch.get(), weight);
  ggml_tensor* x = ggml_new_tensor_2d(scratch.get(), GGML_TYPE_F32, w->ne[0], 512);
  w->buffer = placed.get();
  return ggml_backend_dev_supports_op(cpu.device(), ggml_mul_mat(scratch.get(), w, x));
}

}  // namespace

class WeightsLoader {
 public:
  WeightsLoader(const CpuBackend& cpu, ModelConfig& config, const ModelOptions& options)
      : cpu_(cpu), config_(config), options_(options), out_(new Weights) {}

  Result<std::unique_ptr<Weights>> run(std::vector<GgufPart> parts) {
    out_->parts_ = std::move(parts);
    CELSLM_CHECK_OK(name_all());
    CELSLM_CHECK_OK(refuse_unknown());
    for (const GgufPart& part : out_->parts_) CELSLM_CHECK_OK(map_file(part));
    if (options_.repack) CELSLM_CHECK_OK(plan_repacking());
    CELSLM_CHECK_OK(plan_packing());
    CELSLM_CHECK_OK(read_data());
    CELSLM_CHECK_OK(fill_panels());
    return std::move(out_);
  }

 private:
  using Shape = std::initializer_list<std::int64_t>;

  // A tensor of the file that our own kernels multiply by, and what it is in the graphs.
  struct Packing {
    WeightType type = {};
    const ggml_tensor* tensor = nullptr;
    ByteView bytes;
    std::vector<Linear*> users;
  };

  Result<ggml_tensor*> find(const std::string& name, Shape shape, bool required) {
    ggml_tensor* t = find_tensor(out_->parts_, name.c_str());
    if (t == nullptr && !required) return nullptr;
    if (t == nullptr) return fail(ErrorKind::kInvalid, "no tensor '{}'", name);
    std::array<std::int64_t, GGML_MAX_DIMS> want = {1, 1, 1, 1};
    std::copy(shape.begin(), shape.end(), want.begin());
    if (!std::equal(want.begin(), want.end(), t->ne)) {
      return fail(ErrorKind::kInvalid, "tensor '{}' is {}, expected {}", name, shape_text(std::span(t->ne, ggml_n_dims(t))),
                  shape_text(shape));
    }
    used_.insert(t);
    return t;
  }

  // Norms, biases and factors are F32 in every GGUF that converters write, and ggml's element-wise operators want them so.
  Result<ggml_tensor*> vector(const std::string& name, std::int64_t n, bool required) {
    CELSLM_TRY(ggml_tensor* const t, find(name, {n}, required));
    if (t != nullptr && t->type != GGML_TYPE_F32) {
      return fail(ErrorKind::kInvalid, "tensor '{}' is of type {}; vectors must be f32", name, ggml_type_name(t->type));
    }
    return t;
  }

  Result<ggml_tensor*> matrix(const std::string& name, std::int64_t n_in, std::int64_t n_out, bool required = true) {
    CELSLM_TRY(ggml_tensor* const t, find(name, {n_in, n_out}, required));
    if (t != nullptr && !is_weight_type(t->type)) {
      return fail(ErrorKind::kInvalid, "tensor '{}' is of type {}, which ggml cannot multiply", name,
                  ggml_type_name(t->type));
    }
    return t;
  }

  Result<Linear> linear(const std::string& name, std::int64_t n_in, std::int64_t n_out) {
    Linear out;
    CELSLM_TRY(out.w, matrix(name + ".weight", n_in, n_out));
    CELSLM_TRY(out.b, vector(name + ".bias", n_out, false));
    return out;
  }

  Status name_all() {
    const std::int64_t d = config_.n_embd;
    CELSLM_TRY(out_->token_embd, matrix("token_embd.weight", d, config_.n_vocab));
    CELSLM_TRY(out_->output_norm, vector("output_norm.weight", d, true));
    CELSLM_TRY(out_->output.w, matrix("output.weight", d, config_.n_vocab, false));
    CELSLM_TRY(out_->output.b, vector("output.bias", config_.n_vocab, false));
    config_.tied_output = out_->output.w == nullptr;
    if (config_.tied_output) out_->output.w = out_->token_embd;
    if (config_.traits().frequency_factors) {
      CELSLM_TRY(out_->rope_factors, vector("rope_freqs.weight", config_.rope.dimensions / 2, false));
    }
    config_.rope.has_frequency_factors = out_->rope_factors != nullptr;
    for (int i = 0; i < config_.n_layers; ++i) CELSLM_CHECK_OK(name_layer(fmt::format("blk.{}.", i)));
    config_.qkv_bias = out_->layers.front().q.b != nullptr;
    config_.key_bias = std::ranges::any_of(out_->layers, [](const LayerWeights& w) { return w.k_bias != nullptr; });
    config_.qk_norm = out_->layers.front().q_norm != nullptr;
    return {};
  }

  Status name_layer(const std::string& p) {
    const std::int64_t d = config_.n_embd;
    const std::int64_t q_width = std::int64_t{config_.n_heads} * config_.head_dim;
    const bool qk_norm = config_.traits().head_norm == HeadNorm::kBeforeRope;
    LayerWeights w;
    CELSLM_TRY(w.attn_norm, vector(p + "attn_norm.weight", d, true));
    CELSLM_TRY(w.q, linear(p + "attn_q", d, q_width));
    CELSLM_TRY(w.k, linear(p + "attn_k", d, config_.kv_width()));
    CELSLM_TRY(w.v, linear(p + "attn_v", d, config_.kv_width()));
    if (qk_norm) {
      CELSLM_TRY(w.q_norm, vector(p + "attn_q_norm.weight", config_.head_dim, true));
      CELSLM_TRY(w.k_norm, vector(p + "attn_k_norm.weight", config_.head_dim, true));
    } else {
      w.k_bias = std::exchange(w.k.b, nullptr);  // behind a norm it would not be a constant of K
    }
    CELSLM_TRY(w.attn_output, linear(p + "attn_output", q_width, d));
    CELSLM_TRY(w.ffn_norm, vector(p + "ffn_norm.weight", d, true));
    CELSLM_TRY(w.gate, linear(p + "ffn_gate", d, config_.n_ff));
    CELSLM_TRY(w.up, linear(p + "ffn_up", d, config_.n_ff));
    CELSLM_TRY(w.down, linear(p + "ffn_down", config_.n_ff, d));
    out_->layers.push_back(w);
    return {};
  }

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
      if (used_.contains(t)) return {};
      return fail(ErrorKind::kInvalid, "tensor '{}' is not one that a {} model has; its part would be ignored",
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
      out_->size_bytes_ += ggml_nbytes(t);
      return {};
    });
    out_->mappings_.push_back(std::move(mapping));
    return placed;
  }

  std::vector<Linear*> matrices() {
    std::vector<Linear*> all = {&out_->output};
    for (LayerWeights& w : out_->layers) {
      for (Linear* linear : {&w.q, &w.k, &w.v, &w.attn_output, &w.gate, &w.up, &w.down}) all.push_back(linear);
    }
    return all;
  }

  Status plan_repacking() {
    const auto all = matrices();
    for (Linear* linear : all) {
      if (packed_type(linear->w->type)) packed_users_[linear->w].push_back(linear);
    }
    out_->repacked_ = make_context(all.size());
    std::map<std::array<std::int64_t, 3>, bool> answers;  // by type and shape: a model has a handful
    for (const ggml_backend_buffer_type_t type : cpu_.extra_buffer_types()) {
      answers.clear();
      std::vector<ggml_tensor*> chosen;
      for (Linear* linear : all) {
        ggml_tensor*& slot = linear->w;
        const std::array<std::int64_t, 3> kind = {slot->type, slot->ne[0], slot->ne[1]};
        if (packed_users_.contains(slot) || copies_.contains(slot) || taken_.contains(slot)) continue;
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
    CELSLM_CHECK_OK(for_each_tensor(out_->parts_, [&](ggml_tensor* t, ByteView bytes) -> Status {
      const auto users = packed_users_.find(t);
      if (users == packed_users_.end()) return {};
      packings_.push_back({.type = *packed_type(t->type), .tensor = t, .bytes = bytes, .users = users->second});
      CELSLM_TRY(const std::size_t size, PackedMatrix::panel_bytes(packings_.back().type, t->ne[0], t->ne[1]));
      sizes.push_back(size);
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
      if (const auto copy = copies_.find(t); copy != copies_.end()) {
        ggml_backend_tensor_set(copy->second, bytes.data(), 0, bytes.size());
        release_pages(bytes);
      }
      if (packing != packings_.end() && packing->tensor == t) {
        if (cached_) {
          release_pages(bytes);
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
  std::set<const ggml_tensor*> used_;
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
    return std::ranges::any_of(std::array{&w.q, &w.k, &w.v, &w.attn_output, &w.gate, &w.up, &w.down},
                               [&](const Linear* linear) { return is_small(*linear); });
  });
  return any ? Arithmetic::kCpuIntegers : Arithmetic::kCpu;
}

Result<std::unique_ptr<Weights>> Weights::load(std::vector<GgufPart> parts, ModelConfig& config,
                                               const ModelOptions& options) {
  CELSLM_TRY(const CpuBackend* cpu, CpuBackend::get());
  return WeightsLoader(*cpu, config, options).run(std::move(parts));
}

}  // namespace celslm
