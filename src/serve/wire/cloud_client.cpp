#include "serve/wire/cloud_client.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <random>

#include "core/file.h"
#include "core/json.h"
#include "net/access/caller.h"
#include "serve/wire/edge_header.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

// Calls are limited by how long nothing comes, not by how long all of it takes: a list of 10,000 contexts needs minutes on
// 64 kbit/s, and gets them.
constexpr auto kListStall = 15s;         // of the list, which nobody waits for and which may share a slow link with blocks
constexpr auto kAnswerStall = 3s;        // of responses that cost the cloud nothing: one that hangs must not block a request
constexpr auto kComputeStall = 60s;      // a cloud that tokenizes a text, or computes a layer, for longer counts as dead
constexpr auto kBlockStallTimeout = 3s;  // no byte of a block for this long: the link counts as dead
constexpr std::uint32_t kLeastBytesPerS = 64;  // one that sends a byte now and then must not hold a request for hours

// An answer with another status than those expected, as an error.
std::unexpected<Error> unexpected_status(const HttpAnswer& answer, const std::string& url, const std::string& path) {
  Error error = error_of_answer(answer.status, answer.body);
  return wrap(std::move(error), fmt::format("{}{} answered {}", url, path, answer.status));
}

// Items of a list in a JSON object, each through `parse`.
template <typename T, typename Parse>
Result<std::vector<T>> list_field(const json& object, const char* name, std::size_t limit, Parse parse) {
  CELSLM_TRY(const json* list, JsonFields(object).required_list(name, limit));
  std::vector<T> out;
  for (const json& item : *list) {
    CELSLM_TRY(T value, parse(item));
    out.push_back(std::move(value));
  }
  return out;
}

// Cuts a byte stream into fixed-size records.
class RecordSplitter {
 public:
  explicit RecordSplitter(std::size_t record_bytes) : record_bytes_(record_bytes) {}

  // False as soon as `use` returns false.
  bool add(ByteView piece, const std::function<bool(ByteView)>& use) {
    while (!piece.empty()) {
      const ByteView part = piece.first(std::min(piece.size(), record_bytes_ - held_.size()));
      held_.insert(held_.end(), part.begin(), part.end());
      piece = piece.subspan(part.size());
      if (held_.size() < record_bytes_) return true;
      const bool go_on = use(held_);
      held_.clear();
      if (!go_on) return false;
    }
    return true;
  }

 private:
  const std::size_t record_bytes_;
  Bytes held_;
};

std::map<std::string, std::string> for_tenant(const std::string& tenant) {
  if (tenant.empty()) return {};
  return {{kTenantHeader, tenant}};
}

std::string any_name() {
  return fmt::format("{:08x}", std::random_device()());
}

}  // namespace

CloudClient::CloudClient(std::unique_ptr<HttpClient> http, std::optional<PublicKey> pinned, std::filesystem::path key_file,
                         Log log)
    : http_(std::move(http)),
      key_file_(std::move(key_file)),
      pinned_(pinned.has_value()),
      log_(std::move(log)),
      versions_(log_),
      edge_(any_name()),
      key_(pinned),
      refusals_(log_) {}

CloudClient::CloudClient(std::unique_ptr<HttpClient> http, std::shared_ptr<CloudClient> cloud, Log log)
    : http_(std::move(http)),
      signer_(std::move(cloud)),
      log_(std::move(log)),
      versions_(log_),
      edge_(any_name()),
      refusals_(log_) {}

Result<HttpAnswer> CloudClient::get(const std::string& path, std::size_t max_body_bytes, std::stop_token stop,
                                    std::uint64_t expected_body_bytes) {
  CELSLM_TRY(HttpAnswer answer, http_->call({.path = path,
                                             .headers = {{kEdgeHeader, edge_}},
                                             .max_body_bytes = max_body_bytes,
                                             .expected_body_bytes = expected_body_bytes,
                                             .timeout = 0ms,
                                             .stall_bytes_per_s = kLeastBytesPerS,
                                             .stall_timeout = kAnswerStall,
                                             .stop = stop}));
  if (answer.status != 200 && answer.status != 202) return unexpected_status(answer, url(), path);
  return answer;
}

Result<CloudClient::ShownKey> CloudClient::ask_key() {
  constexpr std::size_t kMaxKeyAnswerBytes = 16U << 10;
  CELSLM_TRY(const HttpAnswer answer, get("/v1/key", kMaxKeyAnswerBytes));
  CELSLM_TRY(const json body, parse_object(as_text(answer.body)));
  const JsonFields fields(body);
  const auto hex = fields.required_text("public_key");
  if (!hex) return wrap(hex.error(), url() + "/v1/key");
  ShownKey out;
  CELSLM_TRY(out.key, PublicKey::from_hex(*hex));
  const auto links = fields.list("links", kMaxKeyLinks);
  if (!links) return wrap(links.error(), url() + "/v1/key");
  for (std::size_t i = 0; *links != nullptr && i < (*links)->size(); ++i) {
    const auto* text = (**links)[i].get_ptr<const std::string*>();
    if (text == nullptr) return wrap(fields.expected("links", "a list of texts").error(), url() + "/v1/key");
    CELSLM_TRY(out.links.emplace_back(), KeyLink::from_text(*text));
  }
  return out;
}

// Once. A key that was pinned is led on by the links in the file, which earlier runs have followed.
Status CloudClient::read_key_file() {
  if (key_file_read_) return {};
  auto kept = read_kept_key(key_file_);
  if (!kept && kept.error().kind != ErrorKind::kNotFound && !key_) return std::unexpected(std::move(kept).error());
  key_file_read_ = true;
  if (!kept) return {};
  kept_ = *std::move(kept);
  key_ = key_ ? led_on(*key_, kept_) : kept_.key;
  return {};
}

Result<PublicKey> CloudClient::known_key() {
  if (signer_) return signer_->known_key();
  const MutexLock lock(mutex_);
  CELSLM_CHECK_OK(read_key_file());
  if (key_) return *key_;
  return fail(ErrorKind::kNotFound, "the public key of {} is not known yet: the cloud has not been reached", url());
}

Result<PublicKey> CloudClient::key() {
  if (signer_) return signer_->key();
  auto known = known_key();
  if (known || known.error().kind != ErrorKind::kNotFound) return known;
  CELSLM_TRY(const ShownKey shown, ask_key());
  const MutexLock lock(mutex_);
  if (key_) return *key_;  // another thread has asked meanwhile
  log_->info("trusting the key {} that {} presents; stored in {}", shown.key.hex(), url(), key_file_.string());
  kept_ = {.key = shown.key};
  CELSLM_CHECK_OK(write_kept_key(key_file_, kept_));
  key_ = shown.key;
  return shown.key;
}

Status CloudClient::follow_key() {
  if (signer_) return signer_->follow_key();
  const auto known = known_key();
  if (!known && known.error().kind == ErrorKind::kNotFound) return key().transform([](const PublicKey&) {});
  if (!known) return std::unexpected(known.error());
  CELSLM_TRY(const ShownKey shown, ask_key());
  if (shown.key == *known) return {};
  const auto led = follow(*known, shown.links);
  if (led && *led == shown.key) return accept(shown, *known);
  const MutexLock lock(mutex_);
  if (refused_ != shown.key)
    log_->error("{} presents the key {}, which {} has not vouched for: its packs are refused", url(), shown.key.hex(),
                known->hex());
  refused_ = shown.key;
  return fail(ErrorKind::kMismatch, "{} presents another key than {}", url(), known->hex());
}

Status CloudClient::accept(const ShownKey& shown, const PublicKey& known) {
  const MutexLock lock(mutex_);
  if (key_ != known) return {};  // another thread has followed meanwhile
  log_->info("the key of {} is {} from now on, as {} has signed; stored in {}", url(), shown.key.hex(), known.hex(),
             key_file_.string());
  kept_.key = shown.key;
  PublicKey at = known;
  for (const KeyLink& link : shown.links) {
    if (link.from != at) continue;
    kept_.links.push_back(link);
    at = link.to;
  }
  CELSLM_CHECK_OK(write_kept_key(key_file_, kept_));
  key_ = shown.key;
  return {};
}

template <typename T>
Result<T> CloudClient::reported(Result<T> received) {
  if (!received && received.error().kind == ErrorKind::kMismatch)
    refusals_.refused(url(), "a pack that the cloud's key has not signed", std::chrono::steady_clock::now());
  return received;
}

void CloudClient::report_wrong_pack() {
  refusals_.refused(url(), "another pack than the one that was asked for", std::chrono::steady_clock::now());
}

Result<std::optional<ContextList>> CloudClient::contexts(const ListQuery& query) {
  HttpCall call{.path = "/v1/contexts",
                .headers = {{kEdgeHeader, edge_}},
                .max_body_bytes = kMaxListBytes,
                .timeout = query.limit,
                .stall_bytes_per_s = kLeastBytesPerS,
                .stall_timeout = kListStall + query.wait,
                .stop = query.stop};
  if (!query.since.empty()) {
    call.path += "?since=" + query.since;
    if (query.wait.count() > 0) call.path += fmt::format("&wait={}", query.wait.count());
    call.headers["if-none-match"] = '"' + query.since + '"';
  }
  CELSLM_TRY(const HttpAnswer answer, http_->call(call));
  if (answer.status == 304 && !query.since.empty()) return std::nullopt;
  if (answer.status != 200) return unexpected_status(answer, url(), "/v1/contexts");
  CELSLM_TRY(const json body, parse_object(as_text(answer.body)));
  auto list = context_list_from(body);
  if (!list) return wrap(std::move(list).error(), url() + "/v1/contexts");
  if (!list->complete() && list->since != query.since)
    return fail(ErrorKind::kInvalid, "{}/v1/contexts: changes since another revision than the one asked for", url());
  versions_.learned(list->pack_version, url());
  return *std::move(list);
}

Result<std::vector<HostedModel>> CloudClient::models() {
  CELSLM_TRY(const HttpAnswer answer, get("/v1/models", kMaxListBytes));
  CELSLM_TRY(const json body, parse_object(as_text(answer.body)));
  return list_field<HostedModel>(body, "models", kMaxHostedModels, hosted_model_from);
}

Result<std::string> CloudClient::context_text(const ContextHandle& handle, const std::string& tenant) {
  constexpr std::size_t kEscaped = 6;  // a byte may become \u00XX in JSON
  CELSLM_TRY(const HttpAnswer answer, get("/v1/contexts/" + handle.hex(), kMaxContextBytes * kEscaped));
  CELSLM_TRY(const json body, parse_object(as_text(answer.body)));
  auto text = JsonFields(body).required_text("text");
  if (!text) return wrap(std::move(text).error(), fmt::format("{}/v1/contexts/{}", url(), handle.hex()));
  if (context_handle(*text, tenant) != handle)
    return fail(ErrorKind::kMismatch, "{}: the text in the response does not have the handle {}", url(), handle.hex());
  return text;
}

Status CloudClient::remove_context(const ContextHandle& handle, const std::string& tenant) {
  const std::string path = "/v1/contexts/" + handle.hex();
  CELSLM_TRY(const HttpAnswer answer, http_->call({.method = "DELETE",
                                                   .path = path,
                                                   .headers = for_tenant(tenant),
                                                   .max_body_bytes = kMaxListBytes,
                                                   .timeout = 0ms,
                                                   .stall_timeout = kAnswerStall}));
  if (answer.status != 204) return unexpected_status(answer, url(), path);
  return {};
}

Result<ContextInfo> CloudClient::put_context(std::string_view text, std::string_view name, bool prefill,
                                             const std::string& tenant) {
  const json body = {{"text", text}, {"name", name}};
  const std::string path = prefill ? "/v1/contexts?prefill=1" : "/v1/contexts";
  CELSLM_TRY(const HttpAnswer answer, http_->call({.method = "POST",
                                                   .path = path,
                                                   .headers = for_tenant(tenant),
                                                   .body = dump_json(body),
                                                   .max_body_bytes = kMaxListBytes,
                                                   .timeout = 0ms,
                                                   .stall_timeout = kComputeStall}));
  if (answer.status != 200) return unexpected_status(answer, url(), "/v1/contexts");
  CELSLM_TRY(const json parsed, parse_object(as_text(answer.body)));
  return context_info_from(parsed);
}

Result<CloudClient::OpenedPack> CloudClient::open(const PackName& pack, std::stop_token stop) {
  CELSLM_CHECK_OK(versions_.check(url()));
  CELSLM_TRY(const PublicKey signer, key());
  CELSLM_TRY(HttpAnswer answer, get(pack_path(pack.handle, pack.model, pack.codec, "header", pack.made_with),
                                    kMaxHeaderBytes, stop, pack.header_bytes));
  if (answer.status == 202) {
    CELSLM_TRY(PackIdentity identity, reported(parse_preamble(answer.body, signer)));
    return OpenedPack{.identity = std::move(identity)};
  }
  CELSLM_TRY(PackHeader header, reported(parse_header(answer.body, signer)));
  return OpenedPack{
      .identity = std::move(header.identity), .blocks = std::move(header.blocks), .header = std::move(answer.body)};
}

// Splits a response into a pack's header and the bytes behind it. A response without a header is kept completely.
class HeaderSplitter {
 public:
  HeaderSplitter(const PublicKey& signer, const CloudClient::BlockReading& reading) : signer_(signer), reading_(reading) {}

  bool add(ByteView piece) {
    while (!opened_ && !piece.empty()) {
      const std::uint64_t wanted = needed();
      const ByteView part = piece.first(std::min<std::uint64_t>(piece.size(), wanted - held_.size()));
      held_.insert(held_.end(), part.begin(), part.end());
      piece = piece.subspan(part.size());
      if (held_.size() == wanted && is_header() && wanted == needed() && !open()) return false;
    }
    return piece.empty() || reading_.on_bytes(piece);
  }
  const Bytes& held() const { return held_; }
  bool opened() const { return opened_; }
  const std::optional<Error>& error() const { return error_; }

 private:
  bool is_header() const { return held_.size() >= kHeaderPrefixBytes && peek_header_bytes(held_).has_value(); }
  std::uint64_t needed() const {
    if (held_.size() < kHeaderPrefixBytes) return kHeaderPrefixBytes;
    const auto bytes = peek_header_bytes(held_);
    return bytes ? std::min(*bytes, kMaxHeaderBytes) : kMaxHeaderBytes;
  }
  bool open() {
    auto header = parse_header(held_, signer_);
    if (!header) {
      error_ = std::move(header).error();
      return false;
    }
    opened_ = true;
    return reading_.on_open(
        {.identity = std::move(header->identity), .blocks = std::move(header->blocks), .header = std::move(held_)});
  }

  const PublicKey& signer_;
  const CloudClient::BlockReading& reading_;
  Bytes held_;
  bool opened_ = false;
  std::optional<Error> error_;
};

Result<std::optional<PackIdentity>> CloudClient::open_reading(const PackName& pack, const BlockReading& reading,
                                                              std::stop_token stop) {
  CELSLM_CHECK_OK(versions_.check(url()));
  CELSLM_TRY(const PublicKey signer, key());
  const std::string part = fmt::format("header?blocks={}-{}", reading.first, reading.first + reading.count - 1);
  const std::string path = pack_path(pack.handle, pack.model, pack.codec, part, pack.made_with);
  HeaderSplitter splitter(signer, reading);
  const auto answer = http_->call({.path = path,
                                   .max_body_bytes = kMaxHeaderBytes + reading.max_bytes,
                                   .expected_body_bytes = pack.header_bytes > 0 ? pack.header_bytes + reading.max_bytes : 0,
                                   .timeout = 0ms,
                                   .stall_timeout = kBlockStallTimeout,
                                   .sink = [&](ByteView piece) { return splitter.add(piece); },
                                   .stop = stop});
  if (splitter.error()) return reported(Result<std::optional<PackIdentity>>(wrap(*splitter.error(), url() + path)));
  if (!answer) return std::unexpected(answer.error());
  if (answer->status != 200 && answer->status != 202) return unexpected_status(*answer, url(), path);
  if (splitter.opened()) return std::nullopt;
  if (answer->status == 200) {  // no header that can be read: parsing it tells why
    const auto header = reported(parse_header(splitter.held(), signer));
    if (!header) return wrap(header.error(), url() + path);
    return fail(ErrorKind::kInvalid, "{}{}: the response ended within a pack's header", url(), path);
  }
  CELSLM_TRY(PackIdentity identity, reported(parse_preamble(splitter.held(), signer)));
  return identity;
}

Status CloudClient::entries(const PackName& pack, const PackIdentity& identity, int from,
                            const std::function<bool(const SignedEntry&)>& on_entry, std::stop_token stop) {
  CELSLM_TRY(const PublicKey signer, key());
  const Hash256 pack_id = identity.id();  // over all its tokens: once, not for each entry
  RecordSplitter splitter(kSignedEntryBytes);
  std::optional<Error> bad;
  int next = from;
  const auto use = [&](ByteView record) {
    auto entry = parse_entry(record, identity, pack_id, signer);
    if (!entry) {
      bad = entry.error();
    } else if (static_cast<int>(entry->index) != next) {
      bad = Error{ErrorKind::kInvalid, fmt::format("received entry {}, expected entry {}", entry->index, next)};
    } else {
      ++next;
      return on_entry(*entry);
    }
    return false;
  };
  const std::string path =
      pack_path(pack.handle, pack.model, pack.codec, fmt::format("entries?from={}", from), pack.made_with);
  const auto n_entries = static_cast<std::uint64_t>(std::max(0, identity.n_blocks() - from));
  const auto answer = http_->call({.path = path,
                                   .expected_body_bytes = n_entries * kSignedEntryBytes,
                                   .timeout = 0ms,
                                   .stall_timeout = kComputeStall,
                                   .sink = [&](ByteView piece) { return splitter.add(piece, use); },
                                   .stop = stop});
  if (bad) return reported(Status(wrap(*bad, url() + path)));
  if (!answer) return std::unexpected(answer.error());
  if (answer->status != 200) return unexpected_status(*answer, url(), path);
  if (next != identity.n_blocks())
    return fail(ErrorKind::kUnavailable, "{}{}: the stream ended after {} of {} entries", url(), path, next,
                identity.n_blocks());
  return {};
}

Status CloudClient::blocks(const PackName& pack, ByteRange range, const std::function<bool(ByteView)>& on_bytes,
                           std::stop_token stop) {
  const std::string path = pack_path(pack.handle, pack.model, pack.codec, "blocks", pack.made_with);
  std::uint64_t left = range.end - range.first;
  CELSLM_TRY(const HttpAnswer answer, http_->call({.path = path,
                                                   .range = range,
                                                   .max_body_bytes = range.end - range.first,
                                                   .timeout = 0ms,
                                                   .stall_timeout = kBlockStallTimeout,
                                                   .sink =
                                                       [&](ByteView piece) {
                                                         left -= std::min<std::uint64_t>(left, piece.size());
                                                         return on_bytes(piece);
                                                       },
                                                   .stop = stop}));
  if (answer.status != 206) return unexpected_status(answer, url(), path);
  if (left > 0) return fail(ErrorKind::kInvalid, "{}{}: the response is {} bytes too short", url(), path, left);
  return {};
}

}  // namespace celslm
