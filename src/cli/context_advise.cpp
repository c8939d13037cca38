// celslm context advise: what to register, judged by example requests.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/context_advice.h"
#include "cli/context_commands.h"
#include "core/file.h"
#include "core/json.h"

namespace celslm {
namespace {

constexpr std::uint64_t kMaxFileBytes = 256ULL << 20;
constexpr std::size_t kMaxShownLines = 5;
constexpr std::size_t kMaxShownBytes = 60;
constexpr std::size_t kBytesPerToken = 4;  // of English; this command needs no model

std::string size_of(std::size_t bytes) {
  return fmt::format("{} bytes (about {} tokens)", bytes, bytes / kBytesPerToken);
}

std::string shown(std::string_view line) {
  std::size_t size = std::min(line.size(), kMaxShownBytes);
  while (size > 0 && size < line.size() && (static_cast<unsigned char>(line[size]) & 0xC0) == 0x80) --size;
  return dump_json(nlohmann::json(std::string(line.substr(0, size)) + (size < line.size() ? "…" : "")));
}

std::string describe(const ContextAdvice& advice, const std::string& file) {
  const std::string total = size_of(advice.text.size());
  std::string out = fmt::format("{} requests share {}", advice.n_requests, total);
  if (advice.n_volatile == 0) {
    out += fmt::format(": their system messages are the same.\n  register it: celslm context put {}\n", file);
    return out;
  }
  if (advice.moving.empty()) {
    out += fmt::format(
        " at the beginning; {} lines behind it differ, which is the right place for them.\n"
        "  register what is shared: celslm context put {}\n",
        advice.n_volatile, file);
    return out;
  }
  const std::string used =
      advice.leading_bytes == 0 ? "nothing of it is" : "only the first " + size_of(advice.leading_bytes) + " are";
  out += fmt::format(", but {} used: KV is valid up to the first difference.\n", used);
  out += "  move behind the shared lines, or into the user's message:\n";
  for (std::size_t i = 0; i < std::min(advice.moving.size(), kMaxShownLines); ++i) {
    const VolatileLine& line = advice.moving[i];
    out += fmt::format("    line {}: {}, before {} of shared text\n", line.number, shown(line.example),
                       line.shared_bytes_behind);
  }
  if (advice.moving.size() > kMaxShownLines)
    out += fmt::format("    and {} more lines\n", advice.moving.size() - kMaxShownLines);
  return out + fmt::format("  then register: celslm context put {}\n", file);
}

}  // namespace

Status advise_contexts(Environment& env, const std::vector<std::string>& files, const std::string& folder) {
  std::vector<std::string> messages;
  for (const std::string& file : files) {
    CELSLM_TRY(const Bytes bytes, read_file(file, kMaxFileBytes));
    auto of_file = system_messages_in(as_text(bytes));
    if (!of_file) return wrap(std::move(of_file).error(), file);
    std::ranges::move(*of_file, std::back_inserter(messages));
  }
  const auto without = std::ranges::count_if(messages, &std::string::empty);
  const std::vector<ContextAdvice> advice = advise_contexts(messages);
  for (std::size_t i = 0; i < advice.size(); ++i) {
    std::string file = fmt::format("context-{}.txt", i + 1);
    if (!folder.empty()) {
      file = (std::filesystem::path(folder) / file).string();
      CELSLM_CHECK_OK(write_file_atomically(file, as_bytes(advice[i].text)));
    }
    env.out << describe(advice[i], file);
  }
  if (advice.empty())
    env.out << fmt::format("Nothing to register: no two of {} requests share a long text.\n", messages.size());
  if (without > 0) {
    env.out << fmt::format(
        "{} requests have no system message: text that they share belongs into one, before all that differs.\n", without);
  }
  if (!advice.empty() && folder.empty()) env.out << "With --out FOLDER these texts are written there.\n";
  env.out << std::flush;
  return {};
}

}  // namespace celslm
