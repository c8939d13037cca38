// A model that libllama runs: any architecture that it knows, as one layer whose inside is not ours.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "core/result.h"

namespace celslm {

// The file comes from the operator: libllama's loader trusts it in more ways than ours does (docs/foreign-models.md).
// Immutable after load; thread-safe.
class LlamaModel {
 public:
  // progress: called with 0..1 while weights load; may be empty. kInvalid where libllama refuses the file, or what it holds
  // does not generate text token by token. Computes a few tokens, to learn what KV takes.
  static Result<std::shared_ptr<const LlamaModel>> load(const std::filesystem::path& path,
                                                        const std::function<void(float)>& progress = {});
  ~LlamaModel();
  LlamaModel(const LlamaModel&) = delete;
  LlamaModel& operator=(const LlamaModel&) = delete;

  int n_vocab() const;
  int n_ctx_train() const;             // tokens; INT_MAX where the model has no limit
  std::uint64_t weight_bytes() const;  // in memory
  // What KV takes as f16: of each token, and of a sequence however long it is (recurrent states).
  std::uint64_t token_bytes() const;
  std::uint64_t sequence_bytes() const;
  // Whether the KV of a sequence's beginning can be had from that of all of it: no recurrent layers, no windows.
  bool can_cut() const;

  struct Impl;  // libllama's types stay behind it
  const Impl& impl() const { return *impl_; }

 private:
  explicit LlamaModel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// At the same time in one context: libllama's own limit.
inline constexpr int kMostLlamaSequences = 256;

// The libllama of this process: its file's name, and the beginning of its hash. States fit only where it is equal.
Result<std::string> libllama_build();

}  // namespace celslm
