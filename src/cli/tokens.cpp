// celslm tokens: the tokens that a model is given for a chat.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iterator>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/commands.h"
#include "core/file.h"
#include "core/json.h"
#include "kv/pack/context_handle.h"
#include "model/gguf/gguf_parts.h"
#include "model/text/text.h"
#include "serve/openai/openai.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxFileBytes = 1ULL << 30;

constexpr const char* kDescription =
    "Show the tokens that a model is given for a chat: the messages as its chat template writes them, and how many of the "
    "first tokens every chat with the same system message shares. Needs the model's vocabulary only";

constexpr const char* kExamples = R"(Examples:
  echo '{"messages": [{"role": "user", "content": "Hello"}]}' | celslm tokens - --model qwen2.5-0.5b-q4_0.gguf
  celslm tokens chats.jsonl --model m.gguf --json
      a line of JSON for each line of the file: {"tokens": [...], "n_context": 0}; where the system message can be a
      registered context, "n_context" is how many of the tokens are its, and "context" its handle
)";

struct TokensCommand {
  std::string file;
  std::string model_file;
  std::string template_file;
  bool as_json = false;
};

Result<std::string> read_text(Environment& env, const std::string& file) {
  if (file == "-") return std::string(std::istreambuf_iterator<char>(env.in), {});
  CELSLM_TRY(const Bytes bytes, read_file(file, kMaxFileBytes));
  return std::string(as_text(bytes));
}

Result<std::unique_ptr<const Text>> load_text(const TokensCommand& command) {
  CELSLM_CHECK_OK(open_gguf(command.model_file).transform([](auto&&) {}));  // libllama trusts what it reads
  std::optional<std::string> chat_template;
  if (!command.template_file.empty()) {
    CELSLM_TRY(const Bytes bytes, read_file(command.template_file, kMaxFileBytes));
    chat_template = as_text(bytes);
  }
  auto text = Text::load(command.model_file, chat_template);
  if (!text) return wrap(std::move(text).error(), command.model_file);
  return text;
}

// One request, over any number of lines, or one on each line.
Result<std::vector<CompletionRequest>> parse_chats(std::string_view text) {
  std::vector<CompletionRequest> out;
  auto only = parse_chat_request(text);
  if (only) {
    out.push_back(*std::move(only));
    return out;
  }
  if (text.find('\n') >= text.size() - 1) return std::unexpected(std::move(only).error());
  for (int line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    auto request = parse_chat_request(text.substr(0, end));
    if (!request) return wrap(std::move(request).error(), fmt::format("line {}", line));
    out.push_back(*std::move(request));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// Of the chat's first tokens, those of the context that its system message is when registered.
std::size_t n_context_tokens(const Text& text, std::span<const ChatMessage> chat, std::span<const Token> tokens) {
  if (chat.front().role != "system") return 0;
  const auto context = text.context(chat.front().content);
  const bool shared =
      context && tokens.size() > context->size() && std::ranges::equal(tokens.first(context->size()), *context);
  return shared ? context->size() : 0;
}

Status show_tokens(Environment& env, const TokensCommand& command) {
  CELSLM_TRY(const std::string input, read_text(env, command.file));
  CELSLM_TRY(const auto chats, parse_chats(input));
  CELSLM_TRY(const auto text, load_text(command));
  for (const CompletionRequest& request : chats) {
    const std::vector<ChatMessage>& chat = request.messages;
    CELSLM_TRY(const std::vector<Token> tokens, text->chat(chat, request.chat_options()));
    const std::size_t n_context = n_context_tokens(*text, chat, tokens);
    if (command.as_json) {
      json line{{"tokens", tokens}, {"n_context", n_context}};
      if (n_context > 0) line["context"] = context_handle(chat.front().content).hex();
      env.out << dump_json(line) << '\n';
      continue;
    }
    for (const Token token : tokens) env.out << fmt::format("{:>7} {}\n", token, dump_json(text->piece(token, true)));
    env.err << fmt::format("{} tokens; as a registered context, the system message is the first {}\n", tokens.size(),
                           n_context);
  }
  env.out << std::flush;
  return {};
}

}  // namespace

void add_tokens(CLI::App& app, Environment& env) {
  auto command = std::make_shared<TokensCommand>();
  CLI::App* tokens = app.add_subcommand("tokens", kDescription);
  tokens->footer(kExamples);
  tokens
      ->add_option("FILE", command->file,
                   "JSON as sent to /v1/chat/completions, several requests one a line; '-' for standard input")
      ->required();
  tokens->add_option("--model,-m", command->model_file, "GGUF file of the model")->required()->option_text("FILE REQUIRED");
  tokens->add_option("--chat-template", command->template_file, "File with a Jinja template to use instead of the model's")
      ->option_text("FILE");
  tokens->add_flag("--json", command->as_json, "Print one line of JSON per request");
  tokens->callback([&env, command] {
    env.action = [&env, command] {
      const Status status = show_tokens(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
