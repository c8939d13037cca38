#include "model/attention/attention.h"

// Left out: vectors whose length the compiler does not know (SVE, RVV), which cannot be elements of the arrays that hold a
// register block (such Arm machines run the NEON code); and steps between the x86 sets kept (SSE2, AVX2, AVX-512) that bring
// f32 arithmetic nothing.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_ALL_SVE | HWY_RVV | HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_AVX10_2)
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/attention/attention.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
//
#include "hwy/highway.h"
#include "model/attention/pass-inl.h"

#if HWY_ONCE
namespace celslm {
namespace attention_detail {

HWY_EXPORT(attend_share);

// Beside the exported name: where only one target is compiled, Highway's macro takes no qualified one.
void dispatch(const AttentionArgs& args, UnitRange share, AttentionScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(attend_share)(args, share.first, share.last, scratch);
}

std::vector<std::int64_t> usable_targets() {
  return hwy::SupportedAndGeneratedTargets();
}

}  // namespace attention_detail

void attention(const AttentionArgs& args, int ith, int nth, AttentionScratch& scratch) {
  if (args.n_rows <= 0 || args.n_heads <= 0) return;
  const attention_detail::UnitRange share = attention_detail::share_of(args, ith, nth, scratch.costs);
  if (share.first < share.last) attention_detail::dispatch(args, share, scratch);
}

}  // namespace celslm
#endif
