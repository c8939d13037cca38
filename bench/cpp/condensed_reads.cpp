#include "bench/cpp/condensed_reads.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace celslm {
namespace {

struct Method {
  std::string_view name;
  RowRank rank;
  bool fitted;
};
constexpr std::array kMethods{
    Method{"match", RowRank::kPursuit, true},       Method{"match-attention", RowRank::kAttention, true},
    Method{"match-effect", RowRank::kEffect, true}, Method{"match-evenly", RowRank::kEvenly, true},
    Method{"top", RowRank::kAttention, false},      Method{"evenly", RowRank::kEvenly, false},
    Method{"random", RowRank::kRandom, false},
};

bool take_suffix(std::string_view& name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return false;
  name.remove_suffix(suffix.size());
  return true;
}

}  // namespace

std::optional<CondensedName> parse_condensed(const std::string& name) {
  CondensedName out;
  std::string_view rest = name;
  out.on_policy = take_suffix(rest, "+on-policy");
  if (take_suffix(rest, "+reread")) {
    out.questions = false;
    out.text = true;
  } else {
    out.text = take_suffix(rest, "+both");
  }
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto method = std::ranges::find(kMethods, rest.substr(0, slash), &Method::name);
  const char* end = rest.data() + rest.size();
  const auto [stopped, error] = std::from_chars(rest.data() + slash + 1, end, out.divisor);
  if (method == kMethods.end() || error != std::errc{} || stopped != end || out.divisor < 1) return std::nullopt;
  out.match.choice.rank = method->rank;
  out.match.fit_masses = out.match.fit_values = method->fitted;
  return out;
}

Result<std::shared_ptr<KvSegment>> CondensedReads::read(const std::string& name) {
  const auto parsed = parse_condensed(name);
  if (!parsed) return fail(ErrorKind::kInvalid, "'{}' names no condensed KV", name);
  if (parsed->on_policy) {
    CELSLM_TRY(const auto study, conversations(*parsed));
    CELSLM_TRY(const CondensedKv kv, condense_on_policy(engine_, context_, study, with_rows(*parsed)));
    return condensed_segment(engine_.model(), KvType::kF16, kv);
  }
  if (!made_.contains(name)) CELSLM_CHECK_OK(make_alike(*parsed));
  return condensed_segment(engine_.model(), KvType::kF16, made_.at(name));
}

MatchOptions CondensedReads::with_rows(const CondensedName& name) const {
  MatchOptions out = name.match;
  const RowChoice& choice = out.choice;
  const int least = std::min(choice.n_first + choice.n_last, context_.planes.n_tokens);
  out.choice.n_rows = std::max(context_.planes.n_tokens / name.divisor, least);
  return out;
}

Status CondensedReads::make_alike(const CondensedName& name) {
  std::vector<std::string> names;
  std::vector<MatchOptions> variants;
  for (const std::string& other : task_.reads) {
    const auto parsed = parse_condensed(other);
    if (!parsed || parsed->on_policy || parsed->questions != name.questions || parsed->text != name.text) continue;
    names.push_back(other);
    variants.push_back(with_rows(*parsed));
  }
  CELSLM_TRY(const auto study, conversations(name));
  CELSLM_TRY(auto made, condense(engine_, context_, study, variants));
  for (std::size_t i = 0; i < names.size(); ++i) made_.emplace(names[i], std::move(made[i]));
  return {};
}

Result<std::vector<std::vector<Token>>> CondensedReads::conversations(const CondensedName& name) const {
  std::vector<StudyTurn> turns;
  if (name.text) turns = read_again(task_.system);
  if (name.questions) {
    for (const QualityTask::Asked& asked : task_.study) turns.push_back({.prompt = asked.prompt, .answer = asked.gold});
  }
  return conversations_of(engine_.model().text(), task_.system, turns);
}

}  // namespace celslm
