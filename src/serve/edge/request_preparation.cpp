#include "serve/edge/request_preparation.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <span>

#include "core/text.h"
#include "model/text/token_bound.h"
#include "serve/batch/prefix_cache.h"
#include "serve/openai/tool_grammar.h"
#include "serve/route/confidence.h"

namespace celslm {
namespace {

bool begins_with_system_message(const CompletionRequest& request) {
  return !request.messages.empty() && request.messages.front().role == "system";
}

// How many tokens of the context a request with these tokens can use: those that both begin with, except the request's
// last one, which has to be computed. Rows of a studied context stand for all of its tokens, and a recurrent layer's state
// is that behind its last one.
int usable(const ResidentContext& context, std::span<const Token> tokens) {
  if (tokens.empty()) return 0;
  const int n = common_prefix(context.tokens, tokens.first(tokens.size() - 1));
  if (n == static_cast<int>(context.tokens.size())) return n;
  const bool all_or_nothing = context.study || context.segment->has_states();
  return all_or_nothing || n < kMinPrefix ? 0 : n;
}

void set_context(GenerationRequest& generation, std::shared_ptr<ResidentContext> context, int n_tokens) {
  generation.context_tokens.reset();
  if (n_tokens < static_cast<int>(context->tokens.size())) generation.context_tokens = n_tokens;
  generation.context = std::move(context);
  generation.began_load = false;
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
  return calls;
}

std::vector<Token> shown_tokens(const Text& text, const ChatStyle& style, const CompletionRequest& request) {
  std::vector<Token> out;
  if (!request.chat) return out;
  for (const std::string& word : style.markers()) {
    if (const auto token = text.hidden_token(word)) out.push_back(*token);
  }
  return out;
}

// What a text is tokenized from on is counted first, and has a lease: below, it takes a few megabytes.
constexpr std::size_t kLongBytes = 64U << 10;
// Of memory, for each byte of a text that is rendered and tokenized: libllama's symbols and pairs of them, and copies.
constexpr std::uint64_t kBytesPerByte = 64;

// Texts of which a template shows all but the blanks at the ends. An answer's thoughts may be left out, and what a template
// takes for thoughts.
std::string_view shown_in_full(const ChatMessage& message) {
  if (message.role == "assistant") return {};
  const std::string_view text = message.content;
  const std::size_t thoughts = text.rfind("</think>");
  return trimmed(thoughts == std::string_view::npos ? text : text.substr(thoughts), " \t\n\v\f\r");
}

std::size_t text_bytes(const CompletionRequest& request) {
  std::size_t sum = 0;
  for (const ChatMessage& message : request.messages) sum += message.content.size();
  if (const auto* words = std::get_if<std::string>(&request.prompt); words != nullptr && !request.chat) sum += words->size();
  return sum;
}

// The answer is made of every token's row, none of which a context keeps.
bool needs_all_rows(const CompletionRequest& request) {
  return !request.chat && (request.max_tokens == 0 || (request.echo && request.logprobs));
}

}  // namespace

// Why it does not fit the model's context, where that is certain from counting; empty if not.
std::string RequestPreparation::certainly_too_long(const CompletionRequest& request) const {
  if (text_bytes(request) < kLongBytes) return "";
  const auto room = static_cast<std::size_t>(model_.config().n_ctx_train);
  std::size_t tokens = 0;
  const auto count = [&](std::string_view text) {
    if (tokens <= room) tokens += at_least_tokens(model_.text(), text, room - tokens);
  };
  const auto* words = std::get_if<std::string>(&request.prompt);
  if (!request.chat && words != nullptr) count(*words);
  for (const ChatMessage& message : request.messages) count(shown_in_full(message));
  if (tokens <= room) return "";
  return fmt::format("context length exceeded: the prompt has more than {} tokens, the model's context {}", room, room);
}

Result<MemoryLease> RequestPreparation::memory_to_tokenize(const CompletionRequest& request) const {
  const std::size_t bytes = text_bytes(request);
  if (bytes < kLongBytes) return MemoryLease();
  memory_.make_room(bytes * kBytesPerByte);
  return memory_.take("tokenizing", bytes * kBytesPerByte);
}

// The registered text that this request begins with, if any: named by its handle, or found at the beginning of its system
// message. Where that is so only but for a byte order mark or the line breaks, the message gets the registered form.
Result<std::optional<std::string>> RequestPreparation::shared_text(CompletionRequest& request, const std::string& tenant) {
  if (request.context) {
    CELSLM_TRY(std::string text, directory_.text(*request.context, tenant));
    if (begins_with_system_message(request) && request.messages.front().content != text) {
      return fail(
          ErrorKind::kInvalid,
          "the request names a context in 'x_celslm' and also has a different system message: give only one of them");
    }
    return std::optional(std::move(text));
  }
  if (!request.chat || !begins_with_system_message(request)) return std::nullopt;
  auto beginning = directory_.beginning(request.messages.front().content, tenant);
  if (!beginning) return std::nullopt;
  request.messages.front().content = std::move(beginning->message);
  return std::move(beginning->text);
}

Result<std::vector<Token>> RequestPreparation::prompt_tokens(const CompletionRequest& request, bool with_bos) const {
  const Text& text = model_.text();
  if (request.chat && request.continue_final_message) {
    const std::span<const ChatMessage> messages(request.messages);
    CELSLM_TRY(std::vector<Token> out, text.chat(messages.first(messages.size() - 1), request.chat_options()));
    const std::vector<Token> begun = text.tokenize(messages.back().content, false, false);
    out.insert(out.end(), begun.begin(), begun.end());
    return out;
  }
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

// Finds the text's context, and how much of it a chat begins with. A chat whose system message begins with this text, but
// which does not name the context, does without where the model's template keeps it from being shared.
Status RequestPreparation::use_context(const std::string& text, const CompletionRequest& request,
                                       const std::vector<Token>& tokens, GenerationRequest& generation) {
  auto acquired = contexts_.acquire(text, generation.tenant);
  const int n_tokens = !acquired      ? 0
                       : request.chat ? usable(*acquired->context, tokens)
                                      : static_cast<int>(acquired->context->tokens.size());
  if (acquired && n_tokens == 0)
    acquired =
        fail(ErrorKind::kInvalid, "{}",
             acquired->context->study ? "a studied context counts only for chats that begin with all of its tokens"
                                      : "the model's chat template does not begin this chat with the context's tokens");
  if (!acquired && request.chat && !request.context && acquired.error().kind == ErrorKind::kInvalid) {
    generation.why_no_context = std::move(acquired).error().message;
    return {};
  }
  if (!acquired) return std::unexpected(std::move(acquired).error());
  if (!acquired->was_complete) directory_.remember(text, generation.tenant);
  set_context(generation, std::move(acquired->context), n_tokens);
  generation.context_was_resident = acquired->was_complete;
  generation.began_load = acquired->began_load;
  const auto work = generation.context->compute_work();
  if (work && request.deadline) work->set_deadline(clock_.now() + *request.deadline);
  return {};
}

// The context in memory with the most leading tokens in common, if that is more than the request has already.
void RequestPreparation::use_resident_context(const std::vector<Token>& tokens, GenerationRequest& generation) const {
  int most = generation.n_context();
  for (const auto& context : contexts_.table().all()) {
    if (!context->complete() || context->tenant != generation.tenant) continue;
    const int n = usable(*context, tokens);
    if (n <= most) continue;
    most = n;
    set_context(generation, context, n);
    generation.context_was_resident = true;
    generation.context_is_optional = true;
  }
}

std::string RequestPreparation::echo_of(const CompletionRequest& request) const {
  if (request.chat || !request.echo) return "";
  if (const auto* words = std::get_if<std::string>(&request.prompt)) return *words;
  return model_.text().detokenize(std::get<std::vector<Token>>(request.prompt), true);
}

Result<PreparedRequest> RequestPreparation::prepare(CompletionRequest request, const std::string& client,
                                                    const std::string& tenant) {
  PreparedRequest out;
  GenerationRequest& generation = out.generation;
  generation.tenant = tenant;
  out.too_long = certainly_too_long(request);
  if (!out.too_long.empty()) return out;
  CELSLM_TRY(MemoryLease tokenizing, memory_to_tokenize(request));
  CELSLM_TRY(const std::optional<std::string> shared, shared_text(request, tenant));
  if (shared && request.chat && !begins_with_system_message(request))
    request.messages.insert(request.messages.begin(), {.role = "system", .content = *shared});
  CELSLM_TRY(std::vector<Token> tokens, prompt_tokens(request, !shared));
  tokenizing.release();
  if (shared) CELSLM_CHECK_OK(use_context(*shared, request, tokens, generation));
  if (!request.context && !needs_all_rows(request)) use_resident_context(tokens, generation);
  const auto n_context = static_cast<std::size_t>(generation.n_context());
  if (request.chat || !request.context) tokens.erase(tokens.begin(), tokens.begin() + generation.n_context());
  if (tokens.empty()) return fail(ErrorKind::kInvalid, "the prompt is empty");
  const std::size_t used = tokens.size() + n_context;
  const auto room = static_cast<std::size_t>(model_.config().n_ctx_train);
  if (used + (request.max_tokens == 0 ? 0 : 1) > room)
    out.too_long = fmt::format("context length exceeded: the prompt has {} tokens, the model's context {}", used, room);
  const int left = static_cast<int>(room - std::min(used, room));
  generation.begins_with_bos = !shared && std::holds_alternative<std::string>(request.prompt) && model_.text().adds_bos();
  generation.prompt = std::move(tokens);
  generation.owner = client;
  generation.max_tokens = std::min(request.max_tokens.value_or(left), left);
  generation.sampler = sampler_of(request);
  generation.stop = request.stop;
  generation.logprobs = request.logprobs || request.confidence;
  generation.top_logprobs = request.confidence ? std::max(request.top_logprobs, kConfidenceTop) : request.top_logprobs;
  if (request.chat) {
    out.style = model_.text().chat_style();
    CELSLM_TRY(generation.sampler.grammar, grammar_of(request, out.style));
    std::ranges::move(stops_behind_calls(request.tools, out.style), std::back_inserter(generation.stop));
  }
  generation.shown = shown_tokens(model_.text(), out.style, request);
  generation.prompt_logprobs = !request.chat && request.echo && request.logprobs;
  out.echo = echo_of(request);
  out.request = std::move(request);
  return out;
}

}  // namespace celslm
