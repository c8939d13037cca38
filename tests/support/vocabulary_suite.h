// A suite of tests that share a random model's vocabulary.
#pragma once

#include <gtest/gtest.h>

#include "model/text/text.h"
#include "tests/support/random_model.h"

namespace celslm::testing_support {

class VocabularySuite : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    write_random_model(model_file(), {.n_layers = 1});
    text_ = Text::load(model_file()).value().release();
  }
  static void TearDownTestSuite() {
    delete text_;
    delete folder_;
  }
  static std::filesystem::path model_file() { return *folder_ / "m.gguf"; }

  static inline const Text* text_ = nullptr;

 private:
  static inline TemporaryFolder* folder_ = nullptr;
};

}  // namespace celslm::testing_support
