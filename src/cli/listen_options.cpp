#include "cli/listen_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "cli/terminal/option_kinds.h"
#include "core/file.h"
#include "net/address.h"
#include "net/cors.h"

namespace celslm {
namespace {

constexpr std::uint64_t kMaxTokenBytes = 4096;
constexpr std::string_view kSpace = " \t\r\n";

}  // namespace

void add_listen_options(CLI::App& command, ListenOptions& options, int default_port) {
  options.port = default_port;
  command.add_option("--host", options.host, "Address to listen on; 0.0.0.0 for all")
      ->option_text(fmt::format("ADDRESS [{}]", options.host));
  add_number(command, "--port", options.port, 0, 65535, "Port to listen on; 0 for any free one");
  command.add_option("--token-file", options.token_file, "File with the bearer token that clients must send")
      ->option_text("FILE");
  command.add_option("--tls-cert", options.tls_certificate_file, "PEM file with the TLS certificate (chain)")
      ->option_text("FILE");
  command.add_option("--tls-key", options.tls_key_file, "PEM file with the private key of the certificate")
      ->option_text("FILE");
  command
      .add_option(
          "--keys", options.keys_file,
          "File with the keys of clients, and what each may do ('celslm key' makes it); SIGHUP lets it be read again")
      ->option_text("FILE");
  command
      .add_option("--client-authority", options.client_authority_file,
                  "PEM file with the authority of nodes ('celslm cert' makes one): packs are for clients with a certificate "
                  "of it, and all other paths for these, too; needs --tls-cert")
      ->option_text("FILE");
  command
      .add_option("--audit", options.audit_file,
                  "File to which a line of JSON is added for each context that is registered, removed, read or fetched; "
                  "SIGHUP lets it be opened again")
      ->option_text("FILE");
  command.add_flag("--insecure", options.insecure, "Allow other machines to connect without TLS");
  add_list(command, "--cors-origin", options.origins, "ORIGIN",
           "Origin of web pages that may use this server from a browser, e.g. https://app.example; * for every page");
}

void add_log_option(CLI::App& command, std::string& level) {
  command.add_option("--log-level", level, "Least severe messages to print on standard error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->option_text(fmt::format("trace|debug|info|warn|error|off [{}]", level));
}

bool asks_who(const ListenOptions& options) {
  return !options.token_file.empty() || !options.keys_file.empty() || !options.client_authority_file.empty();
}

Result<std::string> read_token(const std::string& file) {
  CELSLM_TRY(const Bytes bytes, read_file(file, kMaxTokenBytes));
  const std::string_view text = as_text(bytes);
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return fail(ErrorKind::kInvalid, "{}: the token file is empty", file);
  return std::string(text.substr(first, text.find_last_not_of(kSpace) - first + 1));
}

Result<HttpServerOptions> server_options(const ListenOptions& options) {
  const bool tls = !options.tls_certificate_file.empty();
  if (tls != !options.tls_key_file.empty()) return fail(ErrorKind::kInvalid, "TLS needs both --tls-cert and --tls-key");
  if (!tls && !options.insecure && !is_loopback(options.host)) {
    return fail(ErrorKind::kInvalid,
                "other machines can connect to {}: give --tls-cert and --tls-key, or --insecure if everybody on the network "
                "may read "
                "the traffic",
                options.host);
  }
  if (!tls && !options.client_authority_file.empty())
    return fail(ErrorKind::kInvalid, "--client-authority needs TLS: give --tls-cert and --tls-key, too");
  HttpServerOptions out{.host = options.host, .port = options.port};
  CELSLM_CHECK_OK(check_origins(options.origins));
  out.allowed_origins = options.origins;
  if (!options.token_file.empty()) {
    CELSLM_TRY(out.bearer_token, read_token(options.token_file));
  }
  out.tls_certificate_file = options.tls_certificate_file;
  out.tls_key_file = options.tls_key_file;
  out.client_authority_file = options.client_authority_file;
  return out;
}

}  // namespace celslm
