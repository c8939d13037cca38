#include "align/judge/judge.h"

#include <fmt/format.h>

#include <algorithm>

#include "align/map/apply.h"
#include "align/map/numbers.h"
#include "align/texts/positions.h"

namespace celslm {
namespace {

constexpr int kLeastContext = 32;

void add_errors(const std::vector<float>& real, const std::vector<float>& other, LayerFit& fit) {
  for (std::size_t i = 0; i < real.size(); ++i) {
    const double difference = static_cast<double>(real[i]) - other[i];
    fit.error += difference * difference;
    fit.sum += real[i];
    fit.squares += static_cast<double>(real[i]) * real[i];
  }
  fit.values += static_cast<double>(real.size());
}

bool is_right(const Question& question, const std::string& reply) {
  if (question.reply.empty()) return reply.contains(question.answer);
  const std::size_t end = reply.find_last_not_of(" \t\r\n");
  return end != std::string::npos && reply.substr(0, end + 1) == question.reply;
}

}  // namespace

// Something said after a context.
struct Judge::Probe {
  std::vector<Token> prompt;    // what comes first
  std::vector<Token> followed;  // what to follow it with where all ways are judged on the same words
  const Question* question = nullptr;
};

// A document, read by both models.
struct Judge::Context {
  std::shared_ptr<const KvSegment> native;
  std::shared_ptr<const KvSegment> large;
  std::vector<std::pair<Way, std::shared_ptr<const KvSegment>>> variants;
};

// What a model said behind some KV.
struct Judge::Said {
  std::vector<float> logits;  // of the words that all ways follow
  std::vector<Token> answer;
};

// What the others are held against.
struct Judge::Reference {
  std::vector<Token> followed;  // prompt and what followed it
  Said native;                  // behind the target's own KV
  std::optional<Said> large;    // the source model; nothing where its tokens are others
};

std::string to_string(const Way& way) {
  if (way.kind == Way::Kind::kNative) return "native";
  if (way.kind == Way::Kind::kLarge) return "large model";
  return fmt::format("{} from layer {}", to_string(way.variant), way.split);
}

double LayerFit::r2() const {
  const double variation = squares - sum * sum / values;
  return variation > 0.0 ? 1.0 - error / variation : 0.0;
}

Judge::Judge(Engine& source, Engine& target, const KvMap& map, JudgeOptions options)
    : source_(source),
      target_(target),
      map_(map),
      random_(randomised(map)),
      options_(std::move(options)),
      large_(source),
      small_(target),
      sums_(empty_grams(source.model().config(), target.model().config(), static_cast<std::size_t>(map.source.n_layers))),
      source_layers_(first_numbers(map.source.n_layers)) {
  for (VariantFit& fit : fits_) {
    fit.k.resize(map.layers.size());
    fit.v.resize(map.layers.size());
    fit.cosine.resize(map.layers.size());
  }
}

// Of plain text `context` keeps what comes before the tokens that are followed.
Result<std::vector<Judge::Probe>> Judge::probes_of(const Text& text, const Document& document,
                                                   std::vector<Token>& context) const {
  std::vector<Probe> out;
  if (!document.is_context) {
    const std::size_t n = context.size();
    if (n < kLeastContext + 1 + kGreedyTokens) return out;
    const auto end = [&](std::size_t from_end) { return context.begin() + static_cast<std::ptrdiff_t>(n - from_end); };
    Probe probe{.prompt = {*end(kGreedyTokens + 1)}, .followed = {end(kGreedyTokens), context.end()}};
    context.resize(n - kGreedyTokens - 1);
    out.push_back(std::move(probe));
    return out;
  }
  for (const Question& question : document.questions) {
    CELSLM_TRY(auto prompt, tokens_of(text, document, question));
    out.push_back({.prompt = std::move(prompt),
                   .followed = text.tokenize(question.reply.empty() ? question.answer : question.reply, false, false),
                   .question = &question});
  }
  return out;
}

Result<Judge::Context> Judge::read(std::vector<Token> source_tokens, std::vector<Token> target_tokens) {
  const Model& to = target_.model();
  CELSLM_TRY(const auto pairs, pair_positions(source_.model().text(), source_tokens, to.text(), target_tokens));
  target_tokens.resize(pairs.size());
  CELSLM_TRY(const ExactKv x, compute_kv(source_, source_tokens));
  CELSLM_TRY(const ExactKv y, compute_kv(target_, target_tokens));
  add_rows(x.planes, y.planes, source_layers_, pairs, sums_);
  Context out{.native = y.segment, .large = x.segment};
  for (const KvVariant variant : kKvVariants) {
    const KvPlanes planes = make_variant(variant, map_, random_, x.planes, pairs);
    VariantFit& fit = fits_[static_cast<std::size_t>(variant)];
    for (std::size_t layer = 0; layer < planes.k.size(); ++layer) {
      add_errors(y.planes.k[layer], planes.k[layer], fit.k[layer]);
      add_errors(y.planes.v[layer], planes.v[layer], fit.v[layer]);
    }
    for (const int split : options_.splits) {
      CELSLM_TRY(auto segment, make_segment(to, y.planes, planes, split));
      out.variants.emplace_back(Way{Way::Kind::kVariant, variant, split}, std::move(segment));
    }
  }
  return out;
}

// Attention outputs behind each variant's KV against those behind the target's own. In layers below the lowest split there
// is nothing to compare.
Status Judge::compare(const Context& context, const Probe& probe) {
  std::vector<std::shared_ptr<const KvSegment>> segments{context.native};
  const int lowest = std::ranges::min(options_.splits);
  for (const auto& [way, segment] : context.variants) {
    if (way.split == lowest) segments.push_back(segment);  // in the order of kKvVariants
  }
  std::vector<Token> tokens = probe.prompt;
  tokens.insert(tokens.end(), probe.followed.begin(), probe.followed.end());
  CELSLM_TRY(const auto outputs, attention_outputs(target_, segments, tokens));
  const std::size_t width = outputs[0][0].size() / tokens.size();
  for (std::size_t t = 0; t < kKvVariants.size(); ++t) {
    fits_[t].rows += static_cast<double>(tokens.size());
    for (std::size_t layer = 0; layer < outputs.size(); ++layer) {
      for (std::size_t row = 0; row < tokens.size(); ++row) {
        const auto at = [&](std::size_t which) { return std::span(outputs[layer][which]).subspan(row * width, width); };
        fits_[t].cosine[layer] += cosine_similarity(at(0), at(t + 1));
      }
    }
  }
  return {};
}

Result<Judge::Said> Judge::say(ContextDecoder& decoder, const std::shared_ptr<const KvSegment>& segment, const Probe& probe,
                               std::span<const Token> followed) {
  Said out;
  CELSLM_TRY(out.answer, decoder.greedy(segment, probe.prompt));
  CELSLM_TRY(out.logits, decoder.forced_logits(segment, followed));
  return out;
}

Result<Judge::Reference> Judge::refer(const Context& context, const Probe& probe) {
  Reference out{.followed = probe.prompt};
  out.followed.insert(out.followed.end(), probe.followed.begin(), probe.followed.end());
  CELSLM_TRY(out.native, say(small_, context.native, probe, out.followed));
  if (same_tokens()) {
    CELSLM_TRY(out.large, say(large_, context.large, probe, out.followed));
  }
  return out;
}

Observation Judge::observe(const Said& said, const Probe& probe, const Reference& reference) const {
  Observation out{.question = probe.question != nullptr};
  if (reference.large) out.kl_large = 0.0;
  const std::size_t n_vocab = reference.native.logits.size() / reference.followed.size();
  for (std::size_t i = probe.prompt.size() - 1; i + 1 < reference.followed.size(); ++i, ++out.positions) {
    const auto at = [&](const Said& of) { return std::span(of.logits).subspan(i * n_vocab, n_vocab); };
    out.kl += kl_divergence(at(reference.native), at(said));
    if (reference.large) *out.kl_large += kl_divergence(at(*reference.large), at(said));
    out.surprise += negative_log_likelihood(at(said), reference.followed[i + 1]);
  }
  const std::vector<Token>& native = reference.native.answer;
  out.greedy = static_cast<int>(std::ranges::mismatch(said.answer, native).in1 - said.answer.begin());
  out.greedy_of = static_cast<int>(native.size());
  if (probe.question != nullptr) {
    out.steps = probe.question->steps;
    out.right = is_right(*probe.question, target_.model().text().detokenize(said.answer));
  }
  return out;
}

Result<std::vector<Observation>> Judge::judge(int number, const Document& document) {
  const Text& text = target_.model().text();
  CELSLM_TRY(auto tokens, tokens_of(text, document, options_.max_tokens));
  CELSLM_TRY(const auto probes, probes_of(text, document, tokens));
  std::vector<Observation> out;
  if (probes.empty()) return out;
  std::vector<Token> source_tokens = tokens;
  if (!same_tokens()) {
    CELSLM_TRY(source_tokens, tokens_of(source_.model().text(), document, options_.max_tokens));
  }
  CELSLM_TRY(const Context context, read(std::move(source_tokens), std::move(tokens)));
  CELSLM_CHECK_OK(compare(context, probes.front()));
  for (const Probe& probe : probes) {
    CELSLM_TRY(const Reference reference, refer(context, probe));
    const auto add = [&](const Way& way, const Said& said) {
      Observation seen = observe(said, probe, reference);
      seen.document = number;
      seen.way = way;
      out.push_back(seen);
    };
    add({Way::Kind::kNative}, reference.native);
    if (reference.large) add({Way::Kind::kLarge}, *reference.large);
    for (const auto& [way, segment] : context.variants) {
      CELSLM_TRY(const Said said, say(small_, segment, probe, reference.followed));
      add(way, said);
    }
  }
  return out;
}

}  // namespace celslm
