// What computes KV, as an interface: a model's prefill at a cloud, a fake in tests.
#pragma once

#include <functional>
#include <span>
#include <stop_token>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "kv/pack/pack.h"
#include "model/kv/kv_segment.h"
#include "serve/wire/protocol.h"

namespace celslm {

// One model as a cloud hosts it. produce() is called by one thread at a time; the rest is thread-safe.
class KvProducer {
 public:
  virtual ~KvProducer() = default;

  virtual const HostedModel& model() const = 0;

  // The context's tokens: the text as the system message of the model's chat template. kInvalid when it has no template.
  virtual Result<std::vector<Token>> tokens(std::string_view text) const = 0;

  // K before RoPE and V of rows [first_row, first_row + n) of one layer, both [n][kv_width] f32, valid during the call only.
  // Of a recurrent layer, once: its state behind the last token in the place of k, nothing in that of v.
  // An error ends the computation.
  using OnRows = std::function<Status(int layer, int first_row, std::span<const float> k, std::span<const float> v)>;

  // How much errors in the channels of a layer's K matter, for approximate codecs; empty where that is not known.
  virtual std::vector<float> key_weights(int /*layer*/) const { return {}; }

  // Computes the KV of `tokens`: layers from 0 up, in each its rows from 0 up, every row once. K is rounded to `type` before
  // on_rows gets it, as in a segment of that type. kCancelled soon after `stop` is requested; on_rows' own error otherwise.
  virtual Status produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) = 0;

  // All KV as one state, of a model that libllama runs (the codec opaque); kInvalid for others. Errors as produce().
  virtual Result<Bytes> produce_state(std::span<const Token> /*tokens*/, std::stop_token /*stop*/) {
    return fail(ErrorKind::kInvalid, "only a model that libllama runs has states");
  }
};

}  // namespace celslm
