#include "align/condense/study_queries.h"

#include <algorithm>
#include <random>
#include <ranges>

namespace celslm {
namespace {

constexpr std::uint64_t kSeed = 1;

}  // namespace

MatrixF LayerQueries::of(int kv_head, int most) const {
  const std::int64_t group = config_->n_heads / config_->n_kv_heads;
  const std::int64_t width = config_->head_dim;
  const std::int64_t n_tokens = static_cast<std::int64_t>(values_.size()) / (config_->n_heads * width);
  const std::int64_t n_all = n_tokens * group;
  const std::int64_t n = std::min<std::int64_t>(n_all, most);
  std::vector<std::int64_t> drawn;
  std::ranges::sample(std::views::iota(std::int64_t{0}, n_all), std::back_inserter(drawn), n, std::mt19937_64(kSeed));
  MatrixF out(n, width);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t query = drawn[static_cast<std::size_t>(i)];
    const std::int64_t head = kv_head * group + query % group;
    const std::int64_t at = (query / group * config_->n_heads + head) * width;
    out.row(i) = Eigen::Map<const Eigen::RowVectorXf>(values_.data() + at, width);
  }
  return out;
}

Result<StudyQueries> StudyQueries::start(Engine& engine, std::shared_ptr<const KvSegment> context,
                                         std::span<const std::vector<Token>> conversations) {
  if (conversations.empty()) return fail(ErrorKind::kInvalid, "no conversations about the context: at least one is needed");
  StudyQueries out(engine);
  while (!conversations.empty()) {
    Batch batch;
    std::vector<Token> tokens;
    while (!conversations.empty() && (tokens.empty() || tokens.size() + conversations.front().size() <= kPrefillStep)) {
      const auto n = static_cast<int>(conversations.front().size());
      CELSLM_TRY(auto own, KvSegment::create(engine.model().config(), KvType::kF16, context->next_position(), n));
      batch.chunks.push_back({.context = context, .own = std::move(own), .n_tokens = n});
      tokens.insert(tokens.end(), conversations.front().begin(), conversations.front().end());
      conversations = conversations.subspan(1);
    }
    CELSLM_TRY(batch.hidden, engine.embed(tokens));
    out.batches_.push_back(std::move(batch));
  }
  return out;
}

Result<LayerQueries> StudyQueries::queries(bool keep) {
  std::vector<float> values;
  for (Batch& batch : batches_) {
    Hidden before = keep ? batch.hidden : Hidden{};
    CELSLM_TRY(const auto some, engine_->run_layer_for_queries(layer_, batch.chunks, batch.hidden));
    values.insert(values.end(), some.begin(), some.end());
    if (keep) batch.hidden = std::move(before);
  }
  return LayerQueries(engine_->model().config(), std::move(values));
}

Result<LayerQueries> StudyQueries::next() {
  CELSLM_TRY(LayerQueries out, queries(false));
  ++layer_;
  return out;
}

Result<LayerQueries> StudyQueries::peek() {
  return queries(true);
}

Status StudyQueries::pass(const std::shared_ptr<const KvSegment>& context) {
  for (Batch& batch : batches_) {
    std::vector<SequenceChunk> chunks = batch.chunks;
    for (SequenceChunk& chunk : chunks) chunk.context = context;
    CELSLM_CHECK_OK(engine_->run_layers(layer_, layer_ + 1, chunks, batch.hidden));
  }
  ++layer_;
  return {};
}

}  // namespace celslm
