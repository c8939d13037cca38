// A scripted KvProducer: tokens are bytes, KV values follow a formula, and layers are computed when the test allows it.
#pragma once

#include <algorithm>
#include <atomic>
#include <optional>

#include "core/mutex.h"
#include "serve/cloud/kv_producer.h"

namespace celslm::testing_support {

class FakeProducer final : public KvProducer {
 public:
  static constexpr int kLayers = 3;
  static constexpr int kKvHeads = 2;
  static constexpr int kHeadDim = 4;
  static constexpr int kWidth = kKvHeads * kHeadDim;

  explicit FakeProducer(std::string name = "fake", int n_ctx = 2000) {
    hosted_ = {.name = name, .n_ctx = n_ctx};
    hosted_.fingerprint = {.architecture = "llama",
                           .n_layers = kLayers,
                           .n_kv_heads = kKvHeads,
                           .head_dim = kHeadDim,
                           .rope = "none",
                           .weights = hash_of(name),
                           .tokenizer = hash_of("bytes")};
  }

  // Small integers, which every exact codec stores without loss.
  static float value(int layer, int row, int column, bool key) {
    return static_cast<float>((layer * 31 + row * 7 + column * 3 + (key ? 1 : 0)) % 64 - 32);
  }

  const HostedModel& model() const override { return hosted_; }

  Result<std::vector<Token>> tokens(std::string_view text) const override {
    ++tokenized;
    std::vector<Token> out;
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
    return out;
  }

  Status produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) override {
    ++produced;
    last_type = type;
    for (int layer = 0; layer < kLayers; ++layer) {
      if (auto error = wait_for_layer(stop)) return std::unexpected(*error);
      for (int row = 0; row < static_cast<int>(tokens.size()); row += kStep) {
        const int n = std::min(kStep, static_cast<int>(tokens.size()) - row);
        const auto status = on_rows(layer, row, rows(layer, row, n, true), rows(layer, row, n, false));
        if (!status) return status;
      }
    }
    return {};
  }

  // From now on each layer waits for allow().
  void hold() {
    const MutexLock lock(mutex_);
    allowed_ = 0;
  }
  void allow(int layers) {
    const MutexLock lock(mutex_);
    *allowed_ += layers;
    changed_.notify_all();
  }
  // The next layer fails with this error, once.
  void fail_next(Error error) {
    const MutexLock lock(mutex_);
    error_ = std::move(error);
    changed_.notify_all();
  }

  mutable std::atomic<int> tokenized = 0;  // calls of tokens()
  std::atomic<int> produced = 0;           // calls of produce()
  std::atomic<KvType> last_type = KvType::kF32;
  float poison = 0.0F;  // added to every value; NaN makes KV that no codec accepts

 private:
  static constexpr int kStep = 2 * kBlockTokens;

  std::vector<float> rows(int layer, int first_row, int n, bool key) const {
    std::vector<float> out;
    for (int row = first_row; row < first_row + n; ++row) {
      for (int column = 0; column < kWidth; ++column) out.push_back(value(layer, row, column, key) + poison);
    }
    return out;
  }

  std::optional<Error> wait_for_layer(std::stop_token stop) {
    const MutexLock lock(mutex_);
    if (!changed_.wait(mutex_, stop, [&]() CELSLM_REQUIRES(mutex_) { return error_ || !allowed_ || *allowed_ > 0; })) {
      return Error{ErrorKind::kCancelled, "stopped"};
    }
    if (error_) return std::exchange(error_, std::nullopt);
    if (allowed_) --*allowed_;
    return std::nullopt;
  }

  HostedModel hosted_;
  Mutex mutex_;
  ConditionVariable changed_;
  std::optional<int> allowed_ CELSLM_GUARDED_BY(mutex_);  // layers; unset: no limit
  std::optional<Error> error_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm::testing_support
