// celslm align: fits maps from one model's KV to another's, and evaluates them.
#include "cli/align/align.h"

#include <CLI/CLI.hpp>

namespace celslm {
namespace {

constexpr const char* kExamples = R"(Examples:
  celslm align fit --from large.gguf --to small.gguf --text calibration.txt --text bulletins.json -o large-to-small.map
      runs both models over the texts and fits a map that turns the large model's KV into KV for the small one
  celslm align fit --from large.gguf --to small.gguf --text calibration.txt -o small.map --rank 64 --precision q8
      the same with each matrix as two factors of rank 64, in 8 bits: smaller and cheaper to apply
  celslm align report small.map --from large.gguf --to small.gguf --text heldout.txt --questions worlds.json --write-gate
      measures it on held-out texts, and stores in the map from which layer on it may be used, if at all
)";

}  // namespace

void add_align(CLI::App& app, Environment& env) {
  CLI::App* align = app.add_subcommand(
      "align", "Fit and evaluate maps that turn a large model's KV cache into one for a small model (docs/alignment.md)");
  align->require_subcommand(1);
  align->footer(kExamples);
  add_align_fit(*align, env);
  add_align_report(*align, env);
  add_align_fuse(*align, env);
}

}  // namespace celslm
