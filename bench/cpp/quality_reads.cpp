#include "bench/cpp/quality_reads.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "align/map/apply.h"
#include "align/texts/positions.h"

namespace celslm {
namespace {

constexpr std::array<std::string_view, 4> kNotTreatments{"none", "own", "cloud", "mapped"};

}  // namespace

QualityReads::QualityReads() {
  for (const Treatment& treatment : all_treatments()) {
    if (!treatment.calibrated) treatments_.emplace(treatment.name, treatment);
  }
}

Result<std::unique_ptr<QualityReads>> QualityReads::create(const QualityOptions& options) {
  auto out = std::unique_ptr<QualityReads>(new QualityReads);
  CELSLM_TRY(out->edge_, open(options.model, options.threads));
  if (!options.cloud_model.empty()) {
    CELSLM_TRY(out->cloud_, open(options.cloud_model, options.threads));
  }
  if (!options.map.empty()) CELSLM_CHECK_OK(out->use_map(options.map));
  return out;
}

Result<QualityReads::Side> QualityReads::open(const std::string& path, int threads) {
  Side out;
  CELSLM_TRY(out.model, Model::load(path));
  CELSLM_TRY(out.engine, Engine::create(out.model, {.n_threads = threads}));
  return out;
}

Status QualityReads::use_map(const std::string& path) {
  if (!cloud_.model) return fail(ErrorKind::kInvalid, "--map needs --cloud-model: the model whose KV it maps");
  CELSLM_TRY(map_, read_map(path));
  CELSLM_CHECK_OK(check_models(*map_, *cloud_.model, *edge_.model));
  return check_gate(*map_);
}

Status QualityReads::check(const std::string& name) const {
  if (name == "cloud" && !cloud_.model) return fail(ErrorKind::kInvalid, "'cloud' needs --cloud-model");
  if (name == "mapped" && !map_) return fail(ErrorKind::kInvalid, "'mapped' needs --map and --cloud-model");
  if (std::ranges::contains(kNotTreatments, name) || treatments_.contains(name)) return {};
  std::string known = fmt::format("{}", fmt::join(kNotTreatments, ", "));
  for (const auto& [treatment, _] : treatments_) known += ", " + treatment;
  return fail(ErrorKind::kInvalid, "there is no '{}' to read; there are: {}", name, known);
}

Status QualityReads::begin(const QualityTask& task) {
  own_ = {};
  large_ = {};
  CELSLM_TRY(closed_, prompts_of(edge_.model->text(), task, false));
  CELSLM_TRY(own_.prompts, prompts_of(edge_.model->text(), task, true));
  if (cloud_.model) {
    CELSLM_TRY(large_.prompts, prompts_of(cloud_.model->text(), task, true));
  }
  return {};
}

Result<ReadKv> QualityReads::read(const std::string& name) {
  if (name == "none") return ReadKv{.engine = edge_.engine.get(), .prompts = &closed_};
  if (name == "cloud") return exact(cloud_, large_);
  CELSLM_TRY(ReadKv out, exact(edge_, own_));
  if (name == "own") return out;
  if (name == "mapped") CELSLM_CHECK_OK(compute(*cloud_.engine, large_));
  const Stopwatch watch;
  if (name == "mapped") {
    CELSLM_TRY(out.segment, map_large());
  } else {
    CELSLM_TRY(const TreatedKv treated, treatments_.at(name).apply(*edge_.model, {.exact = *own_.exact}));
    out.segment = treated.segment;
    out.bits = treated.bits;
  }
  out.seconds = watch.seconds();
  return out;
}

Status QualityReads::compute(Engine& engine, Computed& computed) {
  if (computed.exact) return {};
  const Stopwatch watch;
  CELSLM_TRY(computed.exact, compute_kv(engine, computed.prompts.context));
  computed.seconds = watch.seconds();
  return {};
}

Result<ReadKv> QualityReads::exact(Side& side, Computed& computed) {
  CELSLM_CHECK_OK(compute(*side.engine, computed));
  return ReadKv{.engine = side.engine.get(),
                .prompts = &computed.prompts,
                .segment = computed.exact->segment,
                .seconds = computed.seconds,
                .bits = 8.0 * static_cast<double>(computed.exact->segment->size_bytes())};
}

Result<std::shared_ptr<KvSegment>> QualityReads::map_large() {
  CELSLM_TRY(const auto pairs,
             pair_positions(cloud_.model->text(), large_.prompts.context, edge_.model->text(), own_.prompts.context));
  if (pairs.size() != own_.prompts.context.size())
    return fail(ErrorKind::kMismatch, "the two models' tokens of a context do not end together");
  return make_segment(*edge_.model, own_.exact->planes, map_planes(*map_, large_.exact->planes, pairs), map_->gate.split);
}

}  // namespace celslm
