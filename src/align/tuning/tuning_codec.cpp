// The file format of docs/tuning-format.md, and what an id and a signature are over.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "align/tuning/tuning.h"
#include "model/gguf/gguf_contents.h"

namespace celslm {
namespace {

constexpr std::array<std::string_view, 7> kTextKeys = {"model", "teacher", "teacher_id", "corpus",
                                                       "gate",  "signer",  "signature"};
constexpr GgufKind kKind = {.architecture = "celslm-tuning",
                            .what = "a tuning",
                            .prefix = "celslm.tuning.",
                            .version = kTuningVersion,
                            .text_keys = kTextKeys};
constexpr std::string_view kIdDomain = "celslm.tuning.id.";
constexpr std::string_view kSignatureDomain = "celslm.tuning.signature.";

Bytes signed_message(const Hash256& id) {
  ByteWriter out;
  out.bytes(as_bytes(kSignatureDomain));
  out.bytes(std::as_bytes(std::span(id.bytes)));
  return out.take();
}

Status refuse_unknown_tensors(const GgufContents& file) {
  for (const auto& [name, _] : file.matrices) {
    if (name != "k" && name != "v")
      return fail(ErrorKind::kInvalid, "the tensor '{}' is unknown; a tuning has k and v", name);
  }
  return {};
}

std::string text(const GgufContents& file, std::string_view name) {
  const auto it = file.texts.find(kKind.key(name));
  return it == file.texts.end() ? std::string() : it->second;
}

// Zero where there is none.
Result<Hash256> hash(const GgufContents& file, std::string_view name) {
  const std::string digits = text(file, name);
  if (digits.empty()) return Hash256{};
  auto out = Hash256::from_hex(digits);
  return out ? std::move(out) : wrap(std::move(out).error(), kKind.key(name));
}

Result<std::vector<float>> plane(GgufContents& file, const char* name, KvTuning& constants) {
  const auto it = file.matrices.find(name);
  if (it == file.matrices.end()) return fail(ErrorKind::kInvalid, "there is no tensor '{}'", name);
  GgufMatrix& matrix = it->second;
  if (matrix.rows > kMaxTuningLayers || matrix.columns > kMaxTuningWidth)
    return fail(ErrorKind::kInvalid, "tensor '{}' has {} layers of {} values; at most {} of {} are accepted", name,
                matrix.rows, matrix.columns, kMaxTuningLayers, kMaxTuningWidth);
  if (constants.n_layers == 0) {
    constants.n_layers = static_cast<int>(matrix.rows);
    constants.kv_width = static_cast<int>(matrix.columns);
  }
  if (matrix.rows != static_cast<std::size_t>(constants.n_layers) ||
      matrix.columns != static_cast<std::size_t>(constants.kv_width))
    return fail(ErrorKind::kInvalid, "tensor '{}' is [{}][{}], expected [{}][{}], as the other", name, matrix.rows,
                matrix.columns, constants.n_layers, constants.kv_width);
  return std::move(matrix.values);
}

Status read_signature(const GgufContents& file, Tuning& tuning) {
  const std::string signer = text(file, "signer");
  const std::string digits = text(file, "signature");
  if (signer.empty() && digits.empty()) return {};
  TuningSignature signature;
  CELSLM_TRY(signature.signer, PublicKey::from_hex(signer));
  if (const Status read = from_hex(digits, signature.bytes); !read) return wrap(read.error(), kKind.key("signature"));
  if (!verify(signature.signer, signed_message(tuning.constants.id), signature.bytes))
    return fail(ErrorKind::kMismatch, "its signature is not one of {} over these contents: the file was changed or forged",
                signature.signer.hex());
  tuning.signature = signature;
  return {};
}

}  // namespace

Hash256 tuning_id(const Tuning& tuning) {
  ByteWriter out;
  out.u32(kTuningVersion);
  out.bytes(std::as_bytes(std::span(tuning.model.bytes)));
  out.text(tuning.teacher);
  out.bytes(std::as_bytes(std::span(tuning.teacher_id.bytes)));
  out.text(tuning.corpus);
  out.text(tuning.gate);
  out.u32(static_cast<std::uint32_t>(tuning.constants.n_layers));
  out.u32(static_cast<std::uint32_t>(tuning.constants.kv_width));
  out.bytes(std::as_bytes(std::span(tuning.constants.k)));
  out.bytes(std::as_bytes(std::span(tuning.constants.v)));
  return Hasher().update_field(kIdDomain).update(out.data()).finish();
}

Hash256 unjudged_id(Tuning tuning) {
  tuning.gate.clear();
  return tuning_id(tuning);
}

void sign_tuning(Tuning& tuning, const SigningKey& key) {
  tuning.constants.id = tuning_id(tuning);
  tuning.signature = {.signer = key.public_key(), .bytes = key.sign(signed_message(tuning.constants.id))};
}

Bytes encode_tuning(const Tuning& tuning) {
  GgufContents out;
  const auto put = [&](std::string_view name, std::string value) {
    if (!value.empty()) out.texts[kKind.key(name)] = std::move(value);
  };
  set_kind(out, kKind);
  put("model", tuning.model.hex());
  put("teacher", tuning.teacher);
  if (tuning.teacher_id != Hash256{}) put("teacher_id", tuning.teacher_id.hex());
  put("corpus", tuning.corpus);
  put("gate", tuning.gate);
  if (tuning.signature) {
    put("signer", tuning.signature->signer.hex());
    put("signature", to_hex(tuning.signature->bytes));
  }
  const KvTuning& constants = tuning.constants;
  const auto matrix = [&](const std::vector<float>& values) {
    return GgufMatrix{.rows = static_cast<std::size_t>(constants.n_layers),
                      .columns = static_cast<std::size_t>(constants.kv_width),
                      .values = values};
  };
  out.matrices.emplace("k", matrix(constants.k));
  out.matrices.emplace("v", matrix(constants.v));
  return encode_gguf(out);
}

Result<Tuning> parse_tuning(ByteView bytes) {
  if (bytes.size() > kMaxTuningBytes)
    return fail(ErrorKind::kInvalid, "has {} bytes; at most {} are accepted", bytes.size(), kMaxTuningBytes);
  CELSLM_TRY(GgufContents file, parse_gguf(bytes));
  CELSLM_CHECK_OK(check_kind(file, kKind));
  CELSLM_CHECK_OK(refuse_unknown_tensors(file));
  Tuning out{.teacher = text(file, "teacher"), .corpus = text(file, "corpus"), .gate = text(file, "gate")};
  CELSLM_TRY(out.model, hash(file, "model"));
  if (out.model == Hash256{})
    return fail(ErrorKind::kInvalid, "there is no {}: the id of the model it is for", kKind.key("model"));
  CELSLM_TRY(out.teacher_id, hash(file, "teacher_id"));
  CELSLM_TRY(out.constants.k, plane(file, "k", out.constants));
  CELSLM_TRY(out.constants.v, plane(file, "v", out.constants));
  CELSLM_CHECK_OK(check_tuning(out));
  out.constants.id = tuning_id(out);
  CELSLM_CHECK_OK(read_signature(file, out));
  return out;
}

}  // namespace celslm
