#include "fleet/store/valkey_connection.h"

#include <fmt/format.h>
#include <hiredis/hiredis_ssl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "core/printable.h"

namespace celslm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr long long kMaxElements = 100'000;    // of an array in a reply, whose table is allocated before its elements come
constexpr std::size_t kReadBytes = 16U << 10;  // at a time: a record of TLS, so that none waits unseen in its buffer
constexpr std::size_t kGreetingBytes = 4096;   // "+OK", or an error

timeval as_timeval(milliseconds time) {
  return {.tv_sec = time.count() / 1000, .tv_usec = time.count() % 1000 * 1000};
}

// [host, port]
Result<HostAndPort> host_from(const redisReply& reply, const std::string& name) {
  if (reply.type == REDIS_REPLY_ERROR) return std::unexpected(error_of_reply(reply));
  const bool fine = reply.type == REDIS_REPLY_ARRAY && reply.elements == 2 && reply.element[0]->type == REDIS_REPLY_STRING &&
                    reply.element[1]->type == REDIS_REPLY_STRING;
  if (!fine) return fail(ErrorKind::kUnavailable, "the sentinel knows no server '{}'", name);
  HostAndPort out{.host = std::string(reply.element[0]->str, reply.element[0]->len)};
  const std::string_view port(reply.element[1]->str, reply.element[1]->len);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (error != std::errc() || out.port < 1 || out.port > 65535 || out.host.contains('\0'))
    return fail(ErrorKind::kInvalid, "the sentinel names no port of the server '{}'", name);
  return out;
}

}  // namespace

struct ValkeyConnection::Tls {
  ~Tls() {
    if (context) redisFreeSSLContext(context);
  }
  redisSSLContext* context = nullptr;
};

Error error_of_reply(const redisReply& reply) {
  const std::string_view text(reply.str, reply.len);
  const auto begins = [text](std::string_view code) { return text.starts_with(code); };
  ErrorKind kind = ErrorKind::kUnavailable;  // LOADING, READONLY, MASTERDOWN, ...
  if (begins("NOAUTH") || begins("WRONGPASS") || begins("NOPERM")) kind = ErrorKind::kUnauthorized;
  if (begins("OOM")) kind = ErrorKind::kOverloaded;
  if (begins("WRONGTYPE")) kind = ErrorKind::kInvalid;
  return {kind, "the directory's server answered: " + printable(text)};
}

ValkeyConnection::ValkeyConnection(const ValkeyLimits& limits) : limits_(limits) {}
ValkeyConnection::~ValkeyConnection() = default;

Result<std::unique_ptr<ValkeyConnection>> ValkeyConnection::open(const ValkeyAddress& address, const ValkeyLimits& limits) {
  if (address.sentinels.empty()) return open_one(address, limits);
  CELSLM_TRY(HostAndPort at, ask_sentinels(address, limits));
  ValkeyAddress server = address;
  server.sentinels.clear();
  server.host = std::move(at.host);
  server.port = at.port;
  return open_one(server, limits);
}

// The first one that answers knows; they want neither the server's password nor a database.
Result<HostAndPort> ValkeyConnection::ask_sentinels(const ValkeyAddress& address, const ValkeyLimits& limits) {
  Result<HostAndPort> out = fail(ErrorKind::kUnavailable, "{}: no sentinel is known", address.text());
  for (const HostAndPort& sentinel : address.sentinels) {
    auto connection =
        open_one({.host = sentinel.host, .port = sentinel.port, .tls = address.tls, .ca_file = address.ca_file}, limits);
    const ValkeyCommand question{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.name};
    auto replies = connection ? (*connection)->call(std::span(&question, 1), kGreetingBytes)
                              : Result<std::vector<ValkeyReply>>(std::unexpected(connection.error()));
    out = replies ? host_from(*replies->front(), address.name) : std::unexpected(replies.error());
    if (out) return out;
  }
  return out;
}

Result<std::unique_ptr<ValkeyConnection>> ValkeyConnection::open_one(const ValkeyAddress& address,
                                                                     const ValkeyLimits& limits) {
  std::unique_ptr<ValkeyConnection> out(new ValkeyConnection(limits));
  CELSLM_CHECK_OK(out->connect(address));
  if (address.tls) CELSLM_CHECK_OK(out->start_tls(address));
  CELSLM_CHECK_OK(out->greet(address));
  return out;
}

std::unexpected<Error> ValkeyConnection::broken(std::string_view what) const {
  return fail(ErrorKind::kUnavailable, "{}: {}", name_, what);
}

Status ValkeyConnection::connect(const ValkeyAddress& address) {
  name_ = address.text();
  const timeval connect_limit = as_timeval(limits_.connect);
  const timeval call_limit = as_timeval(limits_.call);
  redisOptions options{};
  REDIS_OPTIONS_SET_TCP(&options, address.host.c_str(), address.port);
  options.connect_timeout = &connect_limit;
  options.command_timeout = &call_limit;
  context_.reset(redisConnectWithOptions(&options));
  if (!context_) return broken("no memory to connect");
  if (context_->err != 0) return broken(context_->errstr);
  context_->reader->maxelements = kMaxElements;
  return {};
}

Status ValkeyConnection::start_tls(const ValkeyAddress& address) {
  tls_ = std::make_unique<Tls>();
  redisInitOpenSSL();
  redisSSLContextError error = REDIS_SSL_CTX_NONE;
  const char* const ca = address.ca_file.empty() ? nullptr : address.ca_file.c_str();
  const char* const system_folder = address.ca_file.empty() ? "/etc/ssl/certs" : nullptr;
  tls_->context = redisCreateSSLContext(ca, system_folder, nullptr, nullptr, address.host.c_str(), &error);
  if (!tls_->context) return broken(redisSSLContextGetError(error));
  if (redisInitiateSSLWithContext(context_.get(), tls_->context) != REDIS_OK) return broken(context_->errstr);
  return {};
}

// Password and database.
Status ValkeyConnection::greet(const ValkeyAddress& address) {
  std::vector<ValkeyCommand> commands;
  if (!address.password.empty()) commands.push_back({"AUTH", address.password});
  if (address.database != 0) commands.push_back({"SELECT", std::to_string(address.database)});
  CELSLM_TRY(const auto replies, call(commands, kGreetingBytes));
  for (const ValkeyReply& reply : replies) {
    if (reply->type == REDIS_REPLY_ERROR) return wrap(error_of_reply(*reply), name_);
  }
  return {};
}

Result<std::vector<ValkeyReply>> ValkeyConnection::call(std::span<const ValkeyCommand> commands, std::size_t max_bytes,
                                                        milliseconds wait) {
  const Time until = steady_clock::now() + limits_.call + wait;
  for (const ValkeyCommand& command : commands) {
    std::vector<const char*> words;
    std::vector<std::size_t> lengths;
    for (const std::string& word : command) {
      words.push_back(word.data());
      lengths.push_back(word.size());
    }
    const int count = static_cast<int>(words.size());
    if (redisAppendCommandArgv(context_.get(), count, words.data(), lengths.data()) != REDIS_OK)
      return broken("no memory for a command");
  }
  CELSLM_CHECK_OK(send());
  std::vector<ValkeyReply> out;
  for (std::size_t i = 0; i < commands.size(); ++i) {
    CELSLM_TRY(out.emplace_back(), receive(max_bytes, until));
  }
  return out;
}

Status ValkeyConnection::send() {
  for (int done = 0; done == 0;) {
    if (redisBufferWrite(context_.get(), &done) != REDIS_OK) return broken(context_->errstr);
  }
  return {};
}

Result<ValkeyReply> ValkeyConnection::receive(std::size_t& bytes_left, Time until) {
  for (;;) {
    void* reply = nullptr;
    if (redisReaderGetReply(context_->reader, &reply) != REDIS_OK)
      return fail(ErrorKind::kInvalid, "{}: not the protocol of a Valkey server: {}", name_,
                  printable(context_->reader->errstr));
    if (reply != nullptr) return ValkeyReply(static_cast<redisReply*>(reply));
    CELSLM_CHECK_OK(read_some(bytes_left, until));
  }
}

// hiredis' own reading has neither a limit of bytes nor one for the time of a complete reply.
Status ValkeyConnection::read_some(std::size_t& bytes_left, Time until) {
  const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
  pollfd readable{.fd = context_->fd, .events = POLLIN, .revents = 0};
  if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) == 0) return broken("no answer in time");
  std::array<char, kReadBytes> piece{};
  const ssize_t n = context_->funcs->read(context_.get(), piece.data(), piece.size());
  if (n < 0) return broken(context_->errstr);
  const auto bytes = static_cast<std::size_t>(n);
  if (bytes > bytes_left) return fail(ErrorKind::kInvalid, "{}: a reply is larger than its limit", name_);
  bytes_left -= bytes;
  if (redisReaderFeed(context_->reader, piece.data(), bytes) != REDIS_OK) return broken("no memory for a reply");
  return {};
}

}  // namespace celslm
