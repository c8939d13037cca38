// KV that another library keeps, in the place of a segment's own rows.
#pragma once

#include <memory>

namespace celslm {

// Used by the thread that runs the engine; destroyed by any.
class ForeignKv {
 public:
  virtual ~ForeignKv() = default;
  ForeignKv(const ForeignKv&) = delete;
  ForeignKv& operator=(const ForeignKv&) = delete;

  // KV of its own for the first n_tokens of this sequence, without copying rows. Null where it cannot be had: a recurrent
  // state is that of one point only, a window has lost what lies before it, or the library has no sequence left.
  virtual std::shared_ptr<ForeignKv> first(int n_tokens) = 0;

 protected:
  ForeignKv() = default;
};

}  // namespace celslm
