// Loading models with progress shown to a person.
#pragma once

#include <filesystem>
#include <memory>

#include "cli/terminal/device_option.h"
#include "cli/terminal/environment.h"
#include "core/result.h"
#include "model/engine/model.h"

namespace celslm {

// path: a file, or the name of a model that is kept (find_model_file). Shows progress on env.err: a line that changes on a
// terminal, a few lines elsewhere. Reports there, too, if the model cannot chat (Text::chat_problem). kept: where and for
// whom packed weights are kept (ModelOptions); programs that run once keep none. device: where it is computed.
struct KeptWeights {
  std::filesystem::path folder;
  Log log;
  bool allow_foreign = false;  // libllama may run it, where our graphs cannot
};
Result<std::shared_ptr<const Model>> load_model(Environment& env, const std::filesystem::path& path,
                                                const KeptWeights& kept = {}, const DeviceOptions& device = kOnCpu);

}  // namespace celslm
