// A GGUF model, loaded once, shared by everything in the process.
#pragma once

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

struct ModelOptions {
  // Called with 0..1 while weights load and hash; may be empty. From the loading thread.
  std::function<void(float)> progress;
  bool repack =
      true;  // place weights in our kernels' panels, or the CPU backend's forms, where they have one (fast prefill)
  // Where packed weights are kept between starts (panel_cache.h); empty: nowhere. Written on a thread of the model's own
  // after load() has returned.
  std::filesystem::path panel_folder = {};
  Log log = nullptr;  // why that did not work; null: nobody is told
};

// Immutable after load; all const members are thread-safe.
class Model {
 public:
  // Errors: kNotFound, kIo; kInvalid for anything that is not a complete, consistent GGUF of a supported architecture, with
  // the file's name and what is wrong (architecture: names theirs, lists ours).
  static Result<std::shared_ptr<const Model>> load(const std::filesystem::path& path, const ModelOptions& options = {});
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const;
  const ModelFingerprint& fingerprint() const;
  const Text& text() const;  // tokenizer, chat template
  std::size_t weight_bytes() const;

  struct Impl;  // ggml types stay behind it
  const Impl& impl() const { return *impl_; }

 private:
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm
