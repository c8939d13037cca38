// What may happen to a context's KV between the node that computes it and the one that uses it: each codec of ours, and what
// it is compared with.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "align/exact_kv.h"
#include "core/result.h"
#include "model/engine.h"

namespace celslm {

struct TreatedKv {
  std::shared_ptr<KvSegment> segment;
  double bits = 0.0;      // on the wire or in memory, all overheads counted
  double encode_s = 0.0;  // of one core
  double decode_s = 0.0;  // into f32 rows
};

struct Treatment {
  std::string name;
  bool ours = false;  // a codec of packs; its times mean something
  std::function<Result<TreatedKv>(const Model&, const ExactKv&)> apply;
};

// Codecs of packs; q8_0 and q4_0 as llama.cpp's -ctk and -ctv hold KV; and what lost (docs/compression.md).
std::vector<Treatment> all_treatments();

}  // namespace celslm
