// libllama's view of a vocabulary; for this layer's own files.
#pragma once

#include <llama.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/mutex.h"
#include "model/text/chat_template.h"
#include "model/text/control_words.h"
#include "model/text/text.h"
#include "model/text/token_bound.h"

namespace celslm {

struct LlamaModelDeleter {
  void operator()(llama_model* model) const { llama_model_free(model); }
};

struct Text::Impl {
  std::unique_ptr<llama_model, LlamaModelDeleter> model;  // vocabulary only, no weights
  const llama_vocab* vocab = nullptr;
  std::unique_ptr<const ControlWords> control_words;
  std::unique_ptr<const ChatTemplate> chat_template;  // null: chat_problem tells why
  std::string chat_problem;
  ChatStyle chat_style;
  // Strings in the template's code that it may look for in contents, and that no control word begins or ends in.
  std::vector<std::string> plain_literals;
  mutable std::once_flag bound_made;
  mutable std::optional<const TokenBound> bound;  // made when first needed; none: its tokens may stand for any text
};

}  // namespace celslm
