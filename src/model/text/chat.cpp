// Conversations through the model's own template, so that no message can speak in the template's voice.
//
// libllama renders a template to plain text, in which a user's "<|im_end|>" looks like the template's. So the template is
// rendered a second time with a unique mark for each content: what lies between the marks is the template's, and control
// tokens are recognised there only.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>

#include "core/text.h"
#include "model/text/text.h"
#include "model/text/vocabulary.h"

namespace celslm {
namespace {

constexpr std::size_t kMaxMessages = 4096;         // a request that repeats "" a million times
constexpr std::size_t kMaxChatBytes = 256U << 20;  // of all contents
constexpr std::string_view kSpaces = " \t\n\v\f\r";

// Text to be tokenized as it stands, or one control token.
struct Piece {
  std::string text;
  std::optional<Token> token;
  bool operator==(const Piece&) const = default;
};

Result<std::string> render(const Text::Impl& impl, std::span<const ChatMessage> messages, bool answer) {
  std::vector<llama_chat_message> raw;
  std::size_t size = 1024;
  for (const ChatMessage& m : messages) {
    raw.push_back({.role = m.role.c_str(), .content = m.content.c_str()});
    size += m.content.size() + 64;
  }
  std::string out(size, '\0');
  const auto apply = [&] {
    return llama_chat_apply_template(impl.chat_template.c_str(), raw.data(), raw.size(), answer, out.data(),
                                     static_cast<std::int32_t>(out.size()));
  };
  std::int32_t n = apply();
  if (n > static_cast<std::int32_t>(out.size())) {
    out.resize(static_cast<std::size_t>(n));
    n = apply();
  }
  if (n < 0) return fail(ErrorKind::kInvalid, "the model's chat template is not one that libllama knows");
  out.resize(static_cast<std::size_t>(n));
  return out;
}

// The template's own text before, between and after the contents: messages.size() + 1 pieces.
Result<std::vector<std::string>> template_text(const Text::Impl& impl, std::span<const ChatMessage> messages, bool answer) {
  const auto mark = [](std::size_t i) { return fmt::format("\x01{}\x02", i); };
  std::vector<ChatMessage> marked(messages.begin(), messages.end());
  for (std::size_t i = 0; i < marked.size(); ++i) marked[i].content = mark(i);
  CELSLM_TRY(const std::string text, render(impl, marked, answer));
  std::vector<std::string> out;
  std::size_t from = 0;
  for (std::size_t i = 0; i < marked.size(); ++i) {
    const std::size_t at = text.find(mark(i), from);
    if (at == std::string::npos || text.find(mark(i), at + 1) != std::string::npos) {
      return fail(ErrorKind::kInvalid, "the model's chat template does not show message {} ({}) once, in order", i,
                  messages[i].role);
    }
    out.push_back(text.substr(from, at - from));
    from = at + mark(i).size();
  }
  out.push_back(text.substr(from));
  return out;
}

std::string joined(std::span<const std::string> between, std::span<const std::string> contents) {
  std::string out = between.front();
  for (std::size_t i = 0; i < contents.size(); ++i) out += contents[i] + between[i + 1];
  return out;
}

// The contents as the template shows them: as given, or without the spaces around them, which some templates take off.
Result<std::vector<std::string>> shown_contents(const Text::Impl& impl, std::span<const ChatMessage> messages, bool answer,
                                                std::span<const std::string> between) {
  CELSLM_TRY(const std::string text, render(impl, messages, answer));
  std::vector<std::string> contents;
  for (const ChatMessage& m : messages) contents.push_back(m.content);
  if (joined(between, contents) == text) return contents;
  for (std::string& content : contents) content = std::string(trimmed(content, kSpaces));
  if (joined(between, contents) == text) return contents;
  return fail(ErrorKind::kInvalid, "the model's chat template rewrites messages in a way that is not known here");
}

void append_text(std::vector<Piece>& pieces, std::string_view text) {
  if (text.empty()) return;
  if (pieces.empty() || pieces.back().token) pieces.emplace_back();
  pieces.back().text += text;
}

// Template text cut at its control tokens, the longest first as libllama does.
void append_template(std::vector<Piece>& pieces, std::string_view text, std::span<const SpecialWord> words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const SpecialWord& word = words[i];
    const std::size_t at = text.find(word.text);
    if (at == std::string_view::npos) continue;
    std::string_view before = text.substr(0, at);
    std::string_view after = text.substr(at + word.text.size());
    if (word.strips_left) before = before.substr(0, before.find_last_not_of(kSpaces) + 1);
    if (word.strips_right) after.remove_prefix(std::min(after.find_first_not_of(kSpaces), after.size()));
    append_template(pieces, before, words.subspan(i + 1));
    pieces.push_back({.text = {}, .token = word.token});
    append_template(pieces, after, words.subspan(i));
    return;
  }
  append_text(pieces, text);
}

Status check_messages(const Text::Impl& impl, std::span<const ChatMessage> messages) {
  if (impl.chat_template.empty())
    return fail(ErrorKind::kInvalid, "the model carries no chat template; use plain completions");
  if (messages.empty() || messages.size() > kMaxMessages) {
    return fail(ErrorKind::kInvalid, "{} messages; 1 to {} are accepted", messages.size(), kMaxMessages);
  }
  std::size_t bytes = 0;
  for (const ChatMessage& m : messages) {
    // Templates show roles verbatim: a role must not be able to spell a control token.
    const bool plain = std::ranges::all_of(m.role, [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
    if (m.role.empty() || m.role.size() > 32 || !plain)
      return fail(ErrorKind::kInvalid, "'{}' is not a role", m.role.substr(0, 32));
    if (m.content.contains('\0')) return fail(ErrorKind::kInvalid, "a message contains a NUL byte");
    bytes += m.content.size();
  }
  if (bytes > kMaxChatBytes)
    return fail(ErrorKind::kInvalid, "messages of {} bytes; at most {} are accepted", bytes, kMaxChatBytes);
  return {};
}

struct Rendered {
  std::vector<Piece> pieces;          // no two texts next to each other: every boundary has a control token on one side
  std::size_t first_content_end = 0;  // pieces up to and with the one that ends the first content
};

Result<Rendered> pieces_of(const Text::Impl& impl, std::span<const ChatMessage> messages, bool answer) {
  CELSLM_CHECK_OK(check_messages(impl, messages));
  CELSLM_TRY(const auto between, template_text(impl, messages, answer));
  CELSLM_TRY(const auto contents, shown_contents(impl, messages, answer, between));
  Rendered out;
  append_template(out.pieces, between.front(), impl.special_words);
  for (std::size_t i = 0; i < contents.size(); ++i) {
    append_text(out.pieces, contents[i]);
    if (i == 0) out.first_content_end = out.pieces.size();
    append_template(out.pieces, between[i + 1], impl.special_words);
  }
  return out;
}

std::vector<Token> tokens_of(const Text& text, std::span<const Piece> pieces) {
  std::vector<Token> out;
  const Token bos = llama_vocab_bos(text.impl().vocab);
  const bool has_bos = !pieces.empty() && pieces.front().token == bos;
  if (text.adds_bos() && !has_bos) out.push_back(bos);
  for (const Piece& piece : pieces) {
    if (piece.token) {
      out.push_back(*piece.token);
    } else {
      const auto tokens = text.tokenize(piece.text, false, false);
      out.insert(out.end(), tokens.begin(), tokens.end());
    }
  }
  return out;
}

}  // namespace

Result<std::vector<Token>> Text::chat(std::span<const ChatMessage> messages) const {
  CELSLM_TRY(const Rendered rendered, pieces_of(*impl_, messages, true));
  return tokens_of(*this, rendered.pieces);
}

// What the system message alone and a conversation that begins with it have in common, in complete pieces: tokenization
// never looks across a control token. If the message itself is not wholly in it, the template runs it together with what
// follows.
Result<std::vector<Token>> Text::context(std::string_view system_text) const {
  const ChatMessage system{.role = "system", .content = std::string(system_text)};
  const std::vector<ChatMessage> both = {system, {.role = "user", .content = "x"}};
  CELSLM_TRY(const Rendered alone, pieces_of(*impl_, {&system, 1}, false));
  CELSLM_TRY(const Rendered followed, pieces_of(*impl_, both, true));
  const auto common = std::ranges::mismatch(alone.pieces, followed.pieces).in1 - alone.pieces.begin();
  if (static_cast<std::size_t>(common) < std::max<std::size_t>(alone.first_content_end, 1)) {
    return fail(
        ErrorKind::kInvalid,
        "this model's chat template runs system message and user's turn together; contexts cannot be shared with it");
  }
  return tokens_of(*this, std::span(alone.pieces).first(static_cast<std::size_t>(common)));
}

}  // namespace celslm
