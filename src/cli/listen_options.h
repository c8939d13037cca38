// Where a server listens and who may connect: options that cloud and edge share.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/result.h"
#include "net/http_server.h"

namespace celslm {

struct ListenOptions {
  std::string host = "127.0.0.1";
  int port = 0;
  std::string token_file;
  std::string tls_certificate_file;
  std::string tls_key_file;
  std::string client_authority_file;  // whose certificates clients may show; empty: no one's
  std::string keys_file;              // of clients' keys; empty: none
  std::string audit_file;             // empty: nothing is recorded
  bool insecure = false;
  std::vector<std::string> origins;  // of web pages that may use the server
};

// `options` must outlive the parsing.
void add_listen_options(CLI::App& command, ListenOptions& options, int default_port);

// kInvalid: only one of certificate and key, or a host that other machines can reach without TLS and without --insecure.
// Errors of read_token().
Result<HttpServerOptions> server_options(const ListenOptions& options);

// Whether clients must show who they are.
bool asks_who(const ListenOptions& options);

// A bearer token: the content of the file without surrounding white space. kInvalid for an empty file.
Result<std::string> read_token(const std::string& file);

// "error" … "trace"; adds --log-level.
void add_log_option(CLI::App& command, std::string& level);

}  // namespace celslm
