// How much an error in a channel of K (before RoPE) changes attention scores: a property of the model's weights alone, by
// which codecs can spend their bits.
#pragma once

#include <vector>

#include "model/engine/model.h"

namespace celslm {

// [n_kv_heads * head_dim], of one layer: the size of the query coordinates that meet the channel. A score is the product of
// a query and a key, so an error of K weighs as much as the query is large there. For a query head, with w_q its rows of the
// projection, n the weights of the norm before it and b its bias, a coordinate's mean square is taken to be
// |w_q n|^2 + b^2, as if all normed inputs were alike; where queries are normed themselves, the norm's weight squared (times
// that of K's norm, where both are applied behind RoPE). Its root mean square over the query heads of a KV head, and over
// the two channels that RoPE turns into each other. Reads the layer's projection from the file. Thread-safe.
std::vector<float> key_weights(const Model& model, int layer);

}  // namespace celslm
