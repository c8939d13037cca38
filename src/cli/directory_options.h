// The options by which a cloud or an edge becomes part of a fleet; docs/fleet.md.
#pragma once

#include <CLI/App.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "serve/fleet/fleet_parts.h"

namespace celslm {

struct DirectoryOptions {
  std::string url;  // empty: no fleet
  std::string password_file;
  std::string ca_file;
  std::string node_id;
  std::string node_url;
  std::chrono::milliseconds beat{5'000};
  std::uint64_t tier_bytes = 0;  // of a cloud
};

// `options` must outlive the parsing. add_directory_server(): those that say where the directory is, alone.
void add_directory_server(CLI::App& app, DirectoryOptions& options);
void add_directory_options(CLI::App& app, DirectoryOptions& options);
// Those of a cloud beyond them.
void add_tier_option(CLI::App& app, DirectoryOptions& options);

// Does not connect. kInvalid for a malformed URL or id; errors of read_token() for the password.
Result<std::unique_ptr<Store>> open_directory(const DirectoryOptions& options);
// None without a directory. host: where the server will listen; kInvalid where that is no address for others and no URL is
// given.
Result<std::optional<FleetParts>> fleet_parts(const DirectoryOptions& options, const std::string& host);

}  // namespace celslm
