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
  double agreement = 1.0;           // share of greedy tokens as with exact KV; 1 for exact codecs
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

// The codecs whose damage to a model's answers has been measured and is small enough, and exact f16, which needs no measure.
class CodecLadder {
 public:
  // One codec, whatever it does.
  static CodecLadder only(const Codec& codec);
  // `json`: what `./dev bench codec --json` writes. Lines of other models do not count. A codec is among the rungs if its
  // greedy agreement (on answers to questions where there were any, on text otherwise) is at least `least_agreement`.
  // kInvalid for what is no such file; kNotFound if none of it is about this model.
  static Result<CodecLadder> from_measurements(std::string_view json, const Hash256& model, double least_agreement);

  // Best agreement first; never empty.
  const std::vector<CodecRung>& rungs() const { return rungs_; }
  // The rung with which the context is predicted to load fastest; a better one where the gain is small. The one of fewest
  // bits while the link is unknown: that loses least where it turns out to be slow.
  CodecChoice choose(const LoadOutlook& outlook) const;

 private:
  std::vector<CodecRung> rungs_;
};

}  // namespace celslm
