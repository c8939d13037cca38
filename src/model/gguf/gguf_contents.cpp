#include "model/gguf/gguf_contents.h"

#include <ggml-cpp.h>

#include <algorithm>

#include "model/gguf/gguf_check.h"

namespace celslm {
namespace {

constexpr const char* kArchitecture = "general.architecture";
constexpr std::uint32_t kVersion = 3;
constexpr std::size_t kAlignment = 32;  // GGUF's default

void read_key(const gguf_context* gguf, std::int64_t id, GgufContents& out) {
  const std::string key = gguf_get_key(gguf, id);
  switch (gguf_get_kv_type(gguf, id)) {
    case GGUF_TYPE_STRING: out.texts.emplace(key, gguf_get_val_str(gguf, id)); break;
    case GGUF_TYPE_UINT32: out.numbers.emplace(key, gguf_get_val_u32(gguf, id)); break;
    default: out.others.insert(key); break;
  }
}

// Largest integer up to which f32 has all of them.
constexpr std::int32_t kMaxInteger = 1 << 24;

Status widen(const ggml_tensor& tensor, ByteView data, std::vector<float>& out) {
  if (tensor.type == GGML_TYPE_F32) {
    std::memcpy(out.data(), data.data(), data.size());
    return {};
  }
  if (tensor.type == GGML_TYPE_F16) {
    std::vector<ggml_fp16_t> halves(out.size());
    std::memcpy(halves.data(), data.data(), data.size());
    ggml_fp16_to_fp32_row(halves.data(), out.data(), static_cast<std::int64_t>(out.size()));
    return {};
  }
  std::vector<std::int32_t> integers(out.size());
  std::memcpy(integers.data(), data.data(), data.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (integers[i] > kMaxInteger || integers[i] < -kMaxInteger)
      return fail(ErrorKind::kInvalid, "tensor '{}' has the number {}; up to {} are accepted", tensor.name, integers[i],
                  kMaxInteger);
    out[i] = static_cast<float>(integers[i]);
  }
  return {};
}

Result<GgufMatrix> read_matrix(const ggml_tensor& tensor, ByteView data) {
  const bool known = tensor.type == GGML_TYPE_F32 || tensor.type == GGML_TYPE_F16 || tensor.type == GGML_TYPE_I32;
  if (!known || tensor.ne[2] != 1 || tensor.ne[3] != 1)
    return fail(ErrorKind::kInvalid, "tensor '{}' is {} with {} dimensions; expected a matrix of f32, f16 or i32",
                tensor.name, ggml_type_name(tensor.type), ggml_n_dims(&tensor));
  GgufMatrix out{.rows = static_cast<std::size_t>(tensor.ne[1]), .columns = static_cast<std::size_t>(tensor.ne[0])};
  ByteReader in(data);
  const ByteView values = in.bytes(out.rows * out.columns * ggml_type_size(tensor.type));
  if (!in.ok()) return fail(ErrorKind::kInvalid, "tensor '{}' ends behind the file", tensor.name);
  out.values.resize(out.rows * out.columns);
  CELSLM_CHECK_OK(widen(tensor, values, out.values));
  return out;
}

void write_text(std::string_view text, ByteWriter& out) {
  out.u64(text.size());
  out.bytes(as_bytes(text));
}

void pad(ByteWriter& out) {
  while (out.data().size() % kAlignment != 0) out.u8(0);
}

Status refuse_unknown(const GgufContents& file, const GgufKind& kind) {
  const auto check = [&](const std::string& name, bool known) -> Status {
    if (known || !name.starts_with(kind.prefix)) return {};
    return fail(ErrorKind::kInvalid, "the metadata key '{}' is unknown, or of another type than this version expects", name);
  };
  for (const auto& [name, _] : file.texts)
    CELSLM_CHECK_OK(check(name, std::ranges::any_of(kind.text_keys, [&](auto known) { return name == kind.key(known); })));
  for (const auto& [name, _] : file.numbers) CELSLM_CHECK_OK(check(name, name == kind.key("version")));
  for (const std::string& name : file.others) CELSLM_CHECK_OK(check(name, false));
  return {};
}

}  // namespace

Status check_kind(const GgufContents& file, const GgufKind& kind) {
  const auto architecture = file.texts.find(kArchitecture);
  if (architecture == file.texts.end() || architecture->second != kind.architecture)
    return fail(ErrorKind::kInvalid, "is not {}: {} is '{}', expected '{}'", kind.what, kArchitecture,
                architecture == file.texts.end() ? "" : architecture->second, kind.architecture);
  const auto version = file.numbers.find(kind.key("version"));
  if (version == file.numbers.end() || version->second != kind.version)
    return fail(ErrorKind::kInvalid, "{} of version {} is not supported; this program reads version {}", kind.what,
                version == file.numbers.end() ? 0 : version->second, kind.version);
  return refuse_unknown(file, kind);
}

void set_kind(GgufContents& file, const GgufKind& kind) {
  file.texts[kArchitecture] = kind.architecture;
  file.numbers[kind.key("version")] = kind.version;
}

Result<GgufContents> parse_gguf(ByteView file) {
  CELSLM_CHECK_OK(check_gguf(file));
  ggml_context* made = nullptr;
  const gguf_context_ptr gguf(gguf_init_from_buffer(file.data(), file.size(), {.no_alloc = true, .ctx = &made}));
  const ggml_context_ptr tensors(made);
  if (!gguf) return fail(ErrorKind::kInvalid, "ggml does not accept its header");
  GgufContents out;
  for (std::int64_t id = 0; id < gguf_get_n_kv(gguf.get()); ++id) read_key(gguf.get(), id, out);
  for (std::int64_t id = 0; id < gguf_get_n_tensors(gguf.get()); ++id) {
    const char* name = gguf_get_tensor_name(gguf.get(), id);
    const std::size_t begin = gguf_get_data_offset(gguf.get()) + gguf_get_tensor_offset(gguf.get(), id);
    CELSLM_TRY(auto matrix, read_matrix(*ggml_get_tensor(tensors.get(), name), file.subspan(std::min(begin, file.size()))));
    out.matrices.emplace(name, std::move(matrix));
  }
  return out;
}

Bytes encode_gguf(const GgufContents& contents) {
  ByteWriter out;
  out.bytes(as_bytes("GGUF"));
  out.u32(kVersion);
  out.u64(contents.matrices.size());
  out.u64(contents.texts.size() + contents.numbers.size());
  for (const auto& [key, text] : contents.texts) {
    write_text(key, out);
    out.u32(GGUF_TYPE_STRING);
    write_text(text, out);
  }
  for (const auto& [key, number] : contents.numbers) {
    write_text(key, out);
    out.u32(GGUF_TYPE_UINT32);
    out.u32(number);
  }
  std::uint64_t offset = 0;
  for (const auto& [name, matrix] : contents.matrices) {
    write_text(name, out);
    out.u32(2);  // dimensions
    out.u64(matrix.columns);
    out.u64(matrix.rows);
    out.u32(GGML_TYPE_F32);
    out.u64(offset);
    offset += (matrix.values.size() * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
  }
  for (const auto& [_, matrix] : contents.matrices) {
    pad(out);
    out.bytes(std::as_bytes(std::span(matrix.values)));
  }
  pad(out);
  return out.take();
}

}  // namespace celslm
