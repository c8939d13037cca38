#include "model/gguf/gguf_check.h"

#include <fmt/format.h>
#include <ggml.h>
#include <gguf.h>

#include <array>
#include <bit>
#include <limits>
#include <string>
#include <unordered_set>

namespace celslm {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
// gguf.h compares each name with all before it: these keep that under a second. The largest models have a few thousand.
constexpr std::uint64_t kMaxKeys = 8192;
constexpr std::uint64_t kMaxTensors = 16384;
constexpr std::uint64_t kMaxNameBytes = 1024;
// Vocabularies have some 10^5 entries; gguf.h holds 32 bytes for each string of an array that takes 8 in the file.
constexpr std::uint64_t kMaxArray = std::uint64_t{1} << 24;
constexpr std::uint64_t kMaxStringBytes = std::uint64_t{16} << 20;
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 40;  // of one tensor
constexpr std::uint32_t kLeastAlignment = 8;                    // the format's own
constexpr std::uint32_t kMostAlignment = 1U << 20;

// Bytes of a value, 0 for those without a fixed size.
std::size_t value_size(std::uint32_t type) {
  constexpr std::array<std::size_t, GGUF_TYPE_COUNT> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kSizes.size() ? kSizes[type] : 0;
}

class Walk {
 public:
  explicit Walk(ByteView file) : in_(file), file_size_(file.size()) {}

  Status run() {
    CELSLM_CHECK_OK(head());
    for (std::uint64_t i = 0; i < n_keys_; ++i) CELSLM_CHECK_OK(key(i));
    for (std::uint64_t i = 0; i < n_tensors_; ++i) CELSLM_CHECK_OK(tensor(i));
    if (n_tensors_ == 0) return {};  // a part of a model may hold its metadata alone
    const std::uint64_t begin = padded(in_.position());
    if (begin + data_end_ > file_size_) {
      return fail(ErrorKind::kInvalid, "the file is cut short: {} bytes, its tensors need {}", file_size_,
                  begin + data_end_);
    }
    return {};
  }

 private:
  std::uint64_t padded(std::uint64_t n) const { return (n + alignment_ - 1) / alignment_ * alignment_; }

  std::unexpected<Error> cut(std::string_view where) const {
    return fail(ErrorKind::kInvalid, "the file is cut short or damaged in {}", where);
  }

  Status head() {
    if (in_.u32() != kMagic) return fail(ErrorKind::kInvalid, "not a GGUF file");
    const std::uint32_t version = in_.u32();
    n_tensors_ = in_.u64();
    n_keys_ = in_.u64();
    if (!in_.ok()) return cut("its first 24 bytes");
    if (version != 2 && version != 3)
      return fail(ErrorKind::kInvalid, "GGUF version {}; versions 2 and 3 are supported", version);
    if (n_tensors_ > kMaxTensors) {
      return fail(ErrorKind::kInvalid, "{} tensors; at most {} are accepted", n_tensors_, kMaxTensors);
    }
    if (n_keys_ > kMaxKeys) return fail(ErrorKind::kInvalid, "{} metadata keys; at most {} are accepted", n_keys_, kMaxKeys);
    return {};
  }

  // GGUF strings have 64-bit lengths.
  Result<std::string_view> text(std::uint64_t limit, std::string_view where) {
    const std::uint64_t n = in_.u64();
    if (!in_.ok() || n > in_.remaining()) return cut(where);
    if (n > limit) return fail(ErrorKind::kInvalid, "a string of {} bytes in {}; at most {} are accepted", n, where, limit);
    return as_text(in_.bytes(n));
  }

  Status key(std::uint64_t i) {
    CELSLM_TRY(const auto name, text(kMaxNameBytes, fmt::format("metadata key {}", i)));
    if (name.empty()) return fail(ErrorKind::kInvalid, "metadata key {} has no name", i);
    const std::string where = fmt::format("metadata key '{}'", name);
    if (!keys_.emplace(name).second) return fail(ErrorKind::kInvalid, "{} appears twice", where);
    const std::uint32_t type = in_.u32();
    if (!in_.ok()) return cut(where);
    if (name == GGUF_KEY_GENERAL_ALIGNMENT) return alignment(type);
    return type == GGUF_TYPE_ARRAY ? array(where) : scalar(type, where);
  }

  Status alignment(std::uint32_t type) {
    const std::uint32_t value = in_.u32();
    if (!in_.ok()) return cut(GGUF_KEY_GENERAL_ALIGNMENT);
    if (type != GGUF_TYPE_UINT32 || !std::has_single_bit(value) || value < kLeastAlignment || value > kMostAlignment) {
      return fail(ErrorKind::kInvalid, "{} is {}; expected a power of two from {} to {}", GGUF_KEY_GENERAL_ALIGNMENT, value,
                  kLeastAlignment, kMostAlignment);
    }
    alignment_ = value;
    return {};
  }

  Status scalar(std::uint32_t type, const std::string& where) {
    if (type == GGUF_TYPE_STRING) {
      auto value = text(kMaxStringBytes, where);
      return value ? Status{} : std::unexpected(value.error());
    }
    const std::size_t size = value_size(type);
    if (size == 0) return fail(ErrorKind::kInvalid, "{} has the unknown type {}", where, type);
    if (in_.bytes(size).empty()) return cut(where);
    return {};
  }

  Status array(const std::string& where) {
    const std::uint32_t type = in_.u32();
    const std::uint64_t n = in_.u64();
    if (!in_.ok()) return cut(where);
    if (n > kMaxArray) return fail(ErrorKind::kInvalid, "{} has {} entries; at most {} are accepted", where, n, kMaxArray);
    if (type == GGUF_TYPE_STRING) {
      for (std::uint64_t i = 0; i < n; ++i) CELSLM_CHECK_OK(scalar(type, where));
      return {};
    }
    const std::size_t size = value_size(type);
    if (size == 0) return fail(ErrorKind::kInvalid, "{} is an array of the unsupported type {}", where, type);
    if (in_.bytes(n * size).empty() && n > 0) return cut(where);
    return {};
  }

  Status tensor(std::uint64_t i) {
    CELSLM_TRY(const auto name, text(GGML_MAX_NAME - 1, fmt::format("the name of tensor {}", i)));
    const std::string where = fmt::format("tensor '{}'", name);
    if (!tensors_.emplace(name).second) return fail(ErrorKind::kInvalid, "{} appears twice", where);
    CELSLM_TRY(const std::uint64_t elements, shape(where));
    const std::uint32_t type = in_.u32();
    const std::uint64_t offset = in_.u64();
    if (!in_.ok()) return cut(where);
    if (type >= GGML_TYPE_COUNT || ggml_blck_size(static_cast<ggml_type>(type)) <= 0) {
      return fail(ErrorKind::kInvalid, "{} has the unknown type {}", where, type);
    }
    const auto block = static_cast<std::uint64_t>(ggml_blck_size(static_cast<ggml_type>(type)));
    if (row_ % block != 0)
      return fail(ErrorKind::kInvalid, "{} has rows of {} values; expected a multiple of {}", where, row_, block);
    if (offset != data_size_) return fail(ErrorKind::kInvalid, "{} begins at {}, expected {}", where, offset, data_size_);
    data_end_ = data_size_ + elements / block * ggml_type_size(static_cast<ggml_type>(type));
    data_size_ = padded(data_end_);
    if (data_end_ > file_size_) {
      return fail(ErrorKind::kInvalid, "the file is cut short: it has {} bytes, {} ends beyond", file_size_, where);
    }
    return {};
  }

  Result<std::uint64_t> shape(const std::string& where) {
    const std::uint32_t n_dims = in_.u32();
    if (!in_.ok()) return cut(where);
    if (n_dims < 1 || n_dims > GGML_MAX_DIMS) return fail(ErrorKind::kInvalid, "{} has {} dimensions", where, n_dims);
    std::uint64_t elements = 1;
    for (std::uint32_t d = 0; d < n_dims; ++d) {
      const std::uint64_t n = in_.u64();
      if (!in_.ok()) return cut(where);
      if (n == 0 || n > kMaxElements / elements)
        return fail(ErrorKind::kInvalid, "{} has an absurd dimension of {}", where, n);
      elements *= n;
      if (d == 0) row_ = n;
    }
    return elements;
  }

  ByteReader in_;
  std::uint64_t file_size_;
  std::uint64_t n_tensors_ = 0;
  std::uint64_t n_keys_ = 0;
  std::uint64_t alignment_ = GGUF_DEFAULT_ALIGNMENT;
  std::uint64_t data_end_ = 0;   // of the tensors so far, from the beginning of the data
  std::uint64_t data_size_ = 0;  // the same, padded: where the next tensor begins
  std::uint64_t row_ = 0;        // elements in a row of the tensor being read
  std::unordered_set<std::string_view> keys_;
  std::unordered_set<std::string_view> tensors_;
};

}  // namespace

Status check_gguf(ByteView file) {
  return Walk(file).run();
}

}  // namespace celslm
