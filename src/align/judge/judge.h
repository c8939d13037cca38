// Measures a layer map on held-out texts: how the target model behaves behind mapped KV, and behind the KV that it must be
// compared with.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "align/fit/collect.h"
#include "align/judge/context_decoder.h"
#include "align/judge/kv_variant.h"
#include "align/map/kv_map.h"
#include "align/texts/documents.h"

namespace celslm {

// The KV that a probe was run behind, and by which model.
struct Condition {
  enum class Kind {
    kNative,   // the target model behind its own KV
    kLarge,    // the source model behind its own KV
    kVariant,  // the target model behind `variant` from layer `split` on, its own KV below
  };
  Kind kind = Kind::kNative;
  KvVariant variant = KvVariant::kMapped;
  int split = 0;
  auto operator<=>(const Condition&) const = default;
};
std::string to_string(const Condition& condition);  // "native", "mapped from layer 1"

// The measurements of one probe under one condition. A probe is a question, or the last 64 tokens of a plain text.
//
// The forced positions are those of the teacher-forced text: the correct reply, or the text's own last 64 tokens.
struct Observation {
  int document = 0;
  Condition condition;
  bool question = false;           // false: plain text
  int steps = 0;                   // Question::steps
  int positions = 0;               // number of forced positions
  double kl = 0.0;                 // D(native || this), nats, summed over the forced positions
  std::optional<double> kl_large;  // D(large model || this), likewise; absent if the tokenizers differ
  double nll = 0.0;                // -log p of the forced token, nats, summed over the forced positions
  int greedy_matches = 0;          // tokens of the greedy continuation that equal the native one's, up to the first mismatch
  int native_tokens = 0;           // length of the native greedy continuation
  bool right = false;              // question answered correctly
};

// Sums from which R^2 of one plane (K or V of one layer) is computed, over all documents.
struct PlaneFit {
  double error = 0.0;    // sum of (native - other)^2
  double sum = 0.0;      // of the native values
  double squares = 0.0;  // of the native values
  double values = 0.0;   // how many
  double r2() const;     // 1 - error / sum of (native - mean)^2, with one mean over all columns
};

// How close one kind of KV is to the native KV, by layer.
struct VariantFit {
  std::vector<PlaneFit> k;
  std::vector<PlaneFit> v;
  std::vector<double> cosine;  // between attention outputs behind it and behind native KV, summed over rows
  double rows = 0.0;           // number of rows in each sum of `cosine`
};

struct JudgeOptions {
  std::vector<int> splits;  // to be measured, each in [0, n_layers); not empty
  int max_tokens = 2048;    // of a document
};

// Measures document after document and accumulates the sums of fit() and sums() on the way. Used by one thread.
class Judge {
 public:
  // The map must be of the engines' models (check_models). The engines and the map must outlive this object.
  Judge(Engine& source, Engine& target, const KvMap& map, JudgeOptions options);

  // One observation for every probe of the document under every condition. Empty for a context without questions and for a
  // plain text of fewer than 97 tokens (32 of context, 1 of prompt, 64 forced). `number` becomes Observation::document.
  // Errors of tokens_of, pair_positions and the engines.
  Result<std::vector<Observation>> judge(int number, const Document& document);

  const VariantFit& fit(KvVariant variant) const { return fits_[static_cast<std::size_t>(variant)]; }
  const KvGrams& sums() const { return sums_; }  // over all contexts and all source layers, for CKA

 private:
  struct Probe;
  struct Context;
  struct Output;
  struct Reference;

  Result<std::vector<Probe>> probes_of(const Text& text, const Document& document, std::vector<Token>& context) const;
  Result<Context> prepare(std::vector<Token> source_tokens, std::vector<Token> target_tokens);
  Status compare_attention(const Context& context, const Probe& probe);
  Result<Reference> compute_reference(const Context& context, const Probe& probe);
  static Result<Output> run_probe(ContextDecoder& decoder, const std::shared_ptr<const KvSegment>& segment,
                                  const Probe& probe, std::span<const Token> forced);
  Observation observe(const Output& output, const Probe& probe, const Reference& reference) const;
  bool same_tokens() const { return map_.source.tokenizer == map_.target.tokenizer; }

  Engine& source_;
  Engine& target_;
  const KvMap& map_;
  const KvMap random_;  // randomised(map_)
  const JudgeOptions options_;
  ContextDecoder large_;
  ContextDecoder small_;
  std::array<VariantFit, kKvVariants.size()> fits_;
  KvGrams sums_;
  const std::vector<int> source_layers_;  // all
};

}  // namespace celslm
