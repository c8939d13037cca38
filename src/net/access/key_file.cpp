#include "net/access/key_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>

#include "core/bytes.h"
#include "core/file.h"
#include "core/json.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::array<std::string_view, 9> kFields{
    "name", "key", "key_hash", "tenant", "policy", "requests_per_minute", "tokens_per_minute", "concurrency", "operator"};
constexpr std::array<std::string_view, 3> kPolicies{"edge-only", "fleet", "cloud"};

bool is_key(std::string_view text) {
  return text.size() >= kMinKeyBytes && std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || std::string_view("-._~+/=").contains(static_cast<char>(c));
         });
}

Status check_fields(const json& object) {
  for (const auto& [name, value] : object.items()) {
    if (!std::ranges::contains(kFields, name))
      return fail(ErrorKind::kInvalid,
                  "a key has no field '{}'; its fields are name, key or key_hash, tenant, policy, "
                  "requests_per_minute, tokens_per_minute, concurrency, operator",
                  name);
  }
  return {};
}

Status read_secret(const JsonFields& fields, AccessKey& out) {
  CELSLM_TRY(const auto clear, fields.text("key", kMaxKeyBytes));
  if (clear.has_value() == (fields.find("key_hash") != nullptr))
    return fail(ErrorKind::kInvalid, "expected one of 'key' and 'key_hash'");
  out.is_hashed = !clear;
  if (clear && !is_key(*clear))
    return fields.expected("key", "at least 16 letters, digits and -._~+/= ('celslm key new' makes one)");
  if (clear) {
    out.hash = hash_of(*clear);
    return {};
  }
  CELSLM_TRY(out.hash, fields.required_hash("key_hash"));
  return {};
}

Result<AccessKey> key_from(const json& object) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(object, "keys[]"));
  AccessKey out;
  CELSLM_TRY(out.name, fields.required_text("name", kMaxKeyNameBytes));
  if (out.name.empty() || !is_key_name(out.name)) return fields.expected("name", "letters, digits and -_.@");
  if (out.name == "token") return fields.expected("name", "another one: 'token' is the server's own (--token-file)");
  CELSLM_CHECK_OK(check_fields(object));
  CELSLM_CHECK_OK(read_secret(fields, out));
  CELSLM_TRY(const auto tenant, fields.text("tenant", kMaxKeyNameBytes));
  out.tenant = tenant.value_or("");
  if (!is_key_name(out.tenant)) return fields.expected("tenant", "letters, digits and -_.@");
  CELSLM_TRY(const auto policy, fields.text("policy"));
  out.widest_policy = policy.value_or("");
  if (policy && !std::ranges::contains(kPolicies, *policy)) return fields.expected("policy", "edge-only, fleet or cloud");
  for (const auto& [name, value] :
       {std::pair("requests_per_minute", &out.limits.requests_per_minute),
        std::pair("tokens_per_minute", &out.limits.tokens_per_minute), std::pair("concurrency", &out.limits.concurrency)}) {
    CELSLM_TRY(const auto limit, fields.integer(name, 1, kMaxKeyLimit));
    *value = limit.value_or(0);
  }
  CELSLM_TRY(const auto is_operator, fields.flag("operator"));
  out.is_operator = is_operator.value_or(false);
  return out;
}

json to_json(const AccessKey& key) {
  json out{{"name", key.name}, {"key_hash", key.hash.hex()}};
  if (!key.tenant.empty()) out["tenant"] = key.tenant;
  if (!key.widest_policy.empty()) out["policy"] = key.widest_policy;
  if (key.limits.requests_per_minute > 0) out["requests_per_minute"] = key.limits.requests_per_minute;
  if (key.limits.tokens_per_minute > 0) out["tokens_per_minute"] = key.limits.tokens_per_minute;
  if (key.limits.concurrency > 0) out["concurrency"] = key.limits.concurrency;
  if (key.is_operator) out["operator"] = true;
  return out;
}

// The file's document, checked; one without keys if there is no file.
Result<json> read_document(const fs::path& path) {
  const auto bytes = read_file(path, kMaxKeyFileBytes);
  if (!bytes && bytes.error().kind == ErrorKind::kNotFound) return json{{"keys", json::array()}};
  if (!bytes) return std::unexpected(bytes.error());
  if (const auto keys = parse_keys(as_text(*bytes)); !keys) return wrap(keys.error(), path.string());
  return parse_object(as_text(*bytes));
}

Status write_document(const fs::path& path, const json& document) {
  const std::string text = document.dump(2) + "\n";
  CELSLM_TRY(const auto file, AtomicFile::create(path, text.size(), 0600));
  CELSLM_CHECK_OK(file->write_at(0, as_bytes(text)));
  return file->commit();
}

}  // namespace

bool is_key_name(std::string_view name) {
  return name.size() <= kMaxKeyNameBytes && std::ranges::all_of(name, [](unsigned char c) {
           return std::isalnum(c) != 0 || std::string_view("-_.@").contains(static_cast<char>(c));
         });
}

Result<std::vector<AccessKey>> parse_keys(std::string_view text) {
  CELSLM_TRY(const json object, parse_object(text));
  for (const auto& [name, value] : object.items()) {
    if (name != "keys") return fail(ErrorKind::kInvalid, "the only field is 'keys', not '{}'", name);
  }
  CELSLM_TRY(const json* list, JsonFields(object).required_list("keys", kMaxKeys));
  std::vector<AccessKey> out;
  std::set<std::string> names;
  std::set<Hash256> hashes;
  for (const json& item : *list) {
    auto key = key_from(item);
    if (!key) return wrap(std::move(key).error(), fmt::format("key {} of {}", out.size() + 1, list->size()));
    if (!names.insert(key->name).second) return fail(ErrorKind::kInvalid, "two keys have the name '{}'", key->name);
    if (!hashes.insert(key->hash).second)
      return fail(ErrorKind::kInvalid, "the key '{}' is the same as an earlier one's", key->name);
    out.push_back(*std::move(key));
  }
  return out;
}

Result<std::vector<AccessKey>> read_keys(const fs::path& path) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxKeyFileBytes));
  auto keys = parse_keys(as_text(bytes));
  if (!keys) return wrap(std::move(keys).error(), path.string());
  struct stat info{};
  const bool shared = ::stat(path.c_str(), &info) == 0 && (info.st_mode & (S_IRWXG | S_IRWXO)) != 0;
  if (shared && !std::ranges::all_of(*keys, &AccessKey::is_hashed)) {
    return fail(ErrorKind::kInvalid, "{}: other users may read the keys in it; run: chmod 600 {}, or have hashes in it",
                path.string(), path.string());
  }
  return keys;
}

Status append_key(const fs::path& path, const AccessKey& key) {
  CELSLM_TRY(json document, read_document(path));
  json& keys = document["keys"];
  for (const json& known : keys) {
    if (known["name"] == key.name) return fail(ErrorKind::kInvalid, "{} has a key '{}' already", path.string(), key.name);
  }
  if (keys.size() >= kMaxKeys)
    return fail(ErrorKind::kInvalid, "{} has {} keys, and may not have more", path.string(), kMaxKeys);
  keys.push_back(to_json(key));
  return write_document(path, document);
}

Status remove_key(const fs::path& path, std::string_view name) {
  CELSLM_TRY(json document, read_document(path));
  json kept = json::array();
  for (const json& known : document["keys"]) {
    if (known["name"] != name) kept.push_back(known);
  }
  if (kept.size() == document["keys"].size()) return fail(ErrorKind::kNotFound, "{} has no key '{}'", path.string(), name);
  document["keys"] = std::move(kept);
  return write_document(path, document);
}

Result<std::string> draw_key() {
  std::array<std::uint8_t, 32> bits{};
  if (::getentropy(bits.data(), bits.size()) != 0) return fail(ErrorKind::kIo, "the system provides no random numbers");
  return "celslm-" + to_hex(bits);
}

}  // namespace celslm
