// celslm align fuse
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ostream>

#include "align/map/kv_map.h"
#include "cli/align/align.h"
#include "core/file.h"

namespace celslm {
namespace {

struct FuseCommand {
  std::string map;
  std::string networks;
  std::string out;
};

Status fuse_file(Environment& env, const FuseCommand& command) {
  CELSLM_TRY(KvMap map, read_map(command.map));
  CELSLM_TRY(const auto file, MappedFile::open(command.networks));
  if (const Status fused = fuse(file->bytes(), map); !fused) return wrap(fused.error(), command.networks);
  CELSLM_TRY(const KvMap written, write_map(command.out, map));
  env.out << fmt::format("{}: map {}, {}\n", command.out, written.id.hex().substr(0, 12), describe(written));
  return {};
}

}  // namespace

void add_align_fuse(CLI::App& align, Environment& env) {
  auto command = std::make_shared<FuseCommand>();
  CLI::App* sub = align.add_subcommand("fuse", "Add a trained correction network (tools/align-train) to a map");
  sub->add_option("MAP", command->map, "Map that the correction was trained for")->required();
  sub->add_option("--networks", command->networks, "File written by the training")->required();
  sub->add_option("-o,--out", command->out,
                  "File to write; its quality gate must be evaluated again with 'celslm align report'")
      ->required();
  sub->callback([command, &env] {
    env.action = [command, &env] {
      const Status status = fuse_file(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
