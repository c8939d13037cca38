#include "model/text/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <limits>
#include <span>

#include "model/backend.h"
#include "model/text/vocabulary.h"

namespace celslm {
namespace {

constexpr std::size_t kMaxText = std::numeric_limits<std::int32_t>::max() / 4;

std::vector<ControlWord> control_words_of(const llama_vocab* vocab) {
  std::vector<ControlWord> words;
  for (Token t = 0; t < llama_vocab_n_tokens(vocab); ++t) {
    const auto attributes = static_cast<unsigned>(llama_vocab_get_attr(vocab, t));
    if ((attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) == 0) continue;
    const char* text = llama_vocab_get_text(vocab, t);
    if (text == nullptr || *text == '\0') continue;
    words.push_back({.text = text,
                     .token = t,
                     .strips_left = (attributes & LLAMA_TOKEN_ATTR_LSTRIP) != 0,
                     .strips_right = (attributes & LLAMA_TOKEN_ATTR_RSTRIP) != 0});
  }
  return words;
}

std::vector<Token> tokenize_with(const llama_vocab* vocab, std::string_view text, bool add_special, bool special) {
  std::vector<Token> out(text.size() + 2);
  const auto size = static_cast<std::int32_t>(text.size());
  const auto room = static_cast<std::int32_t>(out.size());
  std::int32_t n = llama_tokenize(vocab, text.data(), size, out.data(), room, add_special, special);
  if (n < 0 && n != std::numeric_limits<std::int32_t>::min()) {
    out.resize(static_cast<std::size_t>(-n));
    n = llama_tokenize(vocab, text.data(), size, out.data(), -n, add_special, special);
  }
  out.resize(static_cast<std::size_t>(std::max(n, 0)));
  return out;
}

// libllama throws in the middle of a text when a vocabulary has no token for one of its bytes: such a model is refused here,
// so that tokenize() cannot fail later.
Status try_every_byte(const llama_vocab* vocab) {
  try {
    for (int byte = 1; byte < 256; ++byte) tokenize_with(vocab, std::string(1, static_cast<char>(byte)), false, false);
  } catch (const std::exception&) {
    return fail(ErrorKind::kInvalid, "the tokenizer has no tokens for some bytes");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<const Text>> Text::load(const std::filesystem::path& gguf,
                                               const std::optional<std::string>& chat_template) {
  CELSLM_CHECK_OK(CpuBackend::get().transform([](auto*) {}));
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  auto impl = std::make_unique<Impl>();
  try {
    impl->model.reset(llama_model_load_from_file(gguf.c_str(), params));
  } catch (const std::exception& error) {
    return fail(ErrorKind::kInvalid, "libllama does not accept its vocabulary: {}", error.what());
  }
  if (!impl->model) return fail(ErrorKind::kInvalid, "libllama does not accept its vocabulary");
  impl->vocab = llama_model_get_vocab(impl->model.get());
  CELSLM_CHECK_OK(try_every_byte(impl->vocab));
  impl->control_words = std::make_unique<const ControlWords>(control_words_of(impl->vocab));
  auto text = std::unique_ptr<Text>(new Text(std::move(impl)));
  const char* own = llama_model_chat_template(text->impl_->model.get(), nullptr);
  text->set_chat_template(chat_template ? *chat_template : own == nullptr ? "" : own);
  return text;
}

// A model without a template that can be rendered still completes texts.
void Text::set_chat_template(std::string_view source) {
  if (source.empty()) {
    impl_->chat_problem = "the model carries no chat template; use plain completions";
    return;
  }
  auto chat_template =
      ChatTemplate::create(source, piece(llama_vocab_bos(impl_->vocab), true), piece(llama_vocab_eos(impl_->vocab), true));
  if (!chat_template) {
    impl_->chat_problem =
        fmt::format("the model's chat template cannot be used ({}); use plain completions", chat_template.error().message);
    return;
  }
  impl_->chat_template = *std::move(chat_template);
  impl_->chat_style = impl_->chat_template->style();
  const ControlWords& words = *impl_->control_words;
  std::ranges::copy_if(impl_->chat_template->literals(), std::back_inserter(impl_->plain_literals),
                       [&](const std::string& literal) {
                         return std::ranges::any_of(literal, [&](char c) { return words.begins_or_ends_with(c); }) &&
                                !words.may_take_part(literal);
                       });
}

const std::string& Text::chat_problem() const {
  return impl_->chat_problem;
}

const ChatStyle& Text::chat_style() const {
  return impl_->chat_style;
}

std::optional<Token> Text::hidden_token(std::string_view word) const {
  const auto parts = impl_->control_words->split(word);
  if (parts.size() != 1 || !parts.front().token || !piece(*parts.front().token).empty()) return std::nullopt;
  return parts.front().token;
}

Text::Text(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Text::~Text() = default;

int Text::n_vocab() const {
  return llama_vocab_n_tokens(impl_->vocab);
}
bool Text::adds_bos() const {
  return llama_vocab_get_add_bos(impl_->vocab);
}

bool Text::ends_generation(Token token) const {
  return token >= 0 && token < n_vocab() && llama_vocab_is_eog(impl_->vocab, token);
}

std::vector<Token> Text::tokenize(std::string_view text, bool add_bos, bool special) const {
  if (text.size() > kMaxText) return {};
  std::vector<Token> out;
  if (add_bos && adds_bos()) out.push_back(llama_vocab_bos(impl_->vocab));
  const auto rest = tokenize_with(impl_->vocab, text, false, special);
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

std::string Text::piece(Token token, bool special) const {
  if (token < 0 || token >= n_vocab()) return {};
  std::string out(32, '\0');
  int n = llama_token_to_piece(impl_->vocab, token, out.data(), static_cast<std::int32_t>(out.size()), 0, special);
  if (n < 0) {
    out.resize(static_cast<std::size_t>(-n));
    n = llama_token_to_piece(impl_->vocab, token, out.data(), -n, 0, special);
  }
  out.resize(static_cast<std::size_t>(std::max(n, 0)));
  return out;
}

std::string Text::detokenize(std::span<const Token> tokens, bool special) const {
  if (!std::ranges::all_of(tokens, [&](Token t) { return t >= 0 && t < n_vocab(); })) return {};
  const auto count = static_cast<std::int32_t>(tokens.size());
  std::string out(tokens.size() * 8 + 16, '\0');
  int n = llama_detokenize(impl_->vocab, tokens.data(), count, out.data(), static_cast<std::int32_t>(out.size()), false,
                           special);
  if (n < 0) {
    out.resize(static_cast<std::size_t>(-n));
    n = llama_detokenize(impl_->vocab, tokens.data(), count, out.data(), -n, false, special);
  }
  out.resize(static_cast<std::size_t>(std::max(n, 0)));
  return out;
}

}  // namespace celslm
