// What the tests of this layer share: random models and texts that they all can read.
#pragma once

#include <gtest/gtest.h>

#include "align/fit/collect.h"
#include "align/fit/fit.h"
#include "align/map/numbers.h"
#include "tests/support/random_model.h"

namespace celslm::testing_support {

// A model and an engine to run it, from a GGUF file. Fails the test's thread by throwing where there is none.
struct Side {
  explicit Side(const std::filesystem::path& path)
      : model(Model::load(path).value()), engine(Engine::create(model, {.n_threads = 1}).value()) {}
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;
};

// Plain texts, each of some words in an order of its own.
inline std::vector<Document> some_documents(int n, std::uint64_t seed = 1) {
  const std::vector<std::string> words{"the ",     "boat ",     "carries ", "a ",  "letter ", "to ",
                                       "another ", "harbour, ", "where ",   "it ", "rained. "};
  std::vector<Document> out;
  for (int i = 0; i < n; ++i) {
    Document document;
    for (int w = 0; w < 24; ++w) {
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      document.text += words[(seed >> 33) % words.size()];
    }
    document.hash = hash_of(document.text);
    out.push_back(std::move(document));
  }
  return out;
}

inline Result<KvMap> fit_between(Side& from, Side& to, std::span<const Document> documents, const FitOptions& options) {
  const std::vector<int> layers = first_numbers(from.model->config().n_layers);
  CELSLM_TRY(const Collected sums, collect(*from.engine, *to.engine, documents, {.source_layers = layers}));
  return fit_map(from.model->fingerprint(), to.model->fingerprint(), sums, layers, documents, options);
}

}  // namespace celslm::testing_support
