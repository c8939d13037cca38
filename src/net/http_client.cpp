#include "net/http_client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "core/text.h"
#include "net/address.h"
#include "net/http_limits.h"

namespace celslm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Time = steady_clock::time_point;

struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};

// The curl handles for one call at a time. The multi handle owns the kept-alive connection and lets another thread wake the
// wait.
struct Channel {
  std::unique_ptr<CURLM, FreeMulti> multi;  // before easy: destroyed after it
  std::unique_ptr<CURL, FreeEasy> easy;
};

// Attaches the easy handle for one call; the connection stays with the multi handle.
class Attached {
 public:
  explicit Attached(const Channel& channel) : channel_(channel) {
    curl_multi_add_handle(channel.multi.get(), channel.easy.get());
  }
  ~Attached() { curl_multi_remove_handle(channel_.multi.get(), channel_.easy.get()); }
  Attached(const Attached&) = delete;
  Attached& operator=(const Attached&) = delete;

 private:
  const Channel& channel_;
};

std::string_view trim(std::string_view text) {
  return trimmed(text, " \t\n\v\f\r");
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// No control characters, which could end a header line or a request line.
bool is_plain(std::string_view text) {
  return std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

// Receives the response of one call and checks it as it arrives.
class Receiver {
 public:
  Receiver(const HttpCall& call, const std::string& url) : call_(call), url_(url) {}

  bool take_header_line(std::string_view line);
  bool take_body(std::string_view piece);
  bool finish();  // after a transfer without errors

  std::optional<Error> error;
  HttpAnswer answer;
  steady_clock::duration in_sink{0};  // time spent in the caller's sink, which does not count as a stall
  std::uint64_t framing_bytes = 0;    // of a chunked body, at most: curl does not count them

 private:
  bool refuse(ErrorKind kind, std::string_view what) {
    error = Error{kind, fmt::format("{}: {}", url_, what)};
    return false;
  }
  bool begin_body();
  bool is_success() const { return answer.status >= 200 && answer.status < 300; }

  const HttpCall& call_;
  const std::string& url_;
  std::size_t head_bytes_ = 0;
  bool head_complete_ = false;  // curl treats a connection closed within the head as the end of a response without body
  bool in_body_ = false;
};

bool Receiver::take_header_line(std::string_view line) {
  head_bytes_ += line.size();
  if (head_bytes_ > kMaxAnswerHeadBytes)
    return refuse(ErrorKind::kInvalid, fmt::format("the response has headers of more than {} bytes", kMaxAnswerHeadBytes));
  if (line.starts_with("HTTP/")) {  // of an interim response (100) or of the final one
    answer.headers.clear();
    answer.status = 0;
    head_complete_ = false;
    const std::size_t space = std::min(line.find(' '), line.size());
    const std::string_view code = trim(line.substr(space)).substr(0, 3);
    std::from_chars(code.data(), code.data() + code.size(), answer.status);
    return true;
  }
  if (trim(line).empty()) head_complete_ = true;
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || in_body_) return true;  // the blank line, or a trailer, which is ignored
  std::string& slot = answer.headers[lower(trim(line.substr(0, colon)))];
  slot += (slot.empty() ? "" : ", ") + std::string(trim(line.substr(colon + 1)));
  return true;
}

// Checks what depends on the head alone, before any byte of the body reaches the caller.
bool Receiver::begin_body() {
  if (in_body_) return true;
  in_body_ = true;
  if (!call_.range || answer.status >= 400) return true;
  if (answer.status != 206)
    return refuse(ErrorKind::kInvalid, fmt::format("expected status 206 for a range request, got {}", answer.status));
  const std::string wanted = fmt::format("bytes {}-{}/", call_.range->first, call_.range->end - 1);
  const auto it = answer.headers.find("content-range");
  if (it == answer.headers.end() || !lower(it->second).starts_with(wanted)) {
    return refuse(ErrorKind::kInvalid, fmt::format("expected {}, got another range", wanted.substr(0, wanted.size() - 1)));
  }
  return true;
}

bool Receiver::take_body(std::string_view piece) {
  constexpr std::uint64_t kChunkFraming = 12;  // a length in hex digits and two line ends
  if (!begin_body()) return false;
  if (answer.headers.contains("transfer-encoding")) framing_bytes += kChunkFraming;
  const std::uint64_t total = answer.bytes_received + piece.size();
  std::uint64_t limit = call_.max_body_bytes;
  if (call_.range)
    limit = is_success() ? call_.range->end - call_.range->first : std::min<std::uint64_t>(limit, kMaxErrorBodyBytes);
  if (total > limit) return refuse(ErrorKind::kInvalid, fmt::format("the response has more than {} bytes", limit));
  answer.bytes_received = total;
  if (!call_.sink || !is_success()) {
    answer.body.insert(answer.body.end(), as_bytes(piece).begin(), as_bytes(piece).end());
    return true;
  }
  const Time before = steady_clock::now();
  bool go_on = false;
  try {
    go_on = call_.sink(as_bytes(piece));
  } catch (...) {  // must not pass through curl's C frames
    return refuse(ErrorKind::kInternal, "the body sink threw an exception");
  }
  in_sink += steady_clock::now() - before;
  return go_on || refuse(ErrorKind::kCancelled, "cancelled by the body sink");
}

bool Receiver::finish() {
  if (!head_complete_) return refuse(ErrorKind::kUnavailable, "the connection was closed within the headers");
  if (!begin_body()) return false;
  if (call_.range && answer.status == 206) {
    const std::uint64_t wanted = call_.range->end - call_.range->first;
    if (answer.bytes_received != wanted) {
      return refuse(ErrorKind::kInvalid, fmt::format("expected a range of {} bytes, got {}", wanted, answer.bytes_received));
    }
  }
  return true;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* receiver) {
  const std::size_t n = size * count;
  return static_cast<Receiver*>(receiver)->take_header_line({data, n}) ? n : CURL_WRITEFUNC_ERROR;
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* receiver) {
  const std::size_t n = size * count;
  return static_cast<Receiver*>(receiver)->take_body({data, n}) ? n : CURL_WRITEFUNC_ERROR;
}

// Timeouts in milliseconds; curl's own low-speed options count in seconds.
class Watch {
 public:
  Watch(const HttpCall& call, Time now) : call_(call), window_start_(now) {
    if (call.timeout.count() > 0) deadline_ = now + call.timeout;
  }

  bool expired(Time now) const { return now >= deadline_; }
  // True if too few bytes were transferred, in both directions together, during the last complete window.
  bool stalled(Time now, std::uint64_t moved_bytes, steady_clock::duration in_sink) {
    if (call_.stall_bytes_per_s == 0) return false;
    window_start_ += in_sink - in_sink_;
    in_sink_ = in_sink;
    if (now - window_start_ < call_.stall_timeout) return false;
    const auto needed = static_cast<std::uint64_t>(call_.stall_timeout.count()) * call_.stall_bytes_per_s / 1000;
    const bool too_few = moved_bytes - window_bytes_ < std::max<std::uint64_t>(1, needed);
    window_start_ = now;
    window_bytes_ = moved_bytes;
    return too_few;
  }
  milliseconds next_wait(Time now) const {
    Time next = std::min(deadline_, now + milliseconds(1000));
    if (call_.stall_bytes_per_s > 0) next = std::min(next, window_start_ + call_.stall_timeout);
    return std::max(milliseconds(1), std::chrono::ceil<milliseconds>(next - now));
  }

 private:
  const HttpCall& call_;
  Time deadline_ = Time::max();
  Time window_start_;
  std::uint64_t window_bytes_ = 0;
  steady_clock::duration in_sink_{0};
};

HttpTraffic traffic_of(CURL* easy, const Receiver& receiver) {
  curl_off_t down = 0;
  curl_off_t up = 0;
  long head = 0;
  long request = 0;
  curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
  curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &up);
  curl_easy_getinfo(easy, CURLINFO_HEADER_SIZE, &head);
  curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &request);
  return {.sent = static_cast<std::uint64_t>(request) + static_cast<std::uint64_t>(up),
          .received = static_cast<std::uint64_t>(head) + static_cast<std::uint64_t>(down) + receiver.framing_bytes};
}

class CurlClient final : public HttpClient {
 public:
  explicit CurlClient(HttpClientOptions options) : options_(std::move(options)) {}
  Result<HttpAnswer> call(const HttpCall& call) override;
  std::string base_url() const override { return options_.base_url; }

 private:
  Result<std::unique_ptr<Channel>> take_channel();
  void put_back(std::unique_ptr<Channel> channel);
  Status set_up(CURL* easy, const HttpCall& call, const std::string& url, Receiver& receiver) const;
  Result<std::unique_ptr<curl_slist, FreeList>> headers(const HttpCall& call) const;
  Status run(const Channel& channel, const HttpCall& call, const std::string& url, Receiver& receiver) const;
  Status drive(const Channel& channel, const HttpCall& call, const std::string& url, Receiver& receiver) const;

  const HttpClientOptions options_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Channel>> idle_ CELSLM_GUARDED_BY(mutex_);  // the most recently used last
};

Result<std::unique_ptr<Channel>> CurlClient::take_channel() {
  {
    const MutexLock lock(mutex_);
    if (!idle_.empty()) {
      auto out = std::move(idle_.back());
      idle_.pop_back();
      return out;
    }
  }
  auto out = std::make_unique<Channel>();
  out->multi.reset(curl_multi_init());
  out->easy.reset(curl_easy_init());
  if (!out->multi || !out->easy) return fail(ErrorKind::kOverloaded, "out of memory for another connection");
  return out;
}

void CurlClient::put_back(std::unique_ptr<Channel> channel) {
  curl_easy_reset(channel->easy.get());  // clears pointers into this call; keeps connections and TLS sessions
  const MutexLock lock(mutex_);
  if (idle_.size() < kMaxIdleChannels) idle_.push_back(std::move(channel));
}

Result<std::unique_ptr<curl_slist, FreeList>> CurlClient::headers(const HttpCall& call) const {
  std::vector<std::string> lines{"Expect:"};  // no round trip before the body
  if (!call.body.empty()) lines.push_back("Content-Type: " + call.content_type);
  if (!options_.bearer_token.empty()) lines.push_back("Authorization: Bearer " + options_.bearer_token);
  for (const auto& [name, value] : call.headers) lines.push_back(name + (value.empty() ? ";" : ": " + value));
  std::unique_ptr<curl_slist, FreeList> out;
  for (const std::string& line : lines) {
    if (!is_plain(line)) return fail(ErrorKind::kInvalid, "a request header contains control characters");
    curl_slist* longer = curl_slist_append(out.get(), line.c_str());
    if (longer == nullptr) return fail(ErrorKind::kOverloaded, "out of memory for the request headers");
    static_cast<void>(out.release());
    out.reset(longer);
  }
  return out;
}

Status CurlClient::set_up(CURL* easy, const HttpCall& call, const std::string& url, Receiver& receiver) const {
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION,
                   0L);                       // following could send the token elsewhere: the caller gets the 3xx
  curl_easy_setopt(easy, CURLOPT_PROXY, "");  // nodes connect directly, whatever proxy the environment names
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // cancelling does not wait for a slow name server
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(call.connect_timeout.count()));
  if (!options_.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, options_.ca_file.c_str());
  if (!options_.certificate_file.empty()) {
    curl_easy_setopt(easy, CURLOPT_SSLCERT, options_.certificate_file.c_str());
    curl_easy_setopt(easy, CURLOPT_SSLKEY, options_.key_file.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &receiver);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &receiver);
  if (!call.body.empty() || call.method == "POST" || call.method == "PUT" || call.method == "PATCH") {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(call.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call.body.data());
  }
  if (call.method == "HEAD") curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call.method.c_str());
  if (call.range) {
    curl_easy_setopt(easy, CURLOPT_RANGE, fmt::format("{}-{}", call.range->first, call.range->end - 1).c_str());
  }
  return {};
}

Status CurlClient::run(const Channel& channel, const HttpCall& call, const std::string& url, Receiver& receiver) const {
  const Attached attached(channel);
  const Status status = drive(channel, call, url, receiver);
  if (call.watch) call.watch(traffic_of(channel.easy.get(), receiver));
  return status;
}

// Until the transfer completes, is cancelled, times out, stalls or fails.
Status CurlClient::drive(const Channel& channel, const HttpCall& call, const std::string& url, Receiver& receiver) const {
  CURLM* multi = channel.multi.get();
  const std::stop_callback wake(call.stop, [multi] { curl_multi_wakeup(multi); });
  Watch watch(call, steady_clock::now());
  int running = 1;
  while (true) {
    if (call.stop.stop_requested()) return fail(ErrorKind::kCancelled, "{}: cancelled", url);
    curl_multi_perform(multi, &running);
    if (receiver.error) return std::unexpected(*receiver.error);
    if (running == 0) break;
    const HttpTraffic moved = traffic_of(channel.easy.get(), receiver);
    if (call.watch && !call.watch(moved))
      return fail(ErrorKind::kCancelled, "{}: cancelled after {} bytes", url, moved.total());
    const Time now = steady_clock::now();
    if (watch.expired(now))
      return fail(ErrorKind::kUnavailable, "{}: no complete response within {} ms", url, call.timeout.count());
    if (watch.stalled(now, moved.total(), receiver.in_sink)) {
      return fail(ErrorKind::kUnavailable, "{}: stalled: under {} bytes/s for {} ms", url, call.stall_bytes_per_s,
                  call.stall_timeout.count());
    }
    curl_multi_poll(multi, nullptr, 0, static_cast<int>(watch.next_wait(now).count()), nullptr);
  }
  int left = 0;
  const CURLMsg* message = curl_multi_info_read(multi, &left);
  const CURLcode code = message != nullptr ? message->data.result : CURLE_FAILED_INIT;
  if (code != CURLE_OK) return fail(ErrorKind::kUnavailable, "{}: {}", url, curl_easy_strerror(code));
  if (!receiver.finish()) return std::unexpected(*receiver.error);
  return {};
}

Result<HttpAnswer> CurlClient::call(const HttpCall& call) {
  const std::string url = options_.base_url + call.path;
  if (!call.path.starts_with('/') || !is_plain(call.path) || call.path.contains(' ')) {
    return fail(ErrorKind::kInvalid, "'{}' is not a path: it must begin with '/' and must not contain spaces", call.path);
  }
  if (call.method.empty() || !std::ranges::all_of(call.method, [](unsigned char c) { return std::isupper(c) != 0; })) {
    return fail(ErrorKind::kInvalid, "'{}' is not an HTTP method: it must consist of upper-case letters", call.method);
  }
  if (call.range && call.range->first >= call.range->end)
    return fail(ErrorKind::kInvalid, "{}: the requested range is empty", url);
  CELSLM_TRY(auto list, headers(call));
  CELSLM_TRY(auto channel, take_channel());
  Receiver receiver(call, url);
  CELSLM_CHECK_OK(set_up(channel->easy.get(), call, url, receiver));
  curl_easy_setopt(channel->easy.get(), CURLOPT_HTTPHEADER, list.get());
  const Status status = run(*channel, call, url, receiver);
  // After an aborted transfer curl closes the connection automatically; the handles can be reused either way.
  put_back(std::move(channel));
  if (!status) return std::unexpected(status.error());
  return std::move(receiver.answer);
}

// One part of a URL, in lower case where it is the scheme or the host; nullopt where it has none.
std::optional<std::string> part_of(CURLU* url, CURLUPart part) {
  char* value = nullptr;
  const CURLUcode code = curl_url_get(url, part, &value, 0);
  std::optional<std::string> out;
  if (code == CURLUE_OK && value != nullptr) out = value;
  curl_free(value);
  return out;
}

// Without a user's name and password, which do not belong in messages.
std::string without_credentials(const std::string& url) {
  const std::size_t mark = url.find("://");
  const std::size_t begin = mark == std::string::npos ? 0 : mark + 3;
  const std::size_t at = url.rfind('@');
  return at == std::string::npos || at < begin ? url : url.substr(0, begin) + "..." + url.substr(at);
}

Status check_base_url(const HttpClientOptions& options) {
  const std::string& text = options.base_url;
  const std::unique_ptr<CURLU, FreeUrl> url(curl_url());
  const auto bad = [&](const char* why) {
    return fail(ErrorKind::kInvalid, "'{}': {}: expected http://HOST:PORT or https://…", without_credentials(text), why);
  };
  if (!url || !is_plain(text) || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
    return bad("not a URL");
  const std::string scheme = part_of(url.get(), CURLUPART_SCHEME).value_or("");
  if (scheme != "http" && scheme != "https") return bad("neither http nor https");
  for (const CURLUPart part : {CURLUPART_QUERY, CURLUPART_FRAGMENT, CURLUPART_USER, CURLUPART_PASSWORD}) {
    if (part_of(url.get(), part)) return bad("a base URL must not have a user, query or fragment");
  }
  const bool leaves = scheme == "http" && !is_loopback(part_of(url.get(), CURLUPART_HOST).value_or(""));
  if (leaves && !options.bearer_token.empty() && !options.token_in_clear)
    return fail(
        ErrorKind::kInvalid,
        "'{}': the token would cross the network where others can read it: use https://, or allow it (--token-in-clear)",
        text);
  return {};
}

}  // namespace

Result<std::unique_ptr<HttpClient>> make_http_client(const HttpClientOptions& options) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (initialised != CURLE_OK) return fail(ErrorKind::kInternal, "libcurl: {}", curl_easy_strerror(initialised));
  CELSLM_CHECK_OK(check_base_url(options));
  if (options.certificate_file.empty() != options.key_file.empty())
    return fail(ErrorKind::kInvalid, "a client certificate needs its key, and the key its certificate");
  for (const std::string& file : {options.ca_file, options.certificate_file, options.key_file}) {
    if (!file.empty() && !std::filesystem::is_regular_file(file))
      return fail(ErrorKind::kNotFound, "{}: no such certificate file", file);
  }
  HttpClientOptions clean = options;
  while (clean.base_url.ends_with('/')) clean.base_url.pop_back();
  return std::make_unique<CurlClient>(std::move(clean));
}

}  // namespace celslm
