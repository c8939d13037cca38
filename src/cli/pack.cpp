// celslm pack: inspects, compares and converts pack files.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "cli/commands.h"
#include "kv/pack/pack_file.h"
#include "kv/pack/pack_inspect.h"
#include "kv/store/pack_store.h"
#include "kv/store/pack_tools.h"

namespace celslm {
namespace {

constexpr const char* kExamples = R"(Examples:
  celslm pack inspect ~/.local/share/celslm/cloud/packs/<id>.kvpack
      prints what a pack contains and how large its parts are, and checks all blocks
  celslm pack inspect FILE --key $(curl -s http://cloud:8081/v1/key | jq -r .public_key)
      also checks that this cloud signed it
  celslm pack convert FILE --codec t3 --out SMALL --signing-key ~/.config/my.key
      the same KV at about 3 bits per value, signed with that key (created if the file does not exist)
  celslm pack diff FILE SMALL
      compares two packs of one context layer by layer; exit code 1 if they differ
)";

struct PackCommand {
  std::string file;
  std::string other;
  std::string key;
  std::string codec;
  std::string out;
  std::string signing_key;
};

// A pack signed by the key given, otherwise by the one in its header.
Result<StoredPack> open_pack(const std::string& path, const std::optional<PublicKey>& signer = std::nullopt) {
  CELSLM_TRY(const auto file, InputFile::open(path));
  CELSLM_TRY(const Bytes head, read_pack_header(*file));
  CELSLM_TRY(const PackHeader header, parse_header_unverified(head));
  return open_pack_file(path, signer.value_or(header.signer));
}

// For scripts: are all blocks undamaged, and is the pack signed by the right key?
Status verify(const std::string& path, const std::optional<PublicKey>& signer) {
  CELSLM_TRY(const StoredPack pack, open_pack(path, signer));
  for (int i = 0; i < pack.header.identity.n_blocks(); ++i) {
    if (const auto good = pack.block(i); !good) return wrap(good.error(), path);
  }
  return {};
}

Status convert(Environment& env, const PackCommand& command) {
  CELSLM_TRY(const Codec* const codec, find_codec(command.codec));
  CELSLM_TRY(const StoredPack pack, open_pack(command.file));
  CELSLM_TRY(const SigningKey key, SigningKey::load_or_create(command.signing_key));
  CELSLM_TRY(const std::uint64_t bytes, convert_pack(pack, *codec, key, command.out));
  env.out << fmt::format("{}: {} bytes, {:.2f} times smaller, signed by {}\n", command.out, bytes,
                         static_cast<double>(pack.file->size()) / static_cast<double>(bytes), key.public_key().hex())
          << std::flush;
  return {};
}

Result<bool> diff(Environment& env, const PackCommand& command) {
  CELSLM_TRY(const StoredPack a, open_pack(command.file));
  CELSLM_TRY(const StoredPack b, open_pack(command.other));
  CELSLM_TRY(const PackDifference difference, compare_packs(a, b));
  env.out << difference.text << (difference.same_values ? "the same values\n" : "") << std::flush;
  return difference.same_values;
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

void add_inspect(CLI::App& pack, Environment& env, const std::shared_ptr<PackCommand>& command) {
  CLI::App* sub = pack.add_subcommand(
      "inspect", "Describe a pack file and check every block; exit code 1 if it is damaged or wrongly signed");
  sub->add_option("FILE", command->file, "Pack file")->required();
  sub->add_option("--key", command->key, "Public key that must have signed it, 64 hex digits");
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = inspect(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

void add_convert(CLI::App& pack, Environment& env, const std::shared_ptr<PackCommand>& command) {
  CLI::App* sub = pack.add_subcommand("convert", "Encode an exact pack again with an approximate codec");
  sub->add_option("FILE", command->file, "Pack file with codec f16")->required();
  sub->add_option("--codec", command->codec, "Approximate codec: q8, t4, t3 or t2")->required();
  sub->add_option("--out", command->out, "File to write")->required();
  sub->add_option("--signing-key", command->signing_key, "File with the key to sign it with; created if it does not exist")
      ->required();
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = convert(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

void add_diff(CLI::App& pack, Environment& env, const std::shared_ptr<PackCommand>& command) {
  CLI::App* sub =
      pack.add_subcommand("diff", "Compare the decoded values of two packs of one context; exit code 1 if they differ");
  sub->add_option("FILE", command->file, "Pack file")->required();
  sub->add_option("OTHER", command->other, "Another pack file of the same context and shape")->required();
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Result<bool> same = diff(env, *command);
      if (!same) return failed(env, same.error());
      return *same ? kExitFine : kExitFailed;
    };
  });
}

}  // namespace

void add_pack(CLI::App& app, Environment& env) {
  auto command = std::make_shared<PackCommand>();
  CLI::App* pack = app.add_subcommand(
      "pack",
      "Inspect, compare and convert KV pack files: the KV cache of one context for one model, as clouds and edges store it");
  pack->require_subcommand(1);
  pack->footer(kExamples);
  add_inspect(*pack, env, command);
  add_convert(*pack, env, command);
  add_diff(*pack, env, command);
}

}  // namespace celslm
