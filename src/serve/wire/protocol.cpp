#include "serve/wire/protocol.h"

#include <fmt/format.h>

namespace celslm {
namespace {

using nlohmann::json;

// Typed field access without exceptions.
Result<std::string> text_field(const json& object, const char* name, std::size_t limit) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_string()) return fail(ErrorKind::kInvalid, "field '{}' must be a string", name);
  const auto& value = it->get_ref<const std::string&>();
  if (value.size() > limit) return fail(ErrorKind::kInvalid, "field '{}' is longer than {} bytes", name, limit);
  return value;
}

Result<std::uint64_t> number_field(const json& object, const char* name, std::uint64_t limit) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_number_unsigned() || it->get<std::uint64_t>() > limit) {
    return fail(ErrorKind::kInvalid, "field '{}' must be a whole number up to {}", name, limit);
  }
  return it->get<std::uint64_t>();
}

Result<Hash256> hash_field(const json& object, const char* name) {
  CELSLM_TRY(const std::string hex, text_field(object, name, 64));
  auto hash = Hash256::from_hex(hex);
  if (!hash) return wrap(std::move(hash).error(), std::string("field '") + name + "'");
  return hash;
}

constexpr std::size_t kMaxName = 1024;  // a name is shown to people and written to logs
constexpr int kMaxDepth = 64;           // nesting that would exhaust the parser's stack
constexpr int kMaxValues = 1 << 20;     // "[{},{},…": a tree thirty times as big as its text

// Reads JSON without building anything, and stops at the first sign that it is not worth building.
class ShapeGuard final : public nlohmann::json_sax<json> {
 public:
  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool key(string_t&) override { return true; }
  bool start_object(std::size_t) override { return value() && deeper(); }
  bool start_array(std::size_t) override { return value() && deeper(); }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

  Error error() const {
    if (values_ > kMaxValues) return {ErrorKind::kInvalid, fmt::format("JSON holds more than {} values", kMaxValues)};
    if (depth_ > kMaxDepth) return {ErrorKind::kInvalid, fmt::format("JSON is nested deeper than {} levels", kMaxDepth)};
    return {ErrorKind::kInvalid, "malformed JSON"};
  }

 private:
  bool value() { return ++values_ <= kMaxValues; }
  bool deeper() { return ++depth_ <= kMaxDepth; }
  int values_ = 0;
  int depth_ = 0;
};

Result<HostedMap> hosted_map_from(const json& object) {
  if (!object.is_object() || !object.contains("fused") || !object["fused"].is_boolean()) {
    return fail(ErrorKind::kInvalid, "a map must be an object with 'id', 'split' and 'fused'");
  }
  HostedMap out{.fused = object["fused"].get<bool>()};
  CELSLM_TRY(out.id, hash_field(object, "id"));
  CELSLM_TRY(const auto split, number_field(object, "split", static_cast<std::uint64_t>(kMaxPackSplit)));
  out.split = static_cast<int>(split);
  return out;
}

}  // namespace

void set_map(PackIdentity& identity, const HostedMap& map) {
  identity.provenance = map.fused ? Provenance::kFused : Provenance::kMapped;
  identity.map = map.id;
  identity.split = map.split;
}

std::string pack_path(const ContextHandle& handle, const Hash256& model, std::string_view codec, std::string_view part,
                      const std::optional<HostedMap>& map) {
  const std::string path = fmt::format("/v1/packs/{}/{}/{}/{}", handle.hex(), model.hex(), codec, part);
  return map ? fmt::format("{}{}map={}", path, part.contains('?') ? '&' : '?', map->id.hex()) : path;
}

json to_json(const ContextInfo& info) {
  return {{"id", info.handle.hex()}, {"name", info.name}, {"bytes", info.bytes}};
}

json to_json(const HostedModel& model) {
  const ModelFingerprint& f = model.fingerprint;
  json out{{"id", f.id().hex()},
           {"name", model.name},
           {"n_ctx", model.n_ctx},
           {"fingerprint",
            {{"architecture", f.architecture},
             {"n_layers", f.n_layers},
             {"n_kv_heads", f.n_kv_heads},
             {"head_dim", f.head_dim},
             {"rope", f.rope},
             {"weights", f.weights.hex()},
             {"tokenizer", f.tokenizer.hex()}}}};
  if (model.map) out["map"] = {{"id", model.map->id.hex()}, {"split", model.map->split}, {"fused", model.map->fused}};
  return out;
}

Result<ContextInfo> context_info_from(const json& object) {
  if (!object.is_object()) return fail(ErrorKind::kInvalid, "a context must be an object");
  ContextInfo out;
  CELSLM_TRY(out.handle, hash_field(object, "id"));
  CELSLM_TRY(out.name, text_field(object, "name", kMaxName));
  CELSLM_TRY(out.bytes, number_field(object, "bytes", kMaxContextBytes));
  return out;
}

Result<HostedModel> hosted_model_from(const json& object) {
  if (!object.is_object() || !object.contains("fingerprint") || !object["fingerprint"].is_object()) {
    return fail(ErrorKind::kInvalid, "a model must be an object with a 'fingerprint'");
  }
  constexpr std::uint64_t kMaxU32 = 0xffffffff;
  const json& f = object["fingerprint"];
  HostedModel out;
  CELSLM_TRY(out.name, text_field(object, "name", kMaxName));
  CELSLM_TRY(const auto n_ctx, number_field(object, "n_ctx", 0x7fffffff));
  out.n_ctx = static_cast<int>(n_ctx);
  CELSLM_TRY(out.fingerprint.architecture, text_field(f, "architecture", kMaxName));
  CELSLM_TRY(const auto n_layers, number_field(f, "n_layers", kMaxU32));
  CELSLM_TRY(const auto n_kv_heads, number_field(f, "n_kv_heads", kMaxU32));
  CELSLM_TRY(const auto head_dim, number_field(f, "head_dim", kMaxU32));
  out.fingerprint.n_layers = static_cast<std::uint32_t>(n_layers);
  out.fingerprint.n_kv_heads = static_cast<std::uint32_t>(n_kv_heads);
  out.fingerprint.head_dim = static_cast<std::uint32_t>(head_dim);
  CELSLM_TRY(out.fingerprint.rope, text_field(f, "rope", kMaxName));
  CELSLM_TRY(out.fingerprint.weights, hash_field(f, "weights"));
  CELSLM_TRY(out.fingerprint.tokenizer, hash_field(f, "tokenizer"));
  if (object.contains("map")) {
    CELSLM_TRY(out.map, hosted_map_from(object["map"]));
  }
  return out;
}

// The parser's own callback could refuse values too, but with one it searches the parent again after each child: an array of
// a million objects would take minutes. So the shape is checked in a pass that builds nothing.
Result<json> parse_object(std::string_view text) {
  ShapeGuard guard;
  if (!json::sax_parse(text, &guard)) return std::unexpected(guard.error());
  json out = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!out.is_object()) return fail(ErrorKind::kInvalid, "a JSON object is expected");
  return out;
}

HttpResponse json_response(const json& body) {
  // Bytes that are not UTF-8 (a name that a peer gave) must not make the answer fail.
  return {.body = body.dump(-1, ' ', false, json::error_handler_t::replace)};
}

}  // namespace celslm
