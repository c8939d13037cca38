#include "model/gguf/gguf_metadata.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <span>

namespace celslm {
namespace {

std::optional<std::int64_t> any_integer(const gguf_context* gguf, std::int64_t id) {
  switch (gguf_get_kv_type(gguf, id)) {
    case GGUF_TYPE_UINT8: return gguf_get_val_u8(gguf, id);
    case GGUF_TYPE_INT8: return gguf_get_val_i8(gguf, id);
    case GGUF_TYPE_UINT16: return gguf_get_val_u16(gguf, id);
    case GGUF_TYPE_INT16: return gguf_get_val_i16(gguf, id);
    case GGUF_TYPE_UINT32: return gguf_get_val_u32(gguf, id);
    case GGUF_TYPE_INT32: return gguf_get_val_i32(gguf, id);
    case GGUF_TYPE_INT64: return gguf_get_val_i64(gguf, id);
    case GGUF_TYPE_UINT64: return static_cast<std::int64_t>(std::min<std::uint64_t>(gguf_get_val_u64(gguf, id), INT64_MAX));
    default: return std::nullopt;
  }
}

std::size_t scalar_size(gguf_type type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL: return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16: return 2;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64: return 8;
    default: return 4;
  }
}

void hash_array(Hasher& hasher, const gguf_context* gguf, std::int64_t id) {
  const gguf_type type = gguf_get_arr_type(gguf, id);
  const std::size_t n = gguf_get_arr_n(gguf, id);
  hasher.update_u64(type).update_u64(n);
  if (type == GGUF_TYPE_STRING) {
    for (std::size_t i = 0; i < n; ++i) hasher.update_field(gguf_get_arr_str(gguf, id, i));
  } else if (n > 0) {
    hasher.update(std::string_view(static_cast<const char*>(gguf_get_arr_data(gguf, id)), n * scalar_size(type)));
  }
}

void hash_value(Hasher& hasher, const gguf_context* gguf, std::int64_t id) {
  const gguf_type type = gguf_get_kv_type(gguf, id);
  hasher.update_u64(type);
  if (type == GGUF_TYPE_ARRAY) {
    hash_array(hasher, gguf, id);
  } else if (type == GGUF_TYPE_STRING) {
    hasher.update_field(gguf_get_val_str(gguf, id));
  } else {
    hasher.update(std::string_view(static_cast<const char*>(gguf_get_val_data(gguf, id)), scalar_size(type)));
  }
}

}  // namespace

Result<int> GgufMetadata::integer(const std::string& key, std::int64_t low, std::int64_t high,
                                  std::optional<int> fallback) const {
  const std::int64_t id = find(key);
  if (id < 0 && fallback) return *fallback;
  if (id < 0) return fail(ErrorKind::kInvalid, "no metadata key '{}'", key);
  const auto value = any_integer(gguf_, id);
  if (!value) {
    return fail(ErrorKind::kInvalid, "'{}' is of type {}, expected one integer", key,
                gguf_type_name(gguf_get_kv_type(gguf_, id)));
  }
  if (*value < low || *value > high) {
    return fail(ErrorKind::kInvalid, "'{}' is {}; {} to {} are accepted", key, *value, low, high);
  }
  return static_cast<int>(*value);
}

Result<float> GgufMetadata::real(const std::string& key, float low, float high, std::optional<float> fallback) const {
  const std::int64_t id = find(key);
  if (id < 0 && fallback) return *fallback;
  if (id < 0) return fail(ErrorKind::kInvalid, "no metadata key '{}'", key);
  const gguf_type type = gguf_get_kv_type(gguf_, id);
  if (type != GGUF_TYPE_FLOAT32 && type != GGUF_TYPE_FLOAT64) {
    return fail(ErrorKind::kInvalid, "'{}' is of type {}, expected a number with a fraction", key, gguf_type_name(type));
  }
  const double value = type == GGUF_TYPE_FLOAT32 ? gguf_get_val_f32(gguf_, id) : gguf_get_val_f64(gguf_, id);
  if (!(value >= low && value <= high)) {
    return fail(ErrorKind::kInvalid, "'{}' is {}; {} to {} are accepted", key, value, low, high);
  }
  return static_cast<float>(value);
}

std::optional<double> GgufMetadata::any_number(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return std::nullopt;
  if (const auto value = any_integer(gguf_, id)) return static_cast<double>(*value);
  switch (gguf_get_kv_type(gguf_, id)) {
    case GGUF_TYPE_FLOAT32: return gguf_get_val_f32(gguf_, id);
    case GGUF_TYPE_FLOAT64: return gguf_get_val_f64(gguf_, id);
    case GGUF_TYPE_BOOL: return gguf_get_val_bool(gguf_, id) ? 1.0 : 0.0;
    default: return std::numeric_limits<double>::quiet_NaN();
  }
}

Result<std::string> GgufMetadata::text(const std::string& key, std::optional<std::string> fallback) const {
  const std::int64_t id = find(key);
  if (id < 0 && fallback) return *fallback;
  if (id < 0) return fail(ErrorKind::kInvalid, "no metadata key '{}'", key);
  if (gguf_get_kv_type(gguf_, id) != GGUF_TYPE_STRING) {
    return fail(ErrorKind::kInvalid, "'{}' is of type {}, expected text", key, gguf_type_name(gguf_get_kv_type(gguf_, id)));
  }
  return std::string(gguf_get_val_str(gguf_, id));
}

Result<bool> GgufMetadata::boolean(const std::string& key, bool fallback) const {
  const std::int64_t id = find(key);
  if (id < 0) return fallback;
  if (gguf_get_kv_type(gguf_, id) != GGUF_TYPE_BOOL) {
    return fail(ErrorKind::kInvalid, "'{}' is of type {}, expected a bool", key,
                gguf_type_name(gguf_get_kv_type(gguf_, id)));
  }
  return gguf_get_val_bool(gguf_, id);
}

Result<std::size_t> GgufMetadata::array_size(const std::string& key, gguf_type type) const {
  const std::int64_t id = find(key);
  if (id < 0) return fail(ErrorKind::kInvalid, "no metadata key '{}'", key);
  if (gguf_get_kv_type(gguf_, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(gguf_, id) != type) {
    return fail(ErrorKind::kInvalid, "'{}' is not an array of {}", key, gguf_type_name(type));
  }
  return gguf_get_arr_n(gguf_, id);
}

bool GgufMetadata::is_array(const std::string& key) const {
  return has(key) && gguf_get_kv_type(gguf_, find(key)) == GGUF_TYPE_ARRAY;
}

Result<std::vector<bool>> GgufMetadata::booleans(const std::string& key) const {
  CELSLM_TRY(const std::size_t n, array_size(key, GGUF_TYPE_BOOL));
  const auto* values = static_cast<const std::int8_t*>(gguf_get_arr_data(gguf_, find(key)));
  return std::vector<bool>(values, values + n);
}

Result<std::vector<int>> GgufMetadata::integers(const std::string& key, std::int64_t low, std::int64_t high) const {
  const bool is_unsigned = is_array(key) && gguf_get_arr_type(gguf_, find(key)) == GGUF_TYPE_UINT32;
  CELSLM_TRY(const std::size_t n, array_size(key, is_unsigned ? GGUF_TYPE_UINT32 : GGUF_TYPE_INT32));
  const auto* values = static_cast<const std::uint32_t*>(gguf_get_arr_data(gguf_, find(key)));
  std::vector<int> out;
  for (const std::uint32_t raw : std::span(values, n)) {
    const auto value = is_unsigned ? std::int64_t{raw} : std::int64_t{static_cast<std::int32_t>(raw)};
    if (value < low || value > high)
      return fail(ErrorKind::kInvalid, "'{}' has a {}; {} to {} are accepted", key, value, low, high);
    out.push_back(static_cast<int>(value));
  }
  return out;
}

Hash256 GgufMetadata::tokenizer_hash() const {
  std::map<std::string, std::int64_t> keys;
  for (std::int64_t id = 0; id < gguf_get_n_kv(gguf_); ++id) {
    const std::string key = gguf_get_key(gguf_, id);
    if (key.starts_with("tokenizer.")) keys.emplace(key, id);
  }
  Hasher hasher;
  hasher.update_field("celslm.tokenizer.v1");
  for (const auto& [key, id] : keys) {
    hasher.update_field(key);
    hash_value(hasher, gguf_, id);
  }
  return hasher.finish();
}

}  // namespace celslm
