// celslm align: fits maps from one model's KV to another's, and judges them.
#include "cli/align/align.h"

#include <CLI/CLI.hpp>

namespace celslm {
namespace {

constexpr const char* kExamples = R"(Examples:
  celslm align fit --from large.gguf --to small.gguf --text calibration.txt --text bulletins.json -o large-to-small.map
      runs both models over the texts and fits a map from the large one's KV to the small one's
  celslm align fit --from large.gguf --to small.gguf --text calibration.txt -o small.map --rank 64 --precision q8
      the same as two thin factors a matrix, in 8 bits: smaller and cheaper to apply
  celslm align report small.map --from large.gguf --to small.gguf --text heldout.txt --questions worlds.json --write-gate
      judges it on texts that it has not seen, and stores from which layer on it may be used, if at all
)";

}  // namespace

void add_align(CLI::App& app, Environment& env) {
  CLI::App* align = app.add_subcommand("align", "Fit and judge maps from one model's KV to another's (docs/alignment.md)");
  align->require_subcommand(1);
  align->footer(kExamples);
  add_align_fit(*align, env);
  add_align_report(*align, env);
  add_align_fuse(*align, env);
}

}  // namespace celslm
