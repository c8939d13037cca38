// The lossy treatments of a context's KV that are compared: the codecs of packs, and alternatives.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "align/map/kv_planes.h"
#include "core/result.h"
#include "kv/codec/codec.h"
#include "model/engine/engine.h"

namespace celslm {

struct TreatedKv {
  std::shared_ptr<KvSegment> segment;
  double bits = 0.0;      // on the wire or in memory, including all overheads
  double encode_s = 0.0;  // CPU time on one core
  double decode_s = 0.0;  // the same, into f32 rows
};

// The input of a treatment.
struct Subject {
  const ExactKv& exact;
  std::vector<const ExactKv*> others;  // KV of other contexts, for calibration
  std::vector<double> step_factors;    // [n_layers][K, V]: relative step size of each plane; mean logarithm 0
};

struct Treatment {
  std::string name;
  bool ours = false;        // a codec of packs: its times are meaningful
  bool calibrated = false;  // needs `others` and `step_factors`
  std::function<Result<TreatedKv>(const Model&, const Subject&)> apply;
};

// The codecs of packs; q8_0 and q4_0 as in llama.cpp's -ctk and -ctv; and the alternatives that were rejected
// (docs/compression.md).
std::vector<Treatment> all_treatments();

// A context's KV with one plane quantized with t2's step and all others exact, to measure the sensitivity of the model to
// that plane.
Result<TreatedKv> coarsen_plane(const Model& model, const ExactKv& exact, int layer, BlockKind kind);

}  // namespace celslm
