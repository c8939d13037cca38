#include "bench/cpp/quality_reads.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "align/map/apply.h"
#include "align/texts/positions.h"
#include "kv/studied/studied.h"

namespace celslm {
namespace {

constexpr std::array<std::string_view, 7> kNotTreatments{"none",  "own",         "cloud",  "mapped",
                                                         "tuned", "own-teacher", "studied"};

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
  if (!options.tuning.empty()) CELSLM_CHECK_OK(out->use_tuning("tuned", options.tuning));
  if (!options.own_teacher_tuning.empty()) CELSLM_CHECK_OK(out->use_tuning("own-teacher", options.own_teacher_tuning));
  out->studied_folder_ = options.studied;
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

Status QualityReads::use_tuning(const std::string& name, const std::string& path) {
  CELSLM_TRY(Tuning tuning, read_tuning(path));
  if (const Status fits = check_model(tuning, edge_.model->fingerprint()); !fits) return wrap(fits.error(), path);
  if (name == "tuned") tuning_ = unjudged_id(tuning);
  tunings_.emplace(name, std::move(tuning.constants));
  return {};
}

Status QualityReads::check(const std::string& name) const {
  if (name == "cloud" && !cloud_.model) return fail(ErrorKind::kInvalid, "'cloud' needs --cloud-model");
  if (name == "mapped" && !map_) return fail(ErrorKind::kInvalid, "'mapped' needs --map and --cloud-model");
  if (name == "tuned" && !tunings_.contains(name)) return fail(ErrorKind::kInvalid, "'tuned' needs --tuning");
  if (name == "own-teacher" && !tunings_.contains(name))
    return fail(ErrorKind::kInvalid, "'own-teacher' needs --own-teacher-tuning");
  if (name == "studied" && studied_folder_.empty()) return fail(ErrorKind::kInvalid, "'studied' needs --studied");
  if (std::ranges::contains(kNotTreatments, name) || treatments_.contains(name) || parse_condensed(name)) return {};
  std::string known = fmt::format("{}", fmt::join(kNotTreatments, ", "));
  for (const auto& [treatment, _] : treatments_) known += ", " + treatment;
  return fail(ErrorKind::kInvalid, "there is no '{}' to read; there are: {}", name, known);
}

Status QualityReads::begin(const QualityTask& task) {
  task_ = &task;
  condensed_.reset();
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
  } else if (const auto tuning = tunings_.find(name); tuning != tunings_.end()) {
    CELSLM_TRY(out.segment, tune(tuning->second));
  } else if (name == "studied") {
    CELSLM_TRY(const auto segment, studied());
    out.segment = segment;
    out.bits = 8.0 * static_cast<double>(segment->size_bytes());
  } else if (parse_condensed(name)) {
    if (!condensed_) condensed_.emplace(*edge_.engine, *task_, *own_.exact);
    CELSLM_TRY(const auto segment, condensed_->read(name));
    out.segment = segment;
    out.bits = 8.0 * static_cast<double>(segment->size_bytes());
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

Result<std::shared_ptr<KvSegment>> QualityReads::studied() const {
  const auto path = studied_folder_ / (context_handle(task_->system).hex() + ".gguf");
  CELSLM_TRY(const StudiedFile file, read_studied(path));
  if (file.context.model != edge_.model->fingerprint().id())
    return fail(ErrorKind::kMismatch, "{}: it is of the model {}", path.string(), file.context.model.hex());
  if (file.context.tokens != own_.prompts.context)
    return fail(ErrorKind::kMismatch, "{}: it was made from other tokens than the context's", path.string());
  auto made = condensed_segment(*edge_.model, KvType::kF16, file.context.kv);
  return made ? std::move(made) : wrap(std::move(made).error(), path.string());
}

Result<std::shared_ptr<KvSegment>> QualityReads::tune(const KvTuning& tuning) const {
  KvPlanes planes = own_.exact->planes;
  for (int layer = 0; layer < tuning.n_layers; ++layer) {
    const auto index = static_cast<std::size_t>(layer);
    CELSLM_CHECK_OK(tune_rows(tuning, layer, KvType::kF16, planes.k[index], planes.v[index]));
  }
  return make_segment(*edge_.model, planes, planes, 0);
}

}  // namespace celslm
