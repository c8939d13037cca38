// Which tensors of a GGUF are what in the graphs.
#pragma once

#include <ggml-cpp.h>

#include <initializer_list>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "model/config.h"
#include "model/engine/weights.h"
#include "model/gguf/gguf_parts.h"

namespace celslm {

// Some rows of a matrix of the file, which graphs use as a matrix of their own.
struct TensorSlice {
  ggml_tensor* rows = nullptr;  // without data until it is placed
  std::size_t offset = 0;       // of its first byte in the matrix
};

// Finds the tensors that the row of the model's architecture names, and remembers which were found. Kept as long as slices
// are looked up.
class TensorNames {
 public:
  explicit TensorNames(ModelConfig& config) : config_(config) {}  // which outlives this

  // Fills `out` and completes the config with what the tensors show. kInvalid, with the name, for tensors that are missing,
  // misshapen, or of a type that cannot be multiplied; kMismatch for a type that operators here do not take.
  Status name_all(std::span<const GgufPart> parts, Weights& out);

  // Whether graphs read it, or it is of a layer that they leave out (ModelConfig::n_prediction_layers).
  bool known(const ggml_tensor* t) const;
  // Empty where the matrix is used in one piece. In the order of their rows.
  std::span<const TensorSlice> slices_of(const ggml_tensor* t) const;

 private:
  using Shape = std::initializer_list<std::int64_t>;

  Result<ggml_tensor*> find(const std::string& name, Shape shape, bool required);
  Result<ggml_tensor*> floats(const std::string& name, Shape shape, bool required);
  Result<ggml_tensor*> vector(const std::string& name, std::int64_t n, bool required);
  Result<ggml_tensor*> norm(const std::string& layer, const char* name);
  Result<ggml_tensor*> matrix(const std::string& name, std::int64_t n_in, std::int64_t n_out, bool required = true);
  Result<Linear> linear(const std::string& name, std::int64_t n_in, std::int64_t n_out);
  // A matrix and its bias cut into rows: one part for each of n_out.
  Result<std::vector<Linear>> fused(const std::string& name, std::int64_t n_in, std::initializer_list<std::int64_t> n_out);
  Status name_factors(Weights& out);
  Status name_layer(const std::string& prefix, Weights& out);
  Status name_attention(const std::string& prefix, LayerWeights& w);
  Status name_recurrent(const std::string& prefix, LayerWeights& w);
  Status name_short_conv(const std::string& prefix, LayerWeights& w);
  Status name_delta_net(const std::string& prefix, LayerWeights& w);
  Status name_projections(const std::string& prefix, LayerWeights& w);
  Status name_head_norms(const std::string& prefix, LayerWeights& w);
  Status name_mlp(const std::string& prefix, LayerWeights& w);
  Status name_experts(const std::string& prefix, ExpertWeights& w);
  Status name_expert(const std::string& name, std::int64_t n_in, std::int64_t n_out, ggml_tensor*& w, ggml_tensor*& b);

  ModelConfig& config_;
  std::span<const GgufPart> parts_;
  ggml_context* slices_ = nullptr;  // of the weights
  std::set<const ggml_tensor*> used_;
  std::map<const ggml_tensor*, std::vector<TensorSlice>> slices_by_tensor_;
};

}  // namespace celslm
