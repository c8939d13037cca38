#include "kv/studied/studied.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "core/file.h"
#include "core/utf8.h"
#include "model/gguf/gguf_contents.h"

namespace celslm {
namespace {

constexpr std::string_view kIdDomain = "celslm.study.id.";
constexpr std::array<std::string_view, 3> kTextKeys = {"model", "context", "recipe"};
constexpr GgufKind kKind = {.architecture = "celslm-studied",
                            .what = "a studied context",
                            .prefix = "celslm.studied.",
                            .version = kStudiedVersion,
                            .text_keys = kTextKeys};
constexpr std::size_t kTensorsPerLayer = 4;

std::string tensor_name(std::size_t layer, std::string_view what) {
  return fmt::format("layer.{}.{}", layer, what);
}

Result<Hash256> hash(const GgufContents& file, std::string_view name) {
  const auto it = file.texts.find(kKind.key(name));
  if (it == file.texts.end()) return fail(ErrorKind::kInvalid, "there is no metadata key '{}'", kKind.key(name));
  auto out = Hash256::from_hex(it->second);
  return out ? std::move(out) : wrap(std::move(out).error(), kKind.key(name));
}

Result<GgufMatrix> take(GgufContents& file, const std::string& name) {
  auto found = file.matrices.extract(name);
  if (!found) return fail(ErrorKind::kInvalid, "there is no tensor '{}'", name);
  return std::move(found.mapped());
}

// Positions and tokens are whole numbers, whatever the type they are stored in.
Result<std::vector<std::int32_t>> integers(const std::string& name, const GgufMatrix& matrix) {
  std::vector<std::int32_t> out;
  out.reserve(matrix.values.size());
  for (const float value : matrix.values) {
    if (!(std::abs(value) <= 0x1p24F) || value != std::trunc(value))
      return fail(ErrorKind::kInvalid, "tensor '{}' has the number {}; expected whole ones", name, value);
    out.push_back(static_cast<std::int32_t>(value));
  }
  return out;
}

// The first layer's shapes are the file's; check_condensed() compares the sizes of the others.
Result<CondensedLayer> read_layer(GgufContents& file, std::size_t layer, StudiedContext& out) {
  CELSLM_TRY(GgufMatrix k, take(file, tensor_name(layer, "k")));
  CELSLM_TRY(GgufMatrix v, take(file, tensor_name(layer, "v")));
  CELSLM_TRY(const GgufMatrix positions, take(file, tensor_name(layer, "positions")));
  CELSLM_TRY(GgufMatrix log_mass, take(file, tensor_name(layer, "log_mass")));
  if (layer == 0) {
    const bool fits = k.rows <= kMaxPackTokens && k.columns <= kMaxPackKvWidth && positions.rows <= k.columns;
    if (!fits || k.columns % positions.rows != 0)
      return fail(ErrorKind::kInvalid, "K has {} rows of {} values, positions are of {} KV heads", k.rows, k.columns,
                  positions.rows);
    out.kv.n_rows = static_cast<int>(k.rows);
    out.n_kv_heads = static_cast<int>(positions.rows);
    out.head_dim = static_cast<int>(k.columns / positions.rows);
  }
  const auto n_rows = static_cast<std::size_t>(out.kv.n_rows);
  const auto n_heads = static_cast<std::size_t>(out.n_kv_heads);
  for (const GgufMatrix* plane : {&k, &v}) {
    if (plane->rows != n_rows || plane->columns != n_heads * static_cast<std::size_t>(out.head_dim))
      return fail(ErrorKind::kInvalid, "layer {}: K or V is [{}][{}], expected [{}][{}]", layer, plane->rows, plane->columns,
                  n_rows, n_heads * static_cast<std::size_t>(out.head_dim));
  }
  for (const GgufMatrix* plane : std::array{&positions, static_cast<const GgufMatrix*>(&log_mass)}) {
    if (plane->rows != n_heads || plane->columns != n_rows)
      return fail(ErrorKind::kInvalid, "layer {}: positions or log masses are [{}][{}], expected [{}][{}]", layer,
                  plane->rows, plane->columns, n_heads, n_rows);
  }
  CondensedLayer made{.k = std::move(k.values), .v = std::move(v.values), .log_mass = std::move(log_mass.values)};
  CELSLM_TRY(made.positions, integers(tensor_name(layer, "positions"), positions));
  return made;
}

}  // namespace

Hash256 study_id(ByteView file) {
  return Hasher().update_field(kIdDomain).update(file).finish();
}

Status check_studied(const StudiedContext& studied) {
  if (studied.model == Hash256{}) return fail(ErrorKind::kInvalid, "the model's id is zero");
  if (studied.context == Hash256{}) return fail(ErrorKind::kInvalid, "the context's handle is zero");
  if (studied.recipe.size() > kMaxRecipeBytes || !is_utf8(studied.recipe))
    return fail(ErrorKind::kInvalid, "the recipe has {} bytes; at most {} of UTF-8 are accepted", studied.recipe.size(),
                kMaxRecipeBytes);
  const std::size_t n_layers = studied.kv.layers.size();
  if (n_layers < 1 || n_layers > kMaxPackLayers)
    return fail(ErrorKind::kInvalid, "{} layers; 1 to {} are accepted", n_layers, kMaxPackLayers);
  if (studied.tokens.size() > kMaxPackTokens || studied.tokens.size() != static_cast<std::size_t>(studied.kv.n_tokens))
    return fail(ErrorKind::kInvalid, "{} tokens for KV of {}; at most {} are accepted", studied.tokens.size(),
                studied.kv.n_tokens, kMaxPackTokens);
  if (std::ranges::any_of(studied.tokens, [](Token token) { return token < 0; }))
    return fail(ErrorKind::kInvalid, "tokens contains a negative id");
  ModelConfig shape;
  shape.n_layers = static_cast<int>(n_layers);
  shape.n_kv_heads = studied.n_kv_heads;
  shape.head_dim = studied.head_dim;
  return check_condensed(shape, studied.kv);
}

Bytes encode_studied(const StudiedContext& studied) {
  GgufContents out;
  set_kind(out, kKind);
  out.texts[kKind.key("model")] = studied.model.hex();
  out.texts[kKind.key("context")] = studied.context.hex();
  if (!studied.recipe.empty()) out.texts[kKind.key("recipe")] = studied.recipe;
  const auto put = [&](const std::string& name, std::size_t rows, const auto& values) {
    out.matrices[name] = {.rows = rows, .columns = values.size() / rows, .values = {values.begin(), values.end()}};
  };
  put("tokens", 1, studied.tokens);
  for (std::size_t i = 0; i < studied.kv.layers.size(); ++i) {
    const CondensedLayer& layer = studied.kv.layers[i];
    put(tensor_name(i, "k"), static_cast<std::size_t>(studied.kv.n_rows), layer.k);
    put(tensor_name(i, "v"), static_cast<std::size_t>(studied.kv.n_rows), layer.v);
    put(tensor_name(i, "positions"), static_cast<std::size_t>(studied.n_kv_heads), layer.positions);
    put(tensor_name(i, "log_mass"), static_cast<std::size_t>(studied.n_kv_heads), layer.log_mass);
  }
  return encode_gguf(out);
}

Result<StudiedContext> parse_studied(ByteView bytes) {
  if (bytes.size() > kMaxStudiedBytes)
    return fail(ErrorKind::kInvalid, "has {} bytes; at most {} are accepted", bytes.size(), kMaxStudiedBytes);
  CELSLM_TRY(GgufContents file, parse_gguf(bytes));
  CELSLM_CHECK_OK(check_kind(file, kKind));
  StudiedContext out;
  CELSLM_TRY(out.model, hash(file, "model"));
  CELSLM_TRY(out.context, hash(file, "context"));
  if (const auto recipe = file.texts.find(kKind.key("recipe")); recipe != file.texts.end()) out.recipe = recipe->second;
  CELSLM_TRY(const GgufMatrix tokens, take(file, "tokens"));
  if (tokens.rows != 1) return fail(ErrorKind::kInvalid, "tokens has {} rows; expected one", tokens.rows);
  CELSLM_TRY(out.tokens, integers("tokens", tokens));
  out.kv.n_tokens = static_cast<int>(std::min<std::size_t>(out.tokens.size(), kMaxPackTokens));
  const std::size_t n_layers = file.matrices.size() / kTensorsPerLayer;
  for (std::size_t layer = 0; layer < n_layers; ++layer) {
    CELSLM_TRY(out.kv.layers.emplace_back(), read_layer(file, layer, out));
  }
  if (!file.matrices.empty()) return fail(ErrorKind::kInvalid, "the tensor '{}' is unknown", file.matrices.begin()->first);
  CELSLM_CHECK_OK(check_studied(out));
  return out;
}

Result<StudiedFile> read_studied(const std::filesystem::path& path) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxStudiedBytes));
  auto parsed = parse_studied(bytes);
  if (!parsed) return wrap(std::move(parsed).error(), path.string());
  StudiedFile out{.context = *std::move(parsed), .study = {.id = study_id(bytes)}};
  out.study.n_rows = out.context.kv.n_rows;
  return out;
}

Status write_studied(const std::filesystem::path& path, const StudiedContext& studied) {
  if (const Status checked = check_studied(studied); !checked) return wrap(checked.error(), path.string());
  return write_file_atomically(path, encode_studied(studied));
}

}  // namespace celslm
