#include "core/json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace celslm {
namespace {

using nlohmann::json;

// Reads JSON without building anything, and stops at the first sign that it is not worth building.
class ShapeGuard final : public nlohmann::json_sax<json> {
 public:
  ShapeGuard(const JsonLimits& limits, bool ordered) : limits_(limits), limits_comparisons_(ordered) {}

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool string(string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool key(string_t&) override {
    comparisons_ += keys_.back()++;
    return !limits_comparisons_ || comparisons_ <= limits_.comparisons;
  }
  bool start_object(std::size_t) override {
    keys_.push_back(0);
    return value() && deeper();
  }
  bool start_array(std::size_t) override { return value() && deeper(); }
  bool end_object() override {
    keys_.pop_back();
    return --depth_ >= 0;
  }
  bool end_array() override { return --depth_ >= 0; }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error_at_ = position;
    return false;
  }

  std::unexpected<Error> error() const {
    if (values_ > limits_.values) return fail(ErrorKind::kInvalid, "JSON holds more than {} values", limits_.values);
    if (depth_ > limits_.depth) return fail(ErrorKind::kInvalid, "JSON is nested deeper than {} levels", limits_.depth);
    if (limits_comparisons_ && comparisons_ > limits_.comparisons)
      return fail(ErrorKind::kInvalid, "JSON has an object of too many keys");
    return fail(ErrorKind::kInvalid, "malformed JSON at byte {}", error_at_);
  }

 private:
  bool value() { return ++values_ <= limits_.values; }
  bool deeper() { return ++depth_ <= limits_.depth; }
  const JsonLimits limits_;
  const bool limits_comparisons_;
  std::vector<std::int64_t> keys_;  // so far, of each object that is open
  std::int64_t comparisons_ = 0;
  int values_ = 0;
  int depth_ = 0;
  std::size_t error_at_ = 0;
};

// The parser's own callback could refuse values too, but with one it searches the parent again after each child: an array of
// a million objects would take minutes. So the shape is checked in a pass that builds nothing.
template <typename Json>
Result<Json> parse_guarded(std::string_view text, ShapeGuard guard) {
  if (!json::sax_parse(text, &guard)) return guard.error();
  Json out = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!out.is_object()) return fail(ErrorKind::kInvalid, "a JSON object is expected, not {}", out.type_name());
  return out;
}

}  // namespace

Result<json> parse_object(std::string_view text, const JsonLimits& limits) {
  return parse_guarded<json>(text, ShapeGuard(limits, false));
}

Result<nlohmann::ordered_json> parse_ordered_object(std::string_view text, const JsonLimits& limits) {
  return parse_guarded<nlohmann::ordered_json>(text, ShapeGuard(limits, true));
}

std::string dump_json(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

JsonFields::JsonFields(const json& object, std::string prefix) : object_(&object), prefix_(std::move(prefix)) {}

Result<JsonFields> JsonFields::of(const json& value, const std::string& name) {
  if (!value.is_object()) return fail(ErrorKind::kInvalid, "field '{}' must be an object", name);
  return JsonFields(value, name + ".");
}

std::string JsonFields::path(std::string_view name) const {
  return prefix_ + std::string(name);
}

std::unexpected<Error> JsonFields::expected(std::string_view name, std::string_view what) const {
  return fail(ErrorKind::kInvalid, "field '{}' must be {}", path(name), what);
}

const json* JsonFields::find(std::string_view name) const {
  const auto it = object_->find(name);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

Result<std::optional<bool>> JsonFields::flag(std::string_view name) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return expected(name, "true or false");
  return value->get<bool>();
}

Result<std::optional<std::int64_t>> JsonFields::integer(std::string_view name, std::int64_t low, std::int64_t high) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const bool too_big = value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(high);
  if (!value->is_number_integer() || too_big || value->get<std::int64_t>() < low || value->get<std::int64_t>() > high) {
    return expected(name, fmt::format("a whole number from {} to {}", low, high));
  }
  return value->get<std::int64_t>();
}

Result<std::optional<double>> JsonFields::number(std::string_view name, double low, double high) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || value->get<double>() < low || value->get<double>() > high) {
    return expected(name, fmt::format("a number from {} to {}", low, high));
  }
  return value->get<double>();
}

Result<std::optional<std::string>> JsonFields::text(std::string_view name, std::size_t max_bytes) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return expected(name, "a string");
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes) return expected(name, fmt::format("at most {} bytes long", max_bytes));
  return text;
}

Result<std::optional<JsonFields>> JsonFields::object(std::string_view name) const {
  const json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) return expected(name, "an object");
  return JsonFields(*value, path(name) + ".");
}

Result<const json*> JsonFields::list(std::string_view name, std::size_t max_items) const {
  const json* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) return expected(name, "a list");
  if (value->size() > max_items) return expected(name, fmt::format("a list of at most {} items", max_items));
  return value;
}

Result<bool> JsonFields::required_flag(std::string_view name) const {
  CELSLM_TRY(const auto value, flag(name));
  if (!value) return expected(name, "true or false");
  return *value;
}

Result<std::int64_t> JsonFields::required_integer(std::string_view name, std::int64_t low, std::int64_t high) const {
  CELSLM_TRY(const auto value, integer(name, low, high));
  if (!value) return expected(name, fmt::format("a whole number from {} to {}", low, high));
  return *value;
}

Result<std::string> JsonFields::required_text(std::string_view name, std::size_t max_bytes) const {
  CELSLM_TRY(auto value, text(name, max_bytes));
  if (!value) return expected(name, "a string");
  return *std::move(value);
}

Result<Hash256> JsonFields::required_hash(std::string_view name) const {
  CELSLM_TRY(const std::string hex, required_text(name));
  const auto hash = Hash256::from_hex(hex);
  if (!hash) return expected(name, "a hash of 64 hex digits");
  return *hash;
}

Result<JsonFields> JsonFields::required_object(std::string_view name) const {
  CELSLM_TRY(auto value, object(name));
  if (!value) return expected(name, "an object");
  return *std::move(value);
}

Result<const json*> JsonFields::required_list(std::string_view name, std::size_t max_items) const {
  CELSLM_TRY(const json* value, list(name, max_items));
  if (value == nullptr) return expected(name, "a list");
  return value;
}

}  // namespace celslm
