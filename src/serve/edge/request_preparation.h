// From a parsed request to what the batch loop runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/memory_ledger.h"
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
  std::string echo;      // text before the generated one
  std::string too_long;  // why it does not fit the model's context; empty if it does
  ChatStyle style;       // how the model writes what is not text; of completions: none

  // For the text that the loop generates.
  AnswerParser parser() const {
    return AnswerParser(style, request.tools, style.begins_in_thoughts && request.thinking, request.keep_thoughts);
  }
};

// Finds the context with which a request has the most leading tokens in common, starts loading it where the system message
// begins with a registered text in full, and tokenizes the rest. Other contexts are used only where they lie in memory
// already: a chance resemblance must make no other node notice. Thread-safe; what it is made of must outlive it.
class RequestPreparation {
 public:
  RequestPreparation(const Model& model, ContextDirectory& directory, ContextMemory& contexts, MemoryLedger& memory,
                     const Clock& clock)
      : model_(model), directory_(directory), contexts_(contexts), memory_(memory), clock_(clock) {}

  // kInvalid: the request contradicts itself. kNotFound: it names an unknown context.
  // kOverloaded: there is no memory to tokenize it, or for its context. A prompt that is certainly too long is not
  // tokenized. Errors of asking the cloud for the text of a context that is named. client, tenant: whose request it
  // is, HttpRequest::client and Caller::tenant.
  Result<PreparedRequest> prepare(CompletionRequest request, const std::string& client, const std::string& tenant);

 private:
  std::string certainly_too_long(const CompletionRequest& request) const;
  Result<MemoryLease> memory_to_tokenize(const CompletionRequest& request) const;
  Result<std::optional<std::string>> shared_text(CompletionRequest& request, const std::string& tenant);
  Status use_context(const std::string& text, const CompletionRequest& request, const std::vector<Token>& tokens,
                     GenerationRequest& generation);
  void use_resident_context(const std::vector<Token>& tokens, GenerationRequest& generation) const;
  std::string echo_of(const CompletionRequest& request) const;
  Result<std::vector<Token>> prompt_tokens(const CompletionRequest& request, bool with_bos) const;

  const Model& model_;
  ContextDirectory& directory_;
  ContextMemory& contexts_;
  MemoryLedger& memory_;
  const Clock& clock_;
};

}  // namespace celslm
