// Reductions over one row of logits.
#pragma once

#include <cstddef>
#include <span>

namespace celslm {

// Index of the largest value, the first of equals. values must not be empty.
std::size_t argmax(std::span<const float> values);

// ln(sum(exp(values))), without overflow.
float log_sum_exp(std::span<const float> values);

}  // namespace celslm
