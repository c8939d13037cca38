// Blocks into a resident context's memory.
#pragma once

#include "core/result.h"
#include "kv/pack/verified_block.h"
#include "model/engine/model.h"

namespace celslm {

// Decodes one block and writes it into the segment at its place. Thread-safe for distinct blocks.
Status import_block(const Model& model, const PackIdentity& identity, const VerifiedBlock& block, KvSegment& segment);

// The same block from a segment of the same type and capacity that holds it.
void copy_block(const PackIdentity& identity, int index, KvSegment& from, KvSegment& to);

}  // namespace celslm
