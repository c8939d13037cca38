// What the target model says behind held-out texts, with mapped KV and with what that has to be compared with.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "align/fit/collect.h"
#include "align/judge/context_decoder.h"
#include "align/judge/kv_variant.h"
#include "align/map/attention_similarity.h"
#include "align/map/kv_map.h"
#include "align/texts/documents.h"

namespace celslm {

// Whose KV a probe was read behind.
struct Way {
  enum class Kind { kNative, kLarge, kVariant };
  Kind kind = Kind::kNative;
  KvVariant variant = KvVariant::kMapped;  // of kVariant,
  int split = 0;                           // from this layer on
  auto operator<=>(const Way&) const = default;
};
std::string to_string(const Way& way);  // "native", "mapped from layer 1 on"

// One thing said behind one document.
struct Observation {
  int document = 0;
  Way way;
  bool question = false;           // else plain text that goes on
  int steps = 0;                   // of the question
  int positions = 0;               // of the text that was followed: the right reply, or the document's own next 64 tokens
  double kl = 0.0;                 // summed over positions: D(native || this), nats
  std::optional<double> kl_large;  // the same: D(large model || this); nothing where their tokens differ
  double surprise = 0.0;           // summed over positions: -log p of the token that came, nats
  int greedy = 0;      // tokens of the model's own answer that are those of the native answer, up to the first that is not
  int greedy_of = 0;   // tokens of the native answer
  bool right = false;  // of a question
};

// How near KV comes to the target's own, by layer, over all documents.
struct LayerFit {
  double error = 0.0;  // sum of squares, K and V apart: [kind]
  double sum = 0.0;    // of the true values
  double squares = 0.0;
  double values = 0.0;
  double r2() const;  // 1 - error / variation of the true values about their mean by layer (of all columns together)
};
struct VariantFit {
  std::vector<LayerFit> k;  // by layer
  std::vector<LayerFit> v;
  std::vector<double> cosine;  // of attention outputs, summed over rows
  double rows = 0.0;
};

struct JudgeOptions {
  std::vector<int> splits;  // to be judged, each in [0, n_layers)
  int max_tokens = 2048;    // of a context
};

// One thread. Documents are judged one after the other; the sums grow with each.
class Judge {
 public:
  // The map is of the engines' models; all three must outlive this.
  Judge(Engine& source, Engine& target, const KvMap& map, JudgeOptions options);

  // Every way, every probe. Nothing for a plain text too short to have a context of 32 tokens before the 65 that are
  // followed.
  Result<std::vector<Observation>> judge(int number, const Document& document);

  const VariantFit& fit(KvVariant variant) const { return fits_[static_cast<std::size_t>(variant)]; }
  const KvGrams& sums() const { return sums_; }  // for CKA

 private:
  struct Probe;
  struct Context;
  struct Said;
  struct Reference;

  Result<std::vector<Probe>> probes_of(const Text& text, const Document& document, std::vector<Token>& context) const;
  Result<Context> read(std::vector<Token> source_tokens, std::vector<Token> target_tokens);
  Status compare(const Context& context, const Probe& probe);
  Result<Reference> refer(const Context& context, const Probe& probe);
  static Result<Said> say(ContextDecoder& decoder, const std::shared_ptr<const KvSegment>& segment, const Probe& probe,
                          std::span<const Token> followed);
  Observation observe(const Said& said, const Probe& probe, const Reference& reference) const;
  bool same_tokens() const { return map_.source.tokenizer == map_.target.tokenizer; }

  Engine& source_;
  Engine& target_;
  const KvMap& map_;
  const KvMap random_;
  const JudgeOptions options_;
  ContextDecoder large_;
  ContextDecoder small_;
  std::array<VariantFit, kKvVariants.size()> fits_;
  KvGrams sums_;
  const std::vector<int> source_layers_;  // all
};

}  // namespace celslm
