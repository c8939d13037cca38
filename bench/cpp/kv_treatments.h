// What may happen to a context's KV between the node that computes it and the one that uses it: each codec of ours, and what
// it is compared with.
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
  double bits = 0.0;      // on the wire or in memory, all overheads counted
  double encode_s = 0.0;  // of one core
  double decode_s = 0.0;  // into f32 rows
};

// What a treatment may know beside the context's KV.
struct Subject {
  const ExactKv& exact;
  std::vector<const ExactKv*> others;  // of other contexts, to calibrate on
  std::vector<double> step_factors;    // [n_layers][K, V]: by which steps may differ from plane to plane; mean logarithm 0
};

struct Treatment {
  std::string name;
  bool ours = false;        // a codec of packs; its times mean something
  bool calibrated = false;  // needs `others` and `step_factors`
  std::function<Result<TreatedKv>(const Model&, const Subject&)> apply;
};

// Codecs of packs; q8_0 and q4_0 as llama.cpp's -ctk and -ctv hold KV; and what lost (docs/compression.md).
std::vector<Treatment> all_treatments();

// A context's KV with one plane coded in steps as t2's and all others exact: what the model makes of it says how much that
// plane's steps matter.
Result<TreatedKv> coarsen_plane(const Model& model, const ExactKv& exact, int layer, BlockKind kind);

}  // namespace celslm
