// Where a server listens and who may talk to it: options that cloud and edge share.
#pragma once

#include <CLI/App.hpp>
#include <string>

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
  bool insecure = false;
};

// `options` must outlive the parsing.
void add_listen_options(CLI::App& command, ListenOptions& options, int default_port);

// kInvalid: half of TLS, or a host that others can reach without TLS and without --insecure. Errors of read_token().
Result<HttpServerOptions> server_options(const ListenOptions& options);

// A bearer token: the file's content without the white space around it. kInvalid for an empty file.
Result<std::string> read_token(const std::string& file);

// "error" … "trace"; adds --log-level.
void add_log_option(CLI::App& command, std::string& level);

}  // namespace celslm
