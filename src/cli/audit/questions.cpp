#include "cli/audit/questions.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr int kAnswerTokens = 4;

// What a user of one kind writes, with a mark in it.
struct Style {
  const char* name;
  std::string (*text)(const std::string& mark, std::mt19937_64& random);
};

std::string short_text(const std::string& mark, std::mt19937_64& /*random*/) {
  return fmt::format("{}?", mark);
}

std::string long_text(const std::string& mark, std::mt19937_64& random) {
  constexpr std::array<std::string_view, 16> kWords{"the",    "doctor", "letter", "account", "when",  "my",
                                                    "sister", "told",   "city",   "money",   "train", "never",
                                                    "again",  "after",  "please", "why"};
  std::string out = "I must tell you something.";
  const std::size_t n = 60 + random() % 30;
  for (std::size_t i = 0; i < n; ++i) {
    out += fmt::format(" {}", kWords[random() % kWords.size()]);
    if (i == n / 2) out += " " + mark;
  }
  return out + ". What should I do?";
}

std::string code(const std::string& mark, std::mt19937_64& random) {
  return fmt::format(
      "Fix this:\n\n```c\nint main(void) {{\n  const char* k = \"{}\";\n  return f(k, {{{}, 0x{:x}}});\n}}\n```\n", mark,
      random() % 1000, random() % 100'000);
}

std::string foreign(const std::string& mark, std::mt19937_64& random) {
  constexpr std::array<std::string_view, 4> kPieces{"Τι σημαίνει αυτό; ", "これは秘密です。", "Это личное. ", "🔒 é ñ "};
  return fmt::format("{}{} {}", kPieces[random() % kPieces.size()], mark, kPieces[random() % kPieces.size()]);
}

constexpr std::array kStyles{Style{"short", short_text}, Style{"long", long_text}, Style{"code", code},
                             Style{"foreign", foreign}};

json message(const char* role, const std::string& text) {
  return {{"role", role}, {"content", text}};
}

// Writes the questions of one script.
class Writer {
 public:
  Writer(const Style& style, const AuditContexts& contexts, const std::string& policy, std::mt19937_64& random)
      : style_(style), contexts_(contexts), policy_(policy), random_(random) {
    out_.name = style.name;
    out_.warm_up = question("warm-up", "/v1/chat/completions",
                            {{"messages", {message("system", contexts.warm_up), message("user", "Hello.")}}}, 0);
  }

  AuditScript write() {
    chat("a context that is not loaded yet", contexts_.shared, false);
    chat("the same context, loaded", contexts_.shared, false);
    chat("the same context, the answer streamed", contexts_.shared, true);
    chat("a system message of the user's own", secret("the system message"), false);
    const std::string longer = contexts_.shared + "\n" + secret("the addition to the context");
    out_.secrets.add_text("the context with its addition", longer);
    chat("the context with an addition of the user's", longer, false);
    chat("no system message", "", false);
    const std::string prompt = secret("the prompt");
    add("text completion", "/v1/completions", {{"prompt", prompt}}, prompt.size());
    const std::string input = secret("the input");
    add("responses", "/v1/responses", {{"instructions", contexts_.shared}, {"input", input}}, input.size());
    const std::string embedded = secret("the embedded text");
    add("embeddings", "/v1/embeddings", {{"input", embedded}}, embedded.size());
    out_.questions.back().may_be_refused = true;
    return std::move(out_);
  }

 private:
  // A text with a mark, both of which must not leave the edge.
  std::string secret(const std::string& name) {
    const std::string mark = random_mark(random_);
    std::string text = style_.text(mark, random_);
    out_.secrets.add_mark("the mark of " + name, mark);
    out_.secrets.add_text(name, text);
    return text;
  }

  void chat(const std::string& about, const std::string& system, bool stream) {
    const std::string text = secret("the user's message");
    json messages = json::array();
    if (!system.empty()) messages.push_back(message("system", system));
    messages.push_back(message("user", text));
    json body = {{"messages", messages}};
    if (stream) body["stream"] = true;
    add(about, "/v1/chat/completions", std::move(body), text.size());
  }

  void add(const std::string& about, const std::string& path, json body, std::size_t user_bytes) {
    out_.questions.push_back(question(about, path, std::move(body), user_bytes));
  }

  AuditQuestion question(const std::string& about, const std::string& path, json body, std::size_t user_bytes) {
    body[path == "/v1/responses" ? "max_output_tokens" : "max_tokens"] = kAnswerTokens;
    body["x_celslm"] = {{"policy", policy_}};
    return {.about = about, .path = path, .body = dump_json(body), .user_bytes = user_bytes};
  }

  const Style& style_;
  const AuditContexts& contexts_;
  const std::string& policy_;
  std::mt19937_64& random_;
  AuditScript out_;
};

}  // namespace

AuditContexts made_up_contexts(const std::string& salt) {
  std::string shared = fmt::format("Handbook of the harbour, edition {}.\n", salt);
  for (int pier = 1; pier <= 12; ++pier)
    shared += fmt::format("Pier {} takes ships of up to {} metres and closes at {} o'clock.\n", pier, 40 + 7 * pier,
                          12 + pier % 9);
  return {.warm_up = fmt::format("You answer in one word. Edition {}.\n", salt), .shared = shared};
}

std::vector<AuditScript> audit_scripts(const AuditContexts& contexts, const std::string& policy, std::mt19937_64& random) {
  std::vector<AuditScript> out;
  out.reserve(kStyles.size());
  for (const Style& style : kStyles) out.push_back(Writer(style, contexts, policy, random).write());
  return out;
}

}  // namespace celslm
