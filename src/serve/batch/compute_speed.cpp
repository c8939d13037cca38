#include "serve/batch/compute_speed.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "model/engine/prefill.h"
#include "plan/layer_work.h"

namespace celslm {
namespace {

constexpr int kTokens = 256;  // enough rows for products to be as efficient as they get
constexpr int kLayers = 8;    // the first warms up, and the best of them counts: others may be using the box right now

}  // namespace

Result<double> measure_layer_speed(Engine& engine, const Clock& clock) {
  const ModelConfig& config = engine.model().config();
  const int n_tokens = std::min(kTokens, config.n_ctx_train);
  std::vector<Token> tokens(static_cast<std::size_t>(n_tokens));
  for (int i = 0; i < n_tokens; ++i) tokens[static_cast<std::size_t>(i)] = i % config.n_vocab;
  CELSLM_TRY(auto segment, KvSegment::create(config, KvType::kF16, 0, n_tokens));
  CELSLM_TRY(auto prefill, ContextPrefill::start(engine, tokens, segment));
  double best = std::numeric_limits<double>::infinity();
  for (int layer = 0; layer < std::min(kLayers, config.n_layers); ++layer) {
    const TimePoint began = clock.now();
    CELSLM_CHECK_OK(prefill.advance());
    best = std::min(best, seconds(clock.now() - began));
  }
  return best / layer_work(n_tokens);
}

}  // namespace celslm
