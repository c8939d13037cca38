// The cost model of a layer's prefill.
#pragma once

namespace celslm {

// A layer's computation in arbitrary units: its products grow with the tokens, its attention with their square. 8,192 is
// where the two are about equal for the shapes that edges run; it only carries a measurement from one length to another.
inline double layer_work(int n_tokens) {
  return n_tokens * (1.0 + n_tokens / 8192.0);
}

}  // namespace celslm
