#include "serve/edge/request_preparation.h"

#include <algorithm>
#include <iterator>
#include <random>

#include "serve/openai/tool_grammar.h"

namespace celslm {
namespace {

bool begins_with_system_message(const CompletionRequest& request) {
  return !request.messages.empty() && request.messages.front().role == "system";
}

// With something behind it.
bool begins_with(const std::vector<Token>& tokens, const std::vector<Token>& context) {
  return tokens.size() > context.size() && std::equal(context.begin(), context.end(), tokens.begin());
}

// Two requests without a seed draw differently.
SamplerOptions sampler_of(const CompletionRequest& request) {
  SamplerOptions out = request.sampler;
  if (!request.seed_given) out.seed = std::random_device{}();
  return out;
}

// A client's own grammar is left as it is, also where tools may be called.
Result<GrammarSpec> grammar_of(const CompletionRequest& request, const ChatStyle& style) {
  const GrammarSpec& asked = request.sampler.grammar;
  if (!request.tools.allowed() || request.own_grammar) return asked;
  CELSLM_TRY(GrammarSpec calls, tool_grammar(request.tools, style, style.begins_in_thoughts && request.thinking));
  if (request.tools.choice == ToolChoice::kAuto && !asked.empty()) return either(calls, asked);
  // The sampler knows no triggers yet: what the model writes is parsed as it is.
  return calls.triggers.empty() ? calls : GrammarSpec{};
}

std::vector<Token> shown_tokens(const Text& text, const ChatStyle& style, const CompletionRequest& request) {
  std::vector<Token> out;
  if (!request.chat) return out;
  for (const std::string& word : style.markers()) {
    if (const auto token = text.hidden_token(word)) out.push_back(*token);
  }
  return out;
}

std::string echo_of(const CompletionRequest& request) {
  const auto* prompt = std::get_if<std::string>(&request.prompt);
  return !request.chat && request.echo && prompt != nullptr ? *prompt : "";
}

}  // namespace

// The registered text that this request begins with, if any: named by its handle, or its system message.
Result<std::optional<std::string>> RequestPreparation::shared_text(const CompletionRequest& request) {
  if (request.context) {
    CELSLM_TRY(std::string text, directory_.text(*request.context));
    if (begins_with_system_message(request) && request.messages.front().content != text) {
      return fail(
          ErrorKind::kInvalid,
          "the request names a context in 'x_celslm' and also has a different system message: give only one of them");
    }
    return std::optional(std::move(text));
  }
  if (!request.chat || !begins_with_system_message(request)) return std::nullopt;
  const std::string& text = request.messages.front().content;
  return directory_.contains(context_handle(text)) ? std::optional(text) : std::nullopt;
}

Result<std::vector<Token>> RequestPreparation::prompt_tokens(const CompletionRequest& request, bool with_bos) const {
  const Text& text = model_.text();
  if (request.chat) return text.chat(request.messages, request.chat_options());
  if (const auto* words = std::get_if<std::string>(&request.prompt))
    return text.tokenize(*words, with_bos && text.adds_bos(), true);
  std::vector<Token> tokens = std::get<std::vector<Token>>(request.prompt);
  const int n_vocab = model_.config().n_vocab;
  const bool known = std::ranges::all_of(tokens, [&](Token t) { return t >= 0 && t < n_vocab; });
  if (!known)
    return fail(ErrorKind::kInvalid, "'prompt' has a token id outside the vocabulary: ids must be from 0 to {}",
                n_vocab - 1);
  return tokens;
}

// Puts the text's context in the place of the first tokens. A chat that has this text as its system message, but does not
// name the context, does without where the model's template keeps it from being shared.
Status RequestPreparation::use_context(const std::string& text, const CompletionRequest& request, std::vector<Token>& tokens,
                                       GenerationRequest& generation) {
  auto acquired = contexts_.acquire(text);
  if (acquired && request.chat && !begins_with(tokens, acquired->context->tokens))
    acquired = fail(ErrorKind::kInvalid, "the model's chat template does not begin this chat with the context's tokens");
  if (!acquired && request.chat && !request.context && acquired.error().kind == ErrorKind::kInvalid) {
    generation.why_no_context = std::move(acquired).error().message;
    return {};
  }
  if (!acquired) return std::unexpected(std::move(acquired).error());
  if (request.chat)
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(acquired->context->tokens.size()));
  generation.context = std::move(acquired->context);
  generation.context_was_resident = acquired->was_complete;
  const auto work = generation.context->compute_work();
  if (work && request.deadline) work->set_deadline(clock_.now() + *request.deadline);
  return {};
}

Result<PreparedRequest> RequestPreparation::prepare(CompletionRequest request) {
  PreparedRequest out;
  GenerationRequest& generation = out.generation;
  CELSLM_TRY(const std::optional<std::string> shared, shared_text(request));
  if (shared && request.chat && !begins_with_system_message(request))
    request.messages.insert(request.messages.begin(), {.role = "system", .content = *shared});
  CELSLM_TRY(std::vector<Token> tokens, prompt_tokens(request, !shared));
  if (shared) CELSLM_CHECK_OK(use_context(*shared, request, tokens, generation));
  const std::size_t n_context = generation.context ? generation.context->tokens.size() : 0;
  if (tokens.empty()) return fail(ErrorKind::kInvalid, "the prompt is empty");
  const std::size_t used = tokens.size() + n_context;
  const auto room = static_cast<std::size_t>(model_.config().n_ctx_train);
  if (used >= room) {
    return fail(ErrorKind::kInvalid, "context length exceeded: the prompt has {} tokens, the model's context {}", used,
                room);
  }
  const int left = static_cast<int>(room - used);
  generation.prompt = std::move(tokens);
  generation.max_tokens = std::min(request.max_tokens.value_or(left), left);
  generation.sampler = sampler_of(request);
  generation.stop = request.stop;
  generation.logprobs = request.logprobs;
  generation.top_logprobs = request.top_logprobs;
  if (request.chat) {
    out.style = model_.text().chat_style();
    CELSLM_TRY(generation.sampler.grammar, grammar_of(request, out.style));
    std::ranges::move(stops_behind_calls(request.tools, out.style), std::back_inserter(generation.stop));
  }
  generation.shown = shown_tokens(model_.text(), out.style, request);
  out.echo = echo_of(request);
  out.request = std::move(request);
  return out;
}

}  // namespace celslm
