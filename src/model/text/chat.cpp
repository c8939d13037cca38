// Chats, and the tokens that chats with one system message share.
#include <algorithm>
#include <bitset>
#include <span>
#include <vector>

#include "core/text.h"
#include "model/text/conversation.h"
#include "model/text/text.h"
#include "model/text/vocabulary.h"

namespace celslm {
namespace {

constexpr std::string_view kSpaces = " \t\n\v\f\r";

using Pieces = std::vector<Piece>;
using BytePairs = std::bitset<std::size_t{256} * 256>;

std::size_t byte_pair(char a, char b) {
  return std::size_t{static_cast<unsigned char>(a)} * 256 + static_cast<unsigned char>(b);
}

bool begins_with(std::span<const Token> tokens, std::span<const Token> beginning) {
  return tokens.size() >= beginning.size() && std::ranges::equal(tokens.first(beginning.size()), beginning);
}

// Conversations that differ in what follows the system message.
Result<std::vector<Pieces>> conversations(const Text::Impl& impl, std::string_view system_text) {
  const ChatMessage system{.role = "system", .content = std::string(system_text)};
  std::vector<Pieces> out;
  for (const char* user : {"x", "7", "\n", " y"}) {
    const ChatMessage question{.role = "user", .content = user};
    auto pieces = conversation_pieces(impl, std::array{system, question}, true);
    if (!pieces && out.empty()) return std::unexpected(std::move(pieces).error());
    if (pieces) out.push_back(*std::move(pieces));
  }
  const ChatMessage question{.role = "user", .content = "x"};
  const ChatMessage answer{.role = "assistant", .content = "x"};
  if (auto longer = conversation_pieces(impl, std::array{system, question, answer, question}, true))
    out.push_back(*std::move(longer));
  // Alone, the system message ends before the user's turn, unless the template writes it there only.
  const std::string_view shown = trimmed(system_text, kSpaces);
  if (auto alone = conversation_pieces(impl, std::array{system}, false)) {
    if (std::ranges::any_of(*alone, [&](const Piece& piece) { return piece.text.contains(shown); }))
      out.push_back(*std::move(alone));
  }
  return out;
}

std::size_t common_pieces(const std::vector<Pieces>& all) {
  std::size_t common = all.front().size();
  for (const Pieces& pieces : all)
    common = std::min<std::size_t>(common, std::ranges::mismatch(all.front(), pieces).in1 - all.front().begin());
  return common;
}

// What the texts that follow the first n pieces begin with.
std::string_view common_text(const std::vector<Pieces>& all, std::size_t n) {
  if (all.front().size() <= n) return {};
  std::string_view common = all.front()[n].text;
  for (const Pieces& pieces : all) {
    const std::string_view text = pieces.size() > n ? std::string_view(pieces[n].text) : "";
    common = common.substr(0, std::ranges::mismatch(common, text).in1 - common.begin());
  }
  return common;
}

// Bytes that are neighbours in some token.
BytePairs pairs_within_tokens(const Text& text) {
  BytePairs out;
  for (Token t = 0; t < text.n_vocab(); ++t) {
    const std::string piece = text.piece(t);
    for (std::size_t i = 1; i < piece.size(); ++i) out.set(byte_pair(piece[i - 1], piece[i]));
  }
  return out;
}

// Bytes of the beginning whose tokens do not depend on what follows it. A SentencePiece vocabulary joins neighbours into
// what is a token: between two bytes that are neighbours in no token nothing is joined, whatever else the text holds. Other
// tokenizers split by expressions that look ahead; for them this is 0.
std::size_t fixed_beginning(const Text& text, std::string_view beginning) {
  if (beginning.size() < 2 || llama_vocab_type(text.impl().vocab) != LLAMA_VOCAB_TYPE_SPM) return 0;
  const BytePairs joined = pairs_within_tokens(text);
  for (std::size_t i = beginning.size() - 1; i > 0; --i) {
    const bool inside_character = (static_cast<unsigned char>(beginning[i]) & 0xC0U) == 0x80U;
    // A token may swallow the blanks before it.
    const bool after_blank = kSpaces.contains(beginning[i - 1]);
    if (!inside_character && !after_blank && !joined[byte_pair(beginning[i - 1], beginning[i])]) return i;
  }
  return 0;
}

// Whether a chat with another system message begins with these tokens, too.
bool holds_nothing_of(const Text& text, std::string_view system_text, std::span<const Token> tokens) {
  if (trimmed(system_text, kSpaces).empty()) return false;
  const ChatMessage other{.role = "system", .content = trimmed(system_text, kSpaces).starts_with('x') ? "y" : "x"};
  const auto chat = text.chat(std::array{other, ChatMessage{.role = "user", .content = "x"}});
  return chat && begins_with(*chat, tokens);
}

}  // namespace

Result<std::vector<Token>> Text::chat(std::span<const ChatMessage> messages, const ChatOptions& options) const {
  CELSLM_TRY(const Pieces pieces, conversation_pieces(*impl_, messages, true, options));
  return tokens_of(*this, pieces);
}

Result<std::vector<Token>> Text::context(std::string_view system_text) const {
  CELSLM_TRY(const std::vector<Pieces> all, conversations(*impl_, system_text));
  const std::size_t n = common_pieces(all);
  Pieces shared(all.front().begin(), all.front().begin() + static_cast<std::ptrdiff_t>(n));
  if (const std::string_view text = common_text(all, n); !text.empty()) {
    const std::size_t fixed = fixed_beginning(*this, text);
    if (fixed > 0) shared.push_back({.text = std::string(text.substr(0, fixed))});
  }
  std::vector<Token> tokens = tokens_of(*this, shared);
  if (tokens.empty() || holds_nothing_of(*this, system_text, tokens)) {
    return fail(
        ErrorKind::kInvalid,
        "this model's chat template runs system message and user's turn together; contexts cannot be shared with it");
  }
  return tokens;
}

}  // namespace celslm
