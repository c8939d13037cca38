// Which codec a context's KV is asked for in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "kv/codec/codec.h"
#include "plan/estimate.h"

namespace celslm {

// A codec, and what was measured of it.
struct CodecRung {
  const Codec* codec = nullptr;
  double bits_per_value = 16.0;
  // How far it moves the distribution of the next token (KL divergence from that with exact KV), in units of how far the
  // model's own rounding does (KL divergence from that with f32); docs/compression.md. 0 for exact codecs.
  double loss = 0.0;
  double decode_bytes_per_s = 0.0;  // of the same values as f16, per core; 0: not measured, does not count
};

struct CodecChoice {
  const Codec* codec = nullptr;
  std::string reason;  // for people
};

// What is known of a load before it begins.
struct LoadOutlook {
  int n_layers = 0;
  std::uint64_t values = 0;    // of the context's KV
  LinkEstimate link;           // to the cloud
  double layer_s = 0.0;        // one layer's local computation
  int max_compute_layers = 0;  // that may be computed instead of fetched
};

// By default a codec may move distributions twice as far as the model's own rounding does: divergence grows with the square.
inline constexpr double kMaxCodecLoss = 4.0;

// The codecs whose effect on a model has been measured and is small enough, and exact f16, which needs no measure.
class CodecLadder {
 public:
  // One codec, whatever it does.
  static CodecLadder only(const Codec& codec);
  // f16, and f16z with the bits that it takes for typical KV: for models of which nothing is measured.
  static CodecLadder exact();
  // `json`: what `./dev bench codec --json` writes. Lines of other models do not count. A codec is among the rungs if its
  // loss is at most `max_loss`, and if with it the model does not answer significantly fewer questions rightly (95 %), where
  // it was asked any. kInvalid for what is no such file, or one of an earlier version (names the command that makes a new
  // one); kNotFound if none of it is about this model.
  static Result<CodecLadder> from_measurements(std::string_view json, const Hash256& model, double max_loss = kMaxCodecLoss);

  // Least loss first; never empty.
  const std::vector<CodecRung>& rungs() const { return rungs_; }
  // The rung with which the context is predicted to load fastest; a better one where the gain is small. The one of fewest
  // bits while the link is unknown: that loses least where it turns out to be slow.
  CodecChoice choose(const LoadOutlook& outlook) const;

 private:
  std::vector<CodecRung> rungs_;
};

}  // namespace celslm
