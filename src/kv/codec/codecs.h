// The codecs, one function each; codec.cpp makes the table of them. Internal to kv.
#pragma once

#include "kv/codec/codec.h"

namespace celslm {

const Codec& f16_codec();
const Codec& f16z_codec();
const Codec& bf16_codec();
const Codec& q8_codec();
const Codec& t4_codec();
const Codec& t3_codec();
const Codec& t2_codec();

// Every codec checks its arguments with these; the message names what is wrong.
Status check_encode(const BlockShape& shape, std::span<const float> values, ChannelWeights weights);
Status check_decode(const Codec& codec, const BlockShape& shape, ByteView bytes, std::span<float> values);
// The error for a block with at least one value that the codec cannot hold: names the first. |v| >= limit is too large.
std::unexpected<Error> unfit_value(std::string_view codec, const BlockShape& shape, std::span<const float> values,
                                   float limit);

}  // namespace celslm
