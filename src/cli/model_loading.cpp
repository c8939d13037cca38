#include "cli/model_loading.h"

#include <unistd.h>

#include <ostream>

namespace celslm {
namespace {

// On a terminal every per cent, otherwise every quarter: enough to see that it lives, little enough for a log.
class Progress {
 public:
  Progress(std::ostream& err, std::string name)
      : err_(err), name_(std::move(name)), terminal_(::isatty(STDERR_FILENO) == 1) {}

  void show(float part) {
    const int percent = static_cast<int>(part * 100.0F);
    const int step = terminal_ ? 1 : 25;
    if (percent / step == shown_ / step && shown_ >= 0) return;
    shown_ = percent;
    err_ << (terminal_ ? "\r" : "") << "loading " << name_ << ": " << percent << " %" << (terminal_ ? "" : "\n")
         << std::flush;
  }

  // Makes room for what is said next.
  void end() {
    if (terminal_ && shown_ >= 0) err_ << "\r\033[K" << std::flush;
  }

 private:
  std::ostream& err_;
  const std::string name_;
  const bool terminal_;
  int shown_ = -1;
};

}  // namespace

Result<std::shared_ptr<const Model>> load_model(Environment& env, const std::filesystem::path& path) {
  Progress progress(env.err, path.filename().string());
  const TimePoint start = env.clock.now();
  auto model = Model::load(path, {.progress = [&](float part) { progress.show(part); }});
  progress.end();
  if (!model) return model;
  const ModelConfig& config = (*model)->config();
  env.err << std::format("loaded {}: {} with {} layers, {:.1f} MB, in {:.1f} s", path.filename().string(), config.name,
                         config.n_layers, static_cast<double>((*model)->weight_bytes()) / 1e6,
                         seconds(env.clock.now() - start))
          << std::endl;
  return model;
}

}  // namespace celslm
