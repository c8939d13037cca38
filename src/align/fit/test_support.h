// Shared by the tests of align: random models, and texts that all of them can tokenize.
#pragma once

#include <gtest/gtest.h>

#include "align/fit/collect.h"
#include "align/fit/fit.h"
#include "align/map/index_range.h"
#include "tests/support/random_model.h"

namespace celslm::testing_support {

// A model loaded from a GGUF file, and an engine to run it. The constructor throws if loading fails.
struct TestModel {
  explicit TestModel(const std::filesystem::path& path)
      : model(Model::load(path).value()), engine(Engine::create(model, {.n_threads = 1}).value()) {}
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;
};

// Plain texts of 24 words each in pseudorandom order.
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

inline Result<KvMap> fit_between(TestModel& from, TestModel& to, std::span<const Document> documents,
                                 const FitOptions& options) {
  const std::vector<int> layers = index_range(from.model->config().n_layers);
  CELSLM_TRY(const CalibrationSums sums, collect(*from.engine, *to.engine, documents, {.source_layers = layers}));
  return fit_map(from.model->fingerprint(), to.model->fingerprint(), sums, layers, documents, options);
}

}  // namespace celslm::testing_support
