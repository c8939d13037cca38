// Clients of servers that may want a token: what commands that talk to clouds and edges share.
#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <string>

#include "core/result.h"
#include "net/http_client.h"

namespace celslm {

// The certificate that this machine shows to servers which ask for one.
struct ClientCertificate {
  std::string certificate_file;  // empty: none
  std::string key_file;
};

// --client-cert and --client-key.
void add_client_certificate(CLI::App& command, ClientCertificate& certificate, const std::string& by_default = "none");

// --token-in-clear, for commands that send a token.
void add_token_in_clear(CLI::App& command, bool& token_in_clear);

// A client that sends the token in `token_file`; an empty name: none. Errors of read_token() and make_http_client().
Result<std::unique_ptr<HttpClient>> connect(HttpClientOptions options, const std::string& token_file);

}  // namespace celslm
