#include "cli/directory_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "cli/listen_options.h"
#include "cli/terminal/option_kinds.h"
#include "fleet/directory/node_address.h"
#include "fleet/store/valkey_store.h"

namespace celslm {

void add_directory_server(CLI::App& app, DirectoryOptions& options) {
  app.add_option("--directory", options.url,
                 "Valkey server by which the clouds and edges of a fleet know of each other: valkey://HOST[:PORT][/DB], or "
                 "valkeys:// with TLS; without it a node knows those that its options name")
      ->option_text("URL");
  app.add_option("--directory-password-file", options.password_file, "File with the password of the directory's server")
      ->option_text("FILE");
  app.add_option("--directory-ca", options.ca_file,
                 "PEM file with the certificate authority of the directory's TLS certificate")
      ->option_text("FILE");
}

void add_directory_options(CLI::App& app, DirectoryOptions& options) {
  app.option_defaults()->group("FLEET");
  add_directory_server(app, options);
  app.add_option("--node-id", options.node_id, "Name of this node in the fleet (default: one is drawn at each start)")
      ->option_text("NAME");
  app.add_option("--node-url", options.node_url,
                 "URL under which other nodes reach this one, http://HOST:PORT or https://HOST:PORT (default: where it "
                 "listens)")
      ->option_text("URL");
  add_milliseconds(app, "--directory-beat", options.beat, 100, 600'000,
                   "Time between two exchanges with the directory; a node that misses three is gone for the others");
}

void add_tier_option(CLI::App& app, DirectoryOptions& options) {
  add_size(app, "--directory-packs", options.tier_bytes,
           "Memory of the directory's server that packs of the fleet's clouds may take, each for an hour; 0: none are kept "
           "there");
}

Result<std::unique_ptr<Store>> open_directory(const DirectoryOptions& options) {
  CELSLM_TRY(ValkeyAddress address, parse_valkey_url(options.url));
  if (!options.password_file.empty()) {
    CELSLM_TRY(address.password, read_token(options.password_file));
  }
  if (!options.ca_file.empty() && !address.tls)
    return fail(ErrorKind::kInvalid, "--directory-ca needs a directory with TLS: valkeys://HOST");
  if (std::error_code error; !options.ca_file.empty() && !std::filesystem::exists(options.ca_file, error))
    return fail(ErrorKind::kNotFound, "{}: there is no such file (--directory-ca)", options.ca_file);
  address.ca_file = options.ca_file;
  return std::make_unique<ValkeyStore>(std::move(address));
}

Result<std::optional<FleetParts>> fleet_parts(const DirectoryOptions& options, const std::string& host) {
  if (options.url.empty()) return std::nullopt;
  if (!options.node_id.empty() && !is_node_id(options.node_id))
    return fail(ErrorKind::kInvalid, "--node-id must have 1 to {} letters, digits, '.', '_' or '-'", kMaxNodeIdBytes);
  if (!options.node_url.empty()) CELSLM_CHECK_OK(check_node_url(options.node_url));
  const bool bare_v6 = host.contains(':') && !host.starts_with('[');
  if (options.node_url.empty() &&
      !check_node_url(fmt::format("http://{}{}{}:1", bare_v6 ? "[" : "", host, bare_v6 ? "]" : "")))
    return fail(ErrorKind::kInvalid,
                "other nodes cannot reach {}: give the URL under which they reach this one (--node-url)", host);
  CELSLM_TRY(auto store, open_directory(options));
  CELSLM_TRY(auto work, open_directory(options));
  CELSLM_TRY(auto tier, open_directory(options));
  CELSLM_TRY(auto tier_reading, open_directory(options));
  return FleetParts{.store = std::move(store),
                    .work = std::move(work),
                    .tier = std::move(tier),
                    .tier_reading = std::move(tier_reading),
                    .tier_bytes = options.tier_bytes,
                    .member = {.id = options.node_id, .beat = options.beat},
                    .url = options.node_url};
}

}  // namespace celslm
