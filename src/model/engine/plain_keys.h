// Which keys of a chunk the plain operators read.
#pragma once

#include <algorithm>

#include "model/attention/attention.h"
#include "model/engine/batch.h"

namespace celslm {

struct PlainKeys {
  AttentionSeen context;  // rows of its context
  AttentionSeen own;      // rows of its own segment, the new ones too
};

// window: of the layer; 0: all keys. With one, those before the window of the chunk's first row are left out.
inline PlainKeys plain_keys(const SequenceChunk& chunk, int layer, int window) {
  const KvView context = context_view(chunk, layer);
  PlainKeys out{.context = {.last = context.length}, .own = {.last = chunk.own_length + chunk.n_tokens}};
  if (window == 0) return out;
  const int hidden = chunk.own->first_position() + chunk.own_length + 1 - window;  // positions before it
  out.context.first = std::clamp(hidden - context.first_position, 0, context.length);
  out.own.first = std::clamp(hidden - chunk.own->first_position(), 0, chunk.own_length);
  return out;
}

}  // namespace celslm
