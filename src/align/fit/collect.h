// Runs two models over the same texts and sums up how their KV go together.
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
// Both empty. source_layers: those whose K and V are the columns of x.
KvGrams empty_grams(const ModelConfig& source, const ModelConfig& target, std::size_t n_source_layers);

// Adds the rows of a document that both models have read; pairs as pair_positions gives them.
void add_rows(const KvPlanes& source, const KvPlanes& target, std::span<const int> source_layers, std::span<const int> pairs,
              KvGrams& sums);

// Runs both models over a document and adds its rows. Memory: both models' KV of the document. The number of paired
// positions.
Result<int> add_document(Engine& source, Engine& target, const Document& document, std::span<const int> source_layers,
                         int max_tokens, KvGrams& sums);

// One document in five is kept from the fit and judges the choices made on the way: by its hash, so that the same document
// is always on the same side.
bool is_held_out(const Document& document);

struct CollectOptions {
  std::vector<int> source_layers;
  int max_tokens = 2048;             // of one document; the rest is not read
  std::filesystem::path checkpoint;  // empty: none
  int checkpoint_every = 64;         // documents
  // Called after each document; may be empty.
  std::function<void(int done, int of, std::uint64_t rows)> progress;
};

struct Collected {
  KvGrams fit;
  KvGrams held_out;
};

// Goes on where an earlier run over the same models, documents and options wrote its last checkpoint, to the same sums bit
// by bit. kInvalid where one of the two sides would get no document; errors of add_document with the document's number.
Result<Collected> collect(Engine& source, Engine& target, std::span<const Document> documents,
                          const CollectOptions& options);

}  // namespace celslm
