#include "serve/load/state_parts.h"

#include <algorithm>
#include <utility>

#include "model/llama/llama_context.h"

namespace celslm {

Status StateParts::add(const VerifiedBlock& block) {
  const BlockEntry entry = block.entry();
  CELSLM_CHECK_OK(check_bounds(identity_, block.index(), entry));
  const MutexLock lock(mutex_);
  state_.resize(std::max<std::size_t>(state_.size(), entry.offset + entry.bytes));
  std::ranges::copy(block.bytes(), state_.begin() + static_cast<std::ptrdiff_t>(entry.offset));
  if (++n_parts_ == identity_.n_blocks()) segment_.set_foreign(kv_from_state(std::move(state_), identity_.tokens));
  return {};
}

}  // namespace celslm
