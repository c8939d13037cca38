#include "fleet/directory/node_record.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "fleet/directory/node_address.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr JsonLimits kLimits{.depth = 4, .values = 512};
constexpr std::int64_t kMostRequests = 1 << 20;
constexpr std::int64_t kMostBytes = std::int64_t{1} << 50;
constexpr double kMostPerSecond = 1e15;
constexpr std::size_t kRevisionBytes = 64;

Result<NodeRole> role_from(const JsonFields& fields) {
  CELSLM_TRY(const std::string role, fields.required_text("role", 16));
  if (role == "cloud") return NodeRole::kCloud;
  if (role == "edge") return NodeRole::kEdge;
  return fields.expected("role", "'cloud' or 'edge'");
}

Result<std::vector<Hash256>> models_from(const JsonFields& fields) {
  CELSLM_TRY(const json* list, fields.required_list("models", kMaxRecordModels));
  std::vector<Hash256> out;
  for (const json& item : *list) {
    if (!item.is_string()) return fields.expected("models", "a list of model ids");
    CELSLM_TRY(out.emplace_back(), Hash256::from_hex(item.get_ref<const std::string&>()));
  }
  return out;
}

Status load_from(const JsonFields& fields, NodeRecord& out) {
  const auto count = [&](const char* name, int& value) -> Status {
    CELSLM_TRY(const auto given, fields.integer(name, 0, kMostRequests));
    value = static_cast<int>(given.value_or(0));
    return {};
  };
  const auto rate = [&](const char* name, double& value) -> Status {
    CELSLM_TRY(const auto given, fields.number(name, 0, kMostPerSecond));
    value = given.value_or(0);
    return {};
  };
  CELSLM_CHECK_OK(count("running", out.running));
  CELSLM_CHECK_OK(count("queued", out.queued));
  CELSLM_CHECK_OK(count("places", out.places));
  CELSLM_CHECK_OK(rate("prefill_tokens_per_s", out.prefill_tokens_per_s));
  CELSLM_CHECK_OK(rate("decode_tokens_per_s", out.decode_tokens_per_s));
  CELSLM_CHECK_OK(rate("link_bytes_per_s", out.link_bytes_per_s));
  CELSLM_TRY(const auto memory, fields.integer("free_memory_bytes", 0, kMostBytes));
  out.free_memory_bytes = static_cast<std::uint64_t>(memory.value_or(0));
  return {};
}

}  // namespace

const char* to_string(NodeRole role) {
  return role == NodeRole::kCloud ? "cloud" : "edge";
}

bool is_node_id(std::string_view id) {
  const auto allowed = [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; };
  return !id.empty() && id.size() <= kMaxNodeIdBytes && std::ranges::all_of(id, allowed);
}

std::string to_json_text(const NodeRecord& record) {
  json models = json::array();
  for (const Hash256& model : record.models) models.push_back(model.hex());
  return dump_json({{"id", record.id},
                    {"role", to_string(record.role)},
                    {"url", record.url},
                    {"models", std::move(models)},
                    {"running", record.running},
                    {"queued", record.queued},
                    {"places", record.places},
                    {"free_memory_bytes", std::min<std::uint64_t>(record.free_memory_bytes, kMostBytes)},
                    {"prefill_tokens_per_s", record.prefill_tokens_per_s},
                    {"decode_tokens_per_s", record.decode_tokens_per_s},
                    {"link_bytes_per_s", record.link_bytes_per_s},
                    {"held", record.held}});
}

Result<NodeRecord> parse_node_record(std::string_view text) {
  if (text.size() > kMaxRecordBytes)
    return fail(ErrorKind::kInvalid, "a node's record has more than {} bytes", kMaxRecordBytes);
  CELSLM_TRY(const json object, parse_object(text, kLimits));
  const JsonFields fields(object);
  NodeRecord out;
  CELSLM_TRY(out.id, fields.required_text("id", kMaxNodeIdBytes));
  if (!is_node_id(out.id)) return fields.expected("id", "1 to 64 letters, digits, '.', '_' or '-'");
  CELSLM_TRY(out.role, role_from(fields));
  CELSLM_TRY(out.url, fields.required_text("url", kMaxNodeUrlBytes));
  CELSLM_CHECK_OK(check_node_url(out.url));
  CELSLM_TRY(out.models, models_from(fields));
  CELSLM_CHECK_OK(load_from(fields, out));
  CELSLM_TRY(const auto held, fields.text("held", kRevisionBytes));
  out.held = held.value_or("");
  return out;
}

}  // namespace celslm
