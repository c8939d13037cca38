#include "model/gguf/gguf_parts.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <unordered_set>

#include "model/gguf/gguf_check.h"
#include "model/gguf/gguf_metadata.h"

namespace celslm {
namespace {

constexpr int kMaxParts = 4096;
constexpr const char* kCount = "split.count";
constexpr const char* kNumber = "split.no";
constexpr const char* kTensors = "split.tensors.count";

Result<GgufPart> open_part(const std::filesystem::path& path) {
  GgufPart out;
  CELSLM_TRY(out.file, MappedFile::open(path));
  const ByteView bytes = out.file->bytes();
  if (const Status sound = check_gguf(bytes); !sound) return wrap(sound.error(), path.string());
  ggml_context* tensors = nullptr;
  out.header.reset(gguf_init_from_buffer(bytes.data(), bytes.size(), {.no_alloc = true, .ctx = &tensors}));
  out.tensors.reset(tensors);
  if (!out.header) return fail(ErrorKind::kInvalid, "{}: ggml does not accept its header", path.string());
  return out;
}

std::string ending(int number, int count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

// The path of another part, by that of the first; nothing if that is not named as the parts of a model are.
std::optional<std::filesystem::path> part_path(const std::filesystem::path& first, int number, int count) {
  const std::string name = first.filename().string();
  const std::string end = ending(0, count);
  if (!name.ends_with(end)) return std::nullopt;
  return first.parent_path() / (name.substr(0, name.size() - end.size()) + ending(number, count));
}

Status check_place(const GgufPart& part, int number, int count) {
  const GgufMetadata metadata(part.header.get());
  CELSLM_TRY(const int its_count, metadata.integer(kCount, 0, kMaxParts, 0));
  CELSLM_TRY(const int its_number, metadata.integer(kNumber, 0, kMaxParts, 0));
  if (its_count == count && its_number == number) return {};
  return fail(ErrorKind::kInvalid, "it is part {} of {}; expected part {} of {}", its_number + 1, its_count, number + 1,
              count);
}

// That no tensor is missing or comes twice.
Status check_tensors(std::span<const GgufPart> parts) {
  std::unordered_set<std::string> names;
  for (const GgufPart& part : parts) {
    for (std::int64_t i = 0; i < gguf_get_n_tensors(part.header.get()); ++i) {
      const char* name = gguf_get_tensor_name(part.header.get(), i);
      if (!names.insert(name).second) return fail(ErrorKind::kInvalid, "tensor '{}' is in two of the model's files", name);
    }
  }
  const GgufMetadata metadata(parts.front().header.get());
  if (!metadata.has(kTensors)) return {};
  CELSLM_TRY(const int expected, metadata.integer(kTensors, 0, INT32_MAX));
  if (static_cast<std::size_t>(expected) == names.size()) return {};
  return fail(ErrorKind::kInvalid, "the model's files have {} tensors together; expected {}", names.size(), expected);
}

Status open_others(const std::filesystem::path& path, int count, std::vector<GgufPart>& parts) {
  for (int number = 1; number < count; ++number) {
    const auto other = part_path(path, number, count);
    if (!other) {
      return fail(ErrorKind::kInvalid, "this is the first of {} files of a model; its name must end in '{}'", count,
                  ending(0, count));
    }
    CELSLM_TRY(GgufPart part, open_part(*other));
    if (const Status placed = check_place(part, number, count); !placed) return wrap(placed.error(), other->string());
    parts.push_back(std::move(part));
  }
  return check_tensors(parts);
}

}  // namespace

ByteView GgufPart::bytes_of(std::int64_t tensor) const {
  return file->bytes().subspan(gguf_get_data_offset(header.get()) + gguf_get_tensor_offset(header.get(), tensor),
                               gguf_get_tensor_size(header.get(), tensor));
}

Result<std::vector<GgufPart>> open_gguf(const std::filesystem::path& path) {
  std::vector<GgufPart> parts;
  CELSLM_TRY(GgufPart first, open_part(path));
  const GgufMetadata metadata(first.header.get());
  CELSLM_TRY(const int count, metadata.integer(kCount, 0, kMaxParts, 1));
  CELSLM_TRY(const int number, metadata.integer(kNumber, 0, kMaxParts, 0));
  if (count > 1 && number != 0) {
    return fail(ErrorKind::kInvalid, "this is part {} of {} of a model; give the first, *{}", number + 1, count,
                ending(0, count));
  }
  parts.push_back(std::move(first));
  CELSLM_CHECK_OK(open_others(path, count, parts));
  return parts;
}

ggml_tensor* find_tensor(std::span<const GgufPart> parts, const char* name) {
  for (const GgufPart& part : parts) {
    if (ggml_tensor* found = ggml_get_tensor(part.tensors.get(), name)) return found;
  }
  return nullptr;
}

}  // namespace celslm
