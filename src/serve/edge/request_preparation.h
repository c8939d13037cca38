// From a parsed request to what the batch loop runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "model/engine/model.h"
#include "serve/batch/generation.h"
#include "serve/edge/context_directory.h"
#include "serve/edge/context_memory.h"
#include "serve/openai/openai.h"

namespace celslm {

// A request made ready for the loop, and what its answer needs.
struct PreparedRequest {
  CompletionRequest request;
  GenerationRequest generation;
  std::string echo;  // text before the generated one
  ChatStyle style;   // how the model writes what is not text; of completions: none

  // For the text that the loop generates.
  AnswerParser parser() const {
    return AnswerParser(style, request.tools, style.begins_in_thoughts && request.thinking, request.keep_thoughts);
  }
};

// Finds the shared context that a request begins with, starts loading it, and tokenizes the rest. Thread-safe; what it is
// made of must outlive it.
class RequestPreparation {
 public:
  RequestPreparation(const Model& model, ContextDirectory& directory, ContextMemory& contexts, const Clock& clock)
      : model_(model), directory_(directory), contexts_(contexts), clock_(clock) {}

  // kInvalid: the request contradicts itself, or is too long for the model. kNotFound: it names an unknown context.
  // Errors of asking the cloud for the text of a context that is named.
  Result<PreparedRequest> prepare(CompletionRequest request);

 private:
  Result<std::optional<std::string>> shared_text(const CompletionRequest& request);
  Status use_context(const std::string& text, const CompletionRequest& request, std::vector<Token>& tokens,
                     GenerationRequest& generation);
  Result<std::vector<Token>> prompt_tokens(const CompletionRequest& request, bool with_bos) const;

  const Model& model_;
  ContextDirectory& directory_;
  ContextMemory& contexts_;
  const Clock& clock_;
};

}  // namespace celslm
