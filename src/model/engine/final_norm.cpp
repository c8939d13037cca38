#include "model/engine/final_norm.h"

#include <cmath>

#include "model/engine/model_impl.h"

namespace celslm {

Result<std::vector<float>> final_norm(const Model& model, const Hidden& hidden) {
  const auto width = static_cast<std::size_t>(model.config().n_embd);
  if (hidden.values.size() != width * static_cast<std::size_t>(hidden.n_tokens))
    return fail(ErrorKind::kInvalid, "{} hidden values for {} tokens of {}", hidden.values.size(), hidden.n_tokens, width);
  const auto* weight = static_cast<const float*>(model.impl().weights->output_norm->data);
  std::vector<float> out(hidden.values.begin(), hidden.values.end());
  for (std::size_t begin = 0; begin < out.size(); begin += width) {
    float* row = out.data() + begin;
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) squares += static_cast<double>(row[i]) * row[i];
    const auto scale =
        static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(width) + model.config().rms_epsilon));
    for (std::size_t i = 0; i < width; ++i) row[i] *= scale * weight[i];
  }
  return out;
}

}  // namespace celslm
