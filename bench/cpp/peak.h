// What this machine's cores and memory can do at most.
#pragma once

namespace celslm {

// Products of 8-bit integers a second, added up, by the dot-product instruction that our kernels use: all threads together,
// in registers only.
double peak_products_per_s(int threads);

// Bytes a second that so many threads together read from memory, each its own part of what no cache holds.
double memory_bytes_per_s(int threads);

}  // namespace celslm
