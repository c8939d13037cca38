// celslm pack: looks into pack files.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "cli/commands.h"
#include "kv/pack_inspect.h"
#include "kv/pack_store.h"

namespace celslm {
namespace {

constexpr const char* kExamples = R"(Examples:
  celslm pack inspect ~/.local/share/celslm/cloud/packs/<id>.kvpack
      says what a pack is of, how large its parts are, and whether its blocks are whole
  celslm pack inspect FILE --key $(curl -s http://cloud:8081/v1/key | jq -r .public_key)
      says, too, whether that cloud signed it
)";

struct PackCommand {
  std::string file;
  std::string key;
};

// What scripts ask: is it whole, and signed by the key given, or at least by the one that it names?
Status verify(const std::string& path, const std::optional<PublicKey>& signer) {
  CELSLM_TRY(const auto file, MappedFile::open(path));
  const ByteView bytes = file->bytes();
  CELSLM_TRY(const std::uint64_t length, peek_header_bytes(bytes.first(std::min(bytes.size(), kHeaderPrefixBytes))));
  CELSLM_TRY(const PackHeader header, parse_header_unverified(bytes.first(std::min<std::uint64_t>(bytes.size(), length))));
  CELSLM_TRY(const StoredPack pack, open_pack_file(path, signer.value_or(header.signer)));
  for (int i = 0; i < header.identity.n_blocks(); ++i) {
    if (const Status good = check_block(header.blocks[static_cast<std::size_t>(i)], pack.block(i)); !good) {
      return wrap(good.error(), std::format("{}: block {}", path, i));
    }
  }
  return {};
}

Status inspect(Environment& env, const PackCommand& command) {
  std::optional<PublicKey> signer;
  if (!command.key.empty()) {
    CELSLM_TRY(signer, PublicKey::from_hex(command.key));
  }
  CELSLM_TRY(const std::string description, describe_pack(command.file, signer));
  env.out << description << std::flush;
  return verify(command.file, signer);
}

}  // namespace

void add_pack(CLI::App& app, Environment& env) {
  auto command = std::make_shared<PackCommand>();
  CLI::App* pack = app.add_subcommand("pack", "Look into KV pack files");
  pack->require_subcommand(1);
  pack->footer(kExamples);
  CLI::App* sub =
      pack->add_subcommand("inspect", "Describe a pack file and check every block; exit code 1 if it is not good");
  sub->add_option("FILE", command->file, "The pack")->required();
  sub->add_option("--key", command->key, "Public key of the cloud that should have signed it, 64 hex digits");
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = inspect(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
