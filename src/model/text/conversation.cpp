// Conversations through the model's own template, so that no message can speak in the template's voice.
//
// A template writes plain text, in which a user's "<|im_end|>" looks like the template's. So it is rendered a second time
// with other contents: of the same length, but without the characters that a control token could begin or end with. Where
// the two renderings agree, they show which control tokens are the template's own. Characters stay where a template may look
// for them (a "</think>" in an answer), unless a control token could begin or end there.
#include "model/text/conversation.h"

#include <algorithm>
#include <bitset>
#include <nlohmann/json.hpp>
#include <string_view>

#include "model/text/template_messages.h"
#include "model/text/vocabulary.h"

namespace celslm {
namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t kMaxMessages = 4096;         // a request that repeats "" a million times
constexpr std::size_t kMaxChatBytes = 256U << 20;  // of all contents
// Stand for characters taken out of contents: one that occurs nowhere else. No blanks, which templates trim; the first is no
// control character to JSON.
constexpr std::string_view kMarks = "\x7F\x01\x02\x03\x04\x05\x06\x07\x08\x0E\x0F\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19";

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// A conversation's parts that clients write, as one value so that all are treated alike.
struct Chat {
  std::vector<ChatMessage> messages;
  json tools;  // null: none
};

// Calls visit(std::string&) for each text in it, keys included. Texts of JSON are seen as they are when parsed.
template <typename Visit>
void visit_json(json& value, const Visit& visit) {
  if (value.is_string()) return visit(value.get_ref<std::string&>());
  if (value.is_array()) {
    for (json& item : value) visit_json(item, visit);
    return;
  }
  if (!value.is_object()) return;
  json renamed = json::object();
  for (auto& [name, item] : value.items()) {
    visit_json(item, visit);
    std::string key = name;
    visit(key);
    renamed[key] = std::move(item);
  }
  value = std::move(renamed);
}

template <typename Visit>
void visit_texts(Chat& chat, const Visit& visit) {
  for (ChatMessage& m : chat.messages) {
    visit(m.content);
    visit(m.reasoning);
    visit(m.tool_call_id);
    for (ToolCall& call : m.tool_calls) {
      visit(call.id);
      visit(call.name);
      json arguments = arguments_of(call);
      visit_json(arguments, visit);
      call.arguments = arguments.is_string() ? arguments.get<std::string>() : dumped(arguments);
    }
  }
  if (!chat.tools.is_null()) visit_json(chat.tools, visit);
}

Result<std::string> rendered(const Text::Impl& impl, const Chat& chat, bool answer, bool thinking) {
  const ChatOptions options{.tools = chat.tools.is_null() ? "" : dumped(chat.tools), .thinking = thinking};
  return impl.chat_template->render(chat.messages, answer, options);
}

Status check_messages(std::span<const ChatMessage> messages) {
  if (messages.empty() || messages.size() > kMaxMessages) {
    return fail(ErrorKind::kInvalid, "{} messages; 1 to {} are accepted", messages.size(), kMaxMessages);
  }
  for (const ChatMessage& m : messages) {
    // Templates show roles verbatim: a role must not be able to spell a control token.
    const bool plain = std::ranges::all_of(m.role, [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
    if (m.role.empty() || m.role.size() > 32 || !plain)
      return fail(ErrorKind::kInvalid, "'{}' is not a role", m.role.substr(0, 32));
  }
  return {};
}

Status check_texts(Chat& chat) {
  std::size_t bytes = 0;
  bool has_nul = false;
  visit_texts(chat, [&](const std::string& text) {
    bytes += text.size();
    has_nul = has_nul || text.contains('\0');
  });
  if (has_nul) return fail(ErrorKind::kInvalid, "a message or tool contains a NUL byte");
  if (bytes > kMaxChatBytes)
    return fail(ErrorKind::kInvalid, "messages of {} bytes; at most {} are accepted", bytes, kMaxChatBytes);
  return {};
}

Result<Chat> chat_of(std::span<const ChatMessage> messages, const ChatOptions& options) {
  CELSLM_CHECK_OK(check_messages(messages));
  Chat out{.messages = {messages.begin(), messages.end()}, .tools = {}};
  if (!options.tools.empty()) out.tools = json::parse(options.tools, nullptr, false);
  if (out.tools.is_discarded()) return fail(ErrorKind::kInvalid, "the definitions of tools are no JSON");
  CELSLM_CHECK_OK(check_texts(out));
  return out;
}

// Which bytes of a content the template may look for.
std::vector<bool> looked_for(const Text::Impl& impl, std::string_view content) {
  std::vector<bool> out(content.size());
  for (const std::string& literal : impl.plain_literals) {
    for (std::size_t at = content.find(literal); at != std::string_view::npos; at = content.find(literal, at + 1))
      std::fill_n(out.begin() + static_cast<std::ptrdiff_t>(at), literal.size(), true);
  }
  return out;
}

// Returns whether there was anything to take out.
bool neutralise(const Text::Impl& impl, std::string& content, char mark) {
  const ControlWords& words = *impl.control_words;
  const auto could_matter = [&](char c) { return words.begins_or_ends_with(c); };
  if (std::ranges::none_of(content, could_matter)) return false;
  const std::vector<bool> stays = looked_for(impl, content);
  for (std::size_t i = 0; i < content.size(); ++i) {
    if (could_matter(content[i]) && !stays[i]) content[i] = mark;
  }
  return true;
}

Result<char> unused_mark(const Text::Impl& impl, Chat& chat, std::string_view text) {
  std::bitset<256> used;
  const auto note = [&](std::string_view bytes) {
    for (const char c : bytes) used.set(static_cast<unsigned char>(c));
  };
  note(text);
  visit_texts(chat, note);
  for (const char mark : kMarks) {
    if (!used[static_cast<unsigned char>(mark)] && !impl.control_words->begins_or_ends_with(mark)) return mark;
  }
  return fail(ErrorKind::kInvalid, "the messages contain every control character there is");
}

// The text as rendered, but with marks for what its contents could spell control tokens with.
Result<std::string> without_voices(const Text::Impl& impl, Chat& chat, bool answer, bool thinking, const std::string& text) {
  CELSLM_TRY(const char mark, unused_mark(impl, chat, text));
  bool changed = false;
  visit_texts(chat, [&](std::string& content) { changed = neutralise(impl, content, mark) || changed; });
  if (!changed) return text;
  CELSLM_TRY(std::string out, rendered(impl, chat, answer, thinking));
  const auto agrees = [&](char with, char without) { return with == without || without == mark; };
  if (std::ranges::equal(text, out, agrees)) return out;
  return fail(ErrorKind::kInvalid,
              "the model's chat template changes these messages depending on characters that its control tokens are written "
              "with; such a message cannot be told from the template's own words");
}

}  // namespace

Result<std::vector<Piece>> conversation_pieces(const Text::Impl& impl, std::span<const ChatMessage> messages, bool answer,
                                               const ChatOptions& options) {
  if (!impl.chat_template) return fail(ErrorKind::kInvalid, "{}", impl.chat_problem);
  CELSLM_TRY(Chat chat, chat_of(messages, options));
  CELSLM_TRY(const std::string text, rendered(impl, chat, answer, options.thinking));
  CELSLM_TRY(const std::string voice, without_voices(impl, chat, answer, options.thinking, text));
  std::vector<Piece> out;
  for (const TextPart& part : impl.control_words->split(voice)) {
    Piece piece{.text = {}, .token = part.token};
    if (!part.token) piece.text = text.substr(part.begin, part.end - part.begin);
    out.push_back(std::move(piece));
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

}  // namespace celslm
