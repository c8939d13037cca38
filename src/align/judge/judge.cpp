#include "align/judge/judge.h"

#include <fmt/format.h>

#include <algorithm>

#include "align/map/attention_similarity.h"
#include "align/map/index_range.h"
#include "align/texts/positions.h"

namespace celslm {
namespace {

constexpr int kMinContextTokens = 32;

void add_errors(const std::vector<float>& real, const std::vector<float>& other, PlaneFit& fit) {
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

// A continuation of a context: generated freely after the prompt, and teacher-forced.
struct Judge::Probe {
  std::vector<Token> prompt;
  std::vector<Token> forced;           // after the prompt, under every condition
  const Question* question = nullptr;  // null: plain text
};

// A context that both models have prefilled.
struct Judge::Context {
  std::shared_ptr<const KvSegment> native;
  std::shared_ptr<const KvSegment> large;
  std::vector<std::pair<Condition, std::shared_ptr<const KvSegment>>> variants;
};

// What a model outputs for one probe.
struct Judge::Output {
  std::vector<float> logits;     // teacher-forced: [Reference::forced.size()][n_vocab]
  std::vector<Token> generated;  // greedily, after the prompt
};

// The outputs that all others are compared with.
struct Judge::Reference {
  std::vector<Token> forced;    // prompt and forced tokens of the probe
  Output native;                // the target model behind its own KV
  std::optional<Output> large;  // the source model behind its own KV; absent if the tokenizers differ
};

std::string to_string(const Condition& condition) {
  if (condition.kind == Condition::Kind::kNative) return "native";
  if (condition.kind == Condition::Kind::kLarge) return "large model";
  return fmt::format("{} from layer {}", to_string(condition.variant), condition.split);
}

double PlaneFit::r2() const {
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
      source_layers_(index_range(map.source.n_layers)) {
  for (VariantFit& fit : fits_) {
    fit.k.resize(map.layers.size());
    fit.v.resize(map.layers.size());
    fit.cosine.resize(map.layers.size());
  }
}

// Plain text: the last tokens of `context` become the probe and are removed from it. A context: one probe for each question.
Result<std::vector<Judge::Probe>> Judge::probes_of(const Text& text, const Document& document,
                                                   std::vector<Token>& context) const {
  std::vector<Probe> out;
  if (!document.is_context) {
    const std::size_t n = context.size();
    if (n < kMinContextTokens + 1 + kContinuationTokens) return out;
    const auto end = [&](std::size_t from_end) { return context.begin() + static_cast<std::ptrdiff_t>(n - from_end); };
    Probe probe{.prompt = {*end(kContinuationTokens + 1)}, .forced = {end(kContinuationTokens), context.end()}};
    context.resize(n - kContinuationTokens - 1);
    out.push_back(std::move(probe));
    return out;
  }
  for (const Question& question : document.questions) {
    CELSLM_TRY(auto prompt, tokens_of(text, document, question));
    out.push_back({.prompt = std::move(prompt),
                   .forced = text.tokenize(question.reply.empty() ? question.answer : question.reply, false, false),
                   .question = &question});
  }
  return out;
}

Result<Judge::Context> Judge::prepare(std::vector<Token> source_tokens, std::vector<Token> target_tokens) {
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
      out.variants.emplace_back(Condition{Condition::Kind::kVariant, variant, split}, std::move(segment));
    }
  }
  return out;
}

// Compares the attention outputs behind each variant's KV with those behind native KV, at the lowest split, which replaces
// the most layers.
Status Judge::compare_attention(const Context& context, const Probe& probe) {
  std::vector<std::shared_ptr<const KvSegment>> segments{context.native};
  const int lowest = std::ranges::min(options_.splits);
  for (const auto& [condition, segment] : context.variants) {
    if (condition.split == lowest) segments.push_back(segment);  // in the order of kKvVariants
  }
  std::vector<Token> tokens = probe.prompt;
  tokens.insert(tokens.end(), probe.forced.begin(), probe.forced.end());
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

Result<Judge::Output> Judge::run_probe(ContextDecoder& decoder, const std::shared_ptr<const KvSegment>& segment,
                                       const Probe& probe, std::span<const Token> forced) {
  Output out;
  CELSLM_TRY(out.generated, decoder.greedy(segment, probe.prompt));
  CELSLM_TRY(out.logits, decoder.forced_logits(segment, forced));
  return out;
}

Result<Judge::Reference> Judge::compute_reference(const Context& context, const Probe& probe) {
  Reference out{.forced = probe.prompt};
  out.forced.insert(out.forced.end(), probe.forced.begin(), probe.forced.end());
  CELSLM_TRY(out.native, run_probe(small_, context.native, probe, out.forced));
  if (same_tokens()) {
    CELSLM_TRY(out.large, run_probe(large_, context.large, probe, out.forced));
  }
  return out;
}

Observation Judge::observe(const Output& output, const Probe& probe, const Reference& reference) const {
  Observation out{.question = probe.question != nullptr};
  if (reference.large) out.kl_large = 0.0;
  const std::size_t n_vocab = reference.native.logits.size() / reference.forced.size();
  for (std::size_t i = probe.prompt.size() - 1; i + 1 < reference.forced.size(); ++i, ++out.positions) {
    const auto at = [&](const Output& of) { return std::span(of.logits).subspan(i * n_vocab, n_vocab); };
    out.kl += kl_divergence(at(reference.native), at(output));
    if (reference.large) *out.kl_large += kl_divergence(at(*reference.large), at(output));
    out.nll += negative_log_likelihood(at(output), reference.forced[i + 1]);
  }
  const std::vector<Token>& native = reference.native.generated;
  out.greedy_matches = static_cast<int>(std::ranges::mismatch(output.generated, native).in1 - output.generated.begin());
  out.native_tokens = static_cast<int>(native.size());
  if (probe.question != nullptr) {
    out.steps = probe.question->steps;
    out.right = is_right(*probe.question, target_.model().text().detokenize(output.generated));
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
  CELSLM_TRY(const Context context, prepare(std::move(source_tokens), std::move(tokens)));
  CELSLM_CHECK_OK(compare_attention(context, probes.front()));
  for (const Probe& probe : probes) {
    CELSLM_TRY(const Reference reference, compute_reference(context, probe));
    const auto add = [&](const Condition& condition, const Output& output) {
      Observation observation = observe(output, probe, reference);
      observation.document = number;
      observation.condition = condition;
      out.push_back(observation);
    };
    add({Condition::Kind::kNative}, reference.native);
    if (reference.large) add({Condition::Kind::kLarge}, *reference.large);
    for (const auto& [condition, segment] : context.variants) {
      CELSLM_TRY(const Output output, run_probe(small_, segment, probe, reference.forced));
      add(condition, output);
    }
  }
  return out;
}

}  // namespace celslm
