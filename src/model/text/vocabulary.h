// libllama's view of a vocabulary; for this layer's own files.
#pragma once

#include <llama.h>

#include <memory>
#include <string>
#include <vector>

#include "model/text/text.h"

namespace celslm {

struct LlamaModelDeleter {
  void operator()(llama_model* model) const { llama_model_free(model); }
};

// A control token as a template spells it.
struct SpecialWord {
  std::string text;
  Token token = 0;
  bool strips_left = false;   // swallows the spaces before it
  bool strips_right = false;  // and after
};

struct Text::Impl {
  std::unique_ptr<llama_model, LlamaModelDeleter> model;  // vocabulary only, no weights
  const llama_vocab* vocab = nullptr;
  std::string chat_template;               // empty: the model has none
  std::vector<SpecialWord> special_words;  // longest first
};

}  // namespace celslm
