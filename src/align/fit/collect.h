// Runs two models over the same texts and accumulates the sums of products of their KV that a fit needs.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "align/fit/gram.h"
#include "align/map/kv_planes.h"
#include "align/texts/documents.h"
#include "model/engine/engine.h"

namespace celslm {

struct KvGrams {
  Gram k;
  Gram v;
};
// Sums over no rows, for maps from `n_source_layers` of the source's layers (the columns of x) to all layers of the target.
KvGrams empty_grams(const ModelConfig& source, const ModelConfig& target, std::size_t n_source_layers);

// Adds one document's rows, one for each target position t: x from source position pairs[t] (see pair_positions), y from t.
void add_rows(const KvPlanes& source, const KvPlanes& target, std::span<const int> source_layers, std::span<const int> pairs,
              KvGrams& sums);

// Prefills the document with both models and adds its rows. Returns the number of rows, 0 for an empty document. Needs
// memory for both models' KV of the document. Errors of tokens_of, pair_positions and compute_kv.
Result<int> add_document(Engine& source, Engine& target, const Document& document, std::span<const int> source_layers,
                         int max_tokens, KvGrams& sums);

// Whether a document belongs to the held-out fifth, on which source layers are selected, rather than to the texts that the
// fit is solved on. Decided by its hash, so that a document is always on the same side.
bool is_held_out(const Document& document);

struct CollectOptions {
  std::vector<int> source_layers;
  int max_tokens = 2048;             // per document; the rest is ignored
  std::filesystem::path checkpoint;  // file to resume from and to write to; empty: none
  int checkpoint_every = 64;         // documents between two checkpoints
  // Called after each document; may be empty.
  std::function<void(int done, int of, std::uint64_t rows)> progress;
};

// The sums over the two sides of the calibration texts (see is_held_out).
struct CalibrationSums {
  KvGrams fit;
  KvGrams held_out;
};

// Resumes from the last checkpoint of an earlier run over the same models, documents and options; the result is the same bit
// for bit. kInvalid if one side would get no document; errors of add_document with the document's number; kIo if a
// checkpoint cannot be written.
Result<CalibrationSums> collect(Engine& source, Engine& target, std::span<const Document> documents,
                                const CollectOptions& options);

}  // namespace celslm
