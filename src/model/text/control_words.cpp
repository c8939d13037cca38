#include "model/text/control_words.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <set>
#include <utility>

#include "core/text.h"

namespace celslm {
namespace {

constexpr std::string_view kSpaces = " \t\n\v\f\r";

// Cuts one part at every occurrence of a word.
void cut(std::string_view text, TextPart part, const ControlWord& word, std::vector<TextPart>& out) {
  const auto keep = [&](std::size_t begin, std::size_t end) {
    if (begin < end) out.push_back({.begin = begin, .end = end});
  };
  text = text.substr(0, part.end);
  std::size_t from = part.begin;
  for (std::size_t at = text.find(word.text, from); at != std::string_view::npos; at = text.find(word.text, from)) {
    std::size_t before = at;
    if (word.strips_left) before = from + text.substr(from, at - from).find_last_not_of(kSpaces) + 1;
    keep(from, before);
    from = at + word.text.size();
    out.push_back({.begin = at, .end = from, .token = word.token});
    if (word.strips_right) from = std::min(text.find_first_not_of(kSpaces, from), part.end);
  }
  keep(from, part.end);
}

}  // namespace

ControlWords::ControlWords(std::vector<ControlWord> words) : words_(std::move(words)) {
  std::erase_if(words_, [](const ControlWord& word) { return word.text.empty(); });
  std::ranges::stable_sort(words_, std::greater{}, [](const ControlWord& w) { return w.text.size(); });
  std::set<std::size_t> lengths;
  std::set<std::size_t> core_lengths;
  for (const ControlWord& word : words_) {
    const std::string_view text = word.text;
    by_text_.try_emplace(text, &word);
    lengths.insert(text.size());
    first_bytes_.set(static_cast<unsigned char>(text.front()));
    const std::string_view core = trimmed(text, kSpaces).empty() ? text : trimmed(text, kSpaces);
    edge_bytes_.set(static_cast<unsigned char>(core.front()));
    edge_bytes_.set(static_cast<unsigned char>(core.back()));
    cores_.insert(core);
    core_lengths.insert(core.size());
    for (std::size_t n = 1; n < core.size(); ++n) {
      beginnings_.insert(core.substr(0, n));
      endings_.insert(core.substr(n));
    }
  }
  lengths_.assign(lengths.rbegin(), lengths.rend());
  core_lengths_.assign(core_lengths.begin(), core_lengths.end());
}

// Each once, longest first.
std::vector<const ControlWord*> ControlWords::words_in(std::string_view text) const {
  std::vector<const ControlWord*> out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (!first_bytes_[static_cast<unsigned char>(text[at])]) continue;
    for (const std::size_t length : lengths_) {
      const auto it = by_text_.find(text.substr(at, length));
      if (it != by_text_.end() && !std::ranges::contains(out, it->second)) out.push_back(it->second);
    }
  }
  std::ranges::sort(out);  // the order of words_
  return out;
}

std::vector<TextPart> ControlWords::split(std::string_view text) const {
  std::vector<TextPart> parts;
  if (!text.empty()) parts.push_back({.begin = 0, .end = text.size()});
  for (const ControlWord* word : words_in(text)) {
    std::vector<TextPart> finer;
    for (const TextPart& part : parts) {
      if (part.token) {
        finer.push_back(part);
      } else {
        cut(text, part, *word, finer);
      }
    }
    parts = std::move(finer);
  }
  return parts;
}

bool ControlWords::may_take_part(std::string_view bytes) const {
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    const auto is_core = [&](std::size_t length) { return cores_.contains(bytes.substr(at, length)); };
    if (std::ranges::any_of(core_lengths_, is_core)) return true;
  }
  for (std::size_t n = 1; n <= bytes.size(); ++n) {
    if (endings_.contains(bytes.substr(0, n)) || beginnings_.contains(bytes.substr(bytes.size() - n))) return true;
  }
  return false;
}

}  // namespace celslm
