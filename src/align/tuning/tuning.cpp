#include "align/tuning/tuning.h"

#include <algorithm>
#include <cmath>

#include "core/file.h"
#include "core/utf8.h"

namespace celslm {
namespace {

Status check_text(const char* field, const std::string& text, std::size_t least, std::size_t most) {
  if (text.size() < least || text.size() > most)
    return fail(ErrorKind::kInvalid, "{} has {} bytes; {} to {} are accepted", field, text.size(), least, most);
  return is_utf8(text) ? Status() : fail(ErrorKind::kInvalid, "{} is not UTF-8", field);
}

Status check_size(const char* field, int value, std::size_t most) {
  if (value >= 1 && static_cast<std::size_t>(value) <= most) return {};
  return fail(ErrorKind::kInvalid, "{} is {}; 1 to {} are accepted", field, value, most);
}

Status check_values(const char* name, const std::vector<float>& values, const KvTuning& constants) {
  const std::size_t expected = static_cast<std::size_t>(constants.n_layers) * static_cast<std::size_t>(constants.kv_width);
  if (values.size() != expected)
    return fail(ErrorKind::kInvalid, "{} has {} values; expected {}: one for each layer and channel", name, values.size(),
                expected);
  const auto bad = std::ranges::find_if_not(values, [](float value) { return std::isfinite(value); });
  if (bad == values.end()) return {};
  const auto at = static_cast<std::size_t>(bad - values.begin());
  const auto width = static_cast<std::size_t>(constants.kv_width);
  return fail(ErrorKind::kInvalid, "{}[{}][{}] is {}; constants must be finite", name, at / width, at % width, *bad);
}

}  // namespace

Status check_tuning(const Tuning& tuning) {
  CELSLM_CHECK_OK(check_text("the teacher's name", tuning.teacher, 1, kMaxTeacherBytes));
  CELSLM_CHECK_OK(check_text("the corpus", tuning.corpus, 1, kMaxCorpusBytes));
  CELSLM_CHECK_OK(check_text("the gate", tuning.gate, 0, kMaxGateBytes));
  CELSLM_CHECK_OK(check_size("n_layers", tuning.constants.n_layers, kMaxTuningLayers));
  CELSLM_CHECK_OK(check_size("kv_width", tuning.constants.kv_width, kMaxTuningWidth));
  CELSLM_CHECK_OK(check_values("k", tuning.constants.k, tuning.constants));
  return check_values("v", tuning.constants.v, tuning.constants);
}

Status check_model(const Tuning& tuning, const ModelFingerprint& model) {
  const KvTuning& constants = tuning.constants;
  if (tuning.model != model.id())
    return fail(ErrorKind::kMismatch, "the tuning is for the model {}, this one is {}", tuning.model.hex(),
                model.id().hex());
  if (constants.n_layers == static_cast<int>(model.n_layers) &&
      constants.kv_width == static_cast<int>(model.n_kv_heads * model.head_dim))
    return {};
  return fail(ErrorKind::kMismatch, "the tuning has {} layers of {} values, its model {} of {}", constants.n_layers,
              constants.kv_width, model.n_layers, model.n_kv_heads * model.head_dim);
}

Result<Tuning> read_tuning(const std::filesystem::path& path) {
  CELSLM_TRY(const Bytes bytes, read_file(path, kMaxTuningBytes));
  auto tuning = parse_tuning(bytes);
  return tuning ? std::move(tuning) : wrap(std::move(tuning).error(), path.string());
}

Status write_tuning(const std::filesystem::path& path, const Tuning& tuning) {
  CELSLM_CHECK_OK(check_tuning(tuning));
  return write_file_atomically(path, encode_tuning(tuning));
}

}  // namespace celslm
