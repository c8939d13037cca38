// A GGUF model, loaded once, shared by everything in the process.
#pragma once

#include <climits>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/log.h"
#include "core/result.h"
#include "model/config.h"
#include "model/kv/kv_segment.h"
#include "model/text/text.h"

namespace celslm {

class LlamaModel;

struct ModelOptions {
  // Called with 0..1 while weights load and hash; may be empty. From the loading thread.
  std::function<void(float)> progress;
  bool repack =
      true;  // place weights in our kernels' panels, or the CPU backend's forms, where they have one (fast prefill)
  // Where packed weights are kept between starts (panel_cache.h); empty: nowhere. Written on a thread of the model's own
  // after load() has returned.
  std::filesystem::path panel_folder = {};
  Log log = nullptr;  // why that did not work; null: nobody is told
  // The device that computes (DeviceInfo::name); empty: the CPU does. Engines of the model then use it.
  std::string device = {};
  int device_layers = INT_MAX;  // so many of the first layers there, the others and the output head on the CPU; or all
  std::uint64_t device_bytes = UINT64_MAX;  // that the model and its engines may use of the device's memory
  // A model for which there is no graph here is loaded for libllama instead of being refused: see foreign().
  bool allow_foreign = false;
};

// Immutable after load; all const members are thread-safe.
class Model {
 public:
  // Errors: kNotFound, kIo; kInvalid for anything that is not a complete, consistent GGUF, with the file's name and what is
  // wrong; kMismatch for one that our graphs do not fit: of another architecture (names theirs, lists ours), or with a
  // feature that its architecture has not here. With a device: kNotFound where it is not
  // there, kOverloaded, with the size needed and the size free, where it has no room, kUnavailable where it cannot compute
  // some operator of the model.
  static Result<std::shared_ptr<const Model>> load(const std::filesystem::path& path, const ModelOptions& options = {});
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const;
  const ModelFingerprint& fingerprint() const;
  const Text& text() const;  // tokenizer, chat template
  std::size_t weight_bytes() const;
  // The class of KV that a CPU computes of these weights: fingerprint()'s, unless a device computes here.
  Arithmetic cpu_arithmetic() const;
  // The model as libllama has it, if libllama runs it: to our engine it is then one layer, whose KV has no rows that could
  // be read, mapped or tuned (docs/foreign-models.md). Null if our graphs run it.
  const std::shared_ptr<const LlamaModel>& foreign() const;
  // Why libllama runs it: "no graph here for the architecture 'x'", or which feature our graphs lack. Empty if they run it.
  const std::string& foreign_reason() const;
  const char* engine_name() const { return foreign() ? "libllama" : "celslm"; }  // for people and programs

  struct Impl;  // ggml types stay behind it
  const Impl& impl() const { return *impl_; }

 private:
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm
