#include "align/condense/condense.h"

#include <algorithm>

#include "align/condense/context_rows.h"

namespace celslm {
namespace {

Status check_choice(const RowChoice& choice, int n_tokens) {
  const int least = std::max(1, choice.n_first + choice.n_last);
  if (choice.n_first >= 0 && choice.n_last >= 0 && choice.n_rows >= least && choice.n_rows <= n_tokens) return {};
  return fail(ErrorKind::kInvalid, "{} rows for a context of {} tokens; expected {} (those always kept) to {}",
              choice.n_rows, n_tokens, least, n_tokens);
}

// A layer's rows: the keys of the chosen tokens, the rest as matched.
CondensedLayer layer_of(const ModelConfig& config, const std::vector<float>& k, const std::vector<MatchedRows>& heads) {
  const auto width = static_cast<std::size_t>(config.kv_width());
  const auto d = static_cast<std::size_t>(config.head_dim);
  const std::size_t n_rows = heads.front().rows.size();
  CondensedLayer out{.k = std::vector<float>(n_rows * width), .v = std::vector<float>(n_rows * width)};
  for (std::size_t head = 0; head < heads.size(); ++head) {
    const MatchedRows& matched = heads[head];
    for (std::size_t row = 0; row < n_rows; ++row) {
      const std::size_t from = static_cast<std::size_t>(matched.rows[row]) * width + head * d;
      const std::size_t to = row * width + head * d;
      std::copy_n(k.data() + from, d, out.k.data() + to);
      std::copy_n(matched.v.row(static_cast<Eigen::Index>(row)).data(), d, out.v.data() + to);
    }
    out.positions.insert(out.positions.end(), matched.rows.begin(), matched.rows.end());
    out.log_mass.insert(out.log_mass.end(), matched.log_mass.begin(), matched.log_mass.end());
  }
  return out;
}

// One context and its model, layer by layer.
class Condenser {
 public:
  Condenser(Engine& engine, const ExactKv& context, std::span<const MatchOptions> variants, const CondenseOptions& options)
      : config_(engine.model().config()), context_(context), variants_(variants), options_(options) {
    const int n_tokens = context.planes.n_tokens;
    for (const MatchOptions& variant : variants)
      out_.push_back({.n_rows = variant.choice.n_rows, .n_tokens = n_tokens, .layers = {}});
  }

  Status check() const {
    for (const MatchOptions& variant : variants_) CELSLM_CHECK_OK(check_choice(variant.choice, context_.planes.n_tokens));
    return {};
  }

  Status add_layer(int layer, const LayerQueries& queries) {
    std::vector<std::vector<MatchedRows>> matched(variants_.size());
    for (int head = 0; head < config_.n_kv_heads; ++head) {
      CELSLM_TRY(const HeadRows rows, head_rows(*context_.segment, layer, head));
      const HeadAttention attention(rows.k, rows.v, queries.of(head, options_.max_queries), config_.attention_scale);
      for (std::size_t i = 0; i < variants_.size(); ++i) matched[i].push_back(match_attention(attention, variants_[i]));
    }
    const std::vector<float>& k = context_.planes.k[static_cast<std::size_t>(layer)];
    for (std::size_t i = 0; i < variants_.size(); ++i) out_[i].layers.push_back(layer_of(config_, k, matched[i]));
    if (options_.progress) options_.progress(layer + 1, config_.n_layers);
    return {};
  }

  std::vector<CondensedKv>& result() { return out_; }

 private:
  const ModelConfig& config_;
  const ExactKv& context_;
  const std::span<const MatchOptions> variants_;
  const CondenseOptions& options_;
  std::vector<CondensedKv> out_;
};

}  // namespace

Result<std::vector<CondensedKv>> condense(Engine& engine, const ExactKv& context,
                                          std::span<const std::vector<Token>> conversations,
                                          std::span<const MatchOptions> variants, const CondenseOptions& options) {
  CELSLM_CHECK_OK(check_condensable(engine.model().config()));
  Condenser condenser(engine, context, variants, options);
  CELSLM_CHECK_OK(condenser.check());
  CELSLM_TRY(StudyQueries study, StudyQueries::start(engine, context.segment, conversations));
  for (int layer = 0; layer < engine.model().config().n_layers; ++layer) {
    CELSLM_TRY(const LayerQueries queries, study.next());
    CELSLM_CHECK_OK(condenser.add_layer(layer, queries));
  }
  return std::move(condenser.result());
}

Result<CondensedKv> condense_on_policy(Engine& engine, const ExactKv& context,
                                       std::span<const std::vector<Token>> conversations, const MatchOptions& variant,
                                       const CondenseOptions& options) {
  const Model& model = engine.model();
  CELSLM_CHECK_OK(check_condensable(model.config()));
  Condenser condenser(engine, context, {&variant, 1}, options);
  CELSLM_CHECK_OK(condenser.check());
  CELSLM_TRY(StudyQueries study, StudyQueries::start(engine, context.segment, conversations));
  CELSLM_TRY(const auto segment, KvSegment::create_condensed(model.config(), context.segment->type(), variant.choice.n_rows,
                                                             context.planes.n_tokens));
  for (int layer = 0; layer < model.config().n_layers; ++layer) {
    CELSLM_TRY(const LayerQueries queries, study.peek());
    CELSLM_CHECK_OK(condenser.add_layer(layer, queries));
    const CondensedLayer& made = condenser.result().front().layers.back();
    CELSLM_CHECK_OK(Engine::import_condensed(model, *segment, layer, 0,
                                             {.n_rows = variant.choice.n_rows,
                                              .k = made.k,
                                              .v = made.v,
                                              .positions = made.positions,
                                              .log_mass = made.log_mass}));
    CELSLM_CHECK_OK(study.pass(segment));
  }
  return std::move(condenser.result().front());
}

}  // namespace celslm
