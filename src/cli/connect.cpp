#include "cli/connect.h"

#include <CLI/CLI.hpp>

#include "cli/listen_options.h"

namespace celslm {

void add_client_certificate(CLI::App& command, ClientCertificate& certificate, const std::string& by_default) {
  command
      .add_option("--client-cert", certificate.certificate_file,
                  "PEM file with the certificate to show to servers that ask for one (default: " + by_default + ")")
      ->option_text("FILE");
  command.add_option("--client-key", certificate.key_file, "PEM file with the private key of that certificate")
      ->option_text("FILE");
}

void add_token_in_clear(CLI::App& command, bool& token_in_clear) {
  command.add_flag("--token-in-clear", token_in_clear,
                   "Send the token to other machines also over http://, where everybody on the way can read and use it");
}

Result<std::unique_ptr<HttpClient>> connect(HttpClientOptions options, const std::string& token_file) {
  if (!token_file.empty()) {
    CELSLM_TRY(options.bearer_token, read_token(token_file));
  }
  return make_http_client(options);
}

}  // namespace celslm
