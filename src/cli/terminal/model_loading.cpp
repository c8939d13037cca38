#include "cli/terminal/model_loading.h"

#include <fmt/format.h>

#include <ostream>

#include "cli/terminal/model_files.h"
#include "cli/terminal/progress.h"

namespace celslm {
Result<std::shared_ptr<const Model>> load_model(Environment& env, const std::filesystem::path& name, const KeptWeights& kept,
                                                const DeviceOptions& device) {
  CELSLM_TRY(const std::filesystem::path path, find_model_file(env, name));
  Progress progress(env.err, "loading " + path.filename().string());
  const TimePoint start = env.clock.now();
  ModelOptions options{.progress = [&](float part) { progress.show(part); },
                       .panel_folder = kept.folder,
                       .log = kept.log,
                       .allow_foreign = kept.allow_foreign};
  CELSLM_TRY(const auto used, device_for(device, kept.log));
  set_device(options, device, used);
  auto model = Model::load(path, options);
  progress.end();
  // Without a word it would only be slow: where the device was not asked for by name, the log tells why it is not used.
  const bool device_failed =
      !model && (model.error().kind == ErrorKind::kOverloaded || model.error().kind == ErrorKind::kUnavailable);
  if (device_failed && used && device.request.kind == DeviceRequest::Kind::kAuto) {
    kept.log->warn("{} is not used, the CPU computes: {}", used->name, model.error().message);
    return load_model(env, name, kept);
  }
  if (!model) return model;
  const ModelConfig& config = (*model)->config();
  const std::string inside = (*model)->foreign() ? fmt::format("{}, run by libllama", (*model)->fingerprint().architecture)
                                                 : fmt::format("{} layers", config.n_layers);
  env.err << fmt::format("loaded {}: {} with {}, {:.1f} MB, in {:.1f} s", path.filename().string(), config.name, inside,
                         static_cast<double>((*model)->weight_bytes()) / 1e6, seconds(env.clock.now() - start))
          << std::endl;
  if (const std::string& problem = (*model)->text().chat_problem(); !problem.empty())
    env.err << fmt::format("{}: no chats with this model: {}", path.filename().string(), problem) << std::endl;
  return model;
}

}  // namespace celslm
