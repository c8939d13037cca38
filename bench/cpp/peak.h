// What this machine's cores can do at most.
#pragma once

namespace celslm {

// Products of 8-bit integers a second, added up, by the dot-product instruction that our kernels use: one thread, in
// registers only.
double peak_products_per_s();

}  // namespace celslm
