#include "serve/route/confidence.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace celslm {
namespace {

// The probability of the most probable token other than the one that was chosen. The chosen one is among `top` under its own
// log probability, computed alike.
double best_other(const TokenText& token) {
  for (const auto& [bytes, logprob] : token.top) {
    if (logprob != token.logprob || bytes != token.bytes) return std::exp(static_cast<double>(logprob));
  }
  return 0;
}

// Lower-case words and how often each occurs. Bytes beyond ASCII belong to words.
std::map<std::string, int> words_of(std::string_view text) {
  std::map<std::string, int> out;
  std::string word;
  const auto end = [&] {
    if (!word.empty()) ++out[word];
    word.clear();
  };
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && std::isalnum(byte) == 0) {
      end();
    } else {
      word += static_cast<char>(byte < 0x80 ? std::tolower(byte) : byte);
    }
  }
  end();
  return out;
}

}  // namespace

void ConfidenceMeter::add(std::span<const TokenText> tokens) {
  for (const TokenText& token : tokens) {
    const double log = static_cast<double>(token.logprob);
    const double margin = std::exp(log) - best_other(token);
    if (tokens_ == 0) first_log_ = log;
    ++tokens_;
    sum_log_ += log;
    sum_margin_ += margin;
    least_log_ = std::min(least_log_, log);
    least_margin_ = std::min(least_margin_, margin);
  }
}

Confidence ConfidenceMeter::value() const {
  if (tokens_ == 0) return {};
  return {.least_probability = std::exp(least_log_),
          .mean_probability = std::exp(sum_log_ / tokens_),
          .least_margin = least_margin_,
          .mean_margin = sum_margin_ / tokens_,
          .first_probability = std::exp(first_log_),
          .agreement = std::nullopt,
          .tokens = tokens_};
}

nlohmann::json to_json(const Confidence& confidence) {
  nlohmann::json out = {
      {"least_probability", confidence.least_probability}, {"mean_probability", confidence.mean_probability},
      {"least_margin", confidence.least_margin},           {"mean_margin", confidence.mean_margin},
      {"first_probability", confidence.first_probability}, {"tokens", confidence.tokens}};
  if (confidence.agreement) out["agreement"] = *confidence.agreement;
  return out;
}

double agreement(std::string_view a, std::string_view b) {
  const auto words_a = words_of(a);
  const auto words_b = words_of(b);
  int all = 0;
  int common = 0;
  for (const auto& [word, n] : words_a) {
    all += n;
    if (const auto it = words_b.find(word); it != words_b.end()) common += std::min(n, it->second);
  }
  for (const auto& [word, n] : words_b) all += n;
  return all == 0 ? 1 : 2.0 * common / all;
}

void keep_top(std::span<TokenText> tokens, int n) {
  for (TokenText& token : tokens) {
    if (token.top.size() > static_cast<std::size_t>(n)) token.top.resize(static_cast<std::size_t>(n));
  }
}

}  // namespace celslm
