#include "align/fit/collect.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "align/map/index_range.h"
#include "align/texts/positions.h"
#include "core/file.h"

namespace celslm {
namespace {

constexpr int kHeldOutDivisor = 5;

// Rows `at` of the planes of `layers`, concatenated: [at.size()][layers.size() * width].
std::vector<float> gather(const std::vector<std::vector<float>>& planes, std::span<const int> layers, std::size_t width,
                          std::span<const int> at) {
  std::vector<float> out;
  out.reserve(at.size() * layers.size() * width);
  for (const int row : at) {
    for (const int layer : layers) {
      const auto begin = planes[static_cast<std::size_t>(layer)].begin() +
                         static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * width);
      out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
    }
  }
  return out;
}

// Identifies the run that a checkpoint belongs to.
Hash256 run_hash(const Model& source, const Model& target, std::span<const Document> documents,
                 const CollectOptions& options) {
  Hasher hasher;
  hasher.update_field("celslm.align.checkpoint.1");
  for (const Hash256& id : {source.fingerprint().id(), target.fingerprint().id()})
    hasher.update(std::as_bytes(std::span(id.bytes)));
  for (const Document& d : documents) hasher.update(std::as_bytes(std::span(d.hash.bytes)));
  hasher.update(std::as_bytes(std::span(options.source_layers))).update_u64(static_cast<std::uint64_t>(options.max_tokens));
  return hasher.finish();
}

std::vector<std::span<double>> parts_of(CalibrationSums& sums) {
  std::vector<std::span<double>> out;
  for (Gram* gram : {&sums.fit.k, &sums.fit.v, &sums.held_out.k, &sums.held_out.v}) {
    for (const std::span<double> part : gram->parts()) out.push_back(part);
  }
  return out;
}

// The file of a checkpoint: the run's hash, the number of documents in the sums, the sums. Written part by part, because the
// sums may take gigabytes.
class Checkpoint {
 public:
  Checkpoint(std::filesystem::path path, const Hash256& run) : path_(std::move(path)), run_(run) {}

  Status save(CalibrationSums& sums, std::uint64_t done) const {
    if (path_.empty()) return {};
    std::uint64_t size = kHeadBytes;
    for (const auto part : parts_of(sums)) size += part.size_bytes();
    CELSLM_TRY(const auto file, AtomicFile::create(path_, size));
    ByteWriter head;
    head.bytes(std::as_bytes(std::span(run_.bytes)));
    head.u64(done);
    CELSLM_CHECK_OK(file->write_at(0, head.data()));
    std::uint64_t at = kHeadBytes;
    for (const auto part : parts_of(sums)) {
      CELSLM_CHECK_OK(file->write_at(at, std::as_bytes(part)));
      at += part.size_bytes();
    }
    return file->commit();
  }

  // Returns the number of documents that the sums now cover: 0, with the sums unchanged, if there is no checkpoint of this
  // run.
  std::size_t load(CalibrationSums& sums) const {
    if (path_.empty()) return 0;
    const auto file = MappedFile::open(path_);
    if (!file) return 0;
    ByteReader in((*file)->bytes());
    std::uint64_t size = kHeadBytes;
    for (const auto part : parts_of(sums)) size += part.size_bytes();
    const ByteView run = in.bytes(run_.bytes.size());
    if (in.remaining() + run.size() != size || !std::ranges::equal(run, std::as_bytes(std::span(run_.bytes)))) return 0;
    const std::uint64_t done = in.u64();
    for (const auto part : parts_of(sums)) std::memcpy(part.data(), in.bytes(part.size_bytes()).data(), part.size_bytes());
    return done;
  }

 private:
  static constexpr std::size_t kHeadBytes = 32 + 8;
  std::filesystem::path path_;
  Hash256 run_;
};

Status check_sides(std::span<const Document> documents) {
  const auto held_out = std::ranges::count_if(documents, is_held_out);
  if (held_out > 0 && held_out < static_cast<std::ptrdiff_t>(documents.size())) return {};
  return fail(ErrorKind::kInvalid,
              "of {} documents {} belong to the held-out side (one in {}, by hash), but both sides need at least one; give "
              "more texts, or split long texts into documents by empty lines",
              documents.size(), held_out, kHeldOutDivisor);
}

}  // namespace

KvGrams empty_grams(const ModelConfig& source, const ModelConfig& target, std::size_t n_source_layers) {
  const Gram empty(static_cast<int>(n_source_layers) * source.kv_width(), target.n_layers * target.kv_width(),
                   target.kv_width());
  return {.k = empty, .v = empty};
}

void add_rows(const KvPlanes& source, const KvPlanes& target, std::span<const int> source_layers, std::span<const int> pairs,
              KvGrams& sums) {
  const auto n = static_cast<int>(pairs.size());
  const std::vector<int> rows = index_range(n);
  const std::vector<int> target_layers = index_range(static_cast<int>(target.k.size()));
  const auto side_by_side = [](const auto& planes, std::span<const int> layers, std::span<const int> at, int n_tokens) {
    return gather(planes, layers, planes.front().size() / static_cast<std::size_t>(n_tokens), at);
  };
  sums.k.add(side_by_side(source.k, source_layers, pairs, source.n_tokens),
             side_by_side(target.k, target_layers, rows, target.n_tokens), n);
  sums.v.add(side_by_side(source.v, source_layers, pairs, source.n_tokens),
             side_by_side(target.v, target_layers, rows, target.n_tokens), n);
}

Result<int> add_document(Engine& source, Engine& target, const Document& document, std::span<const int> source_layers,
                         int max_tokens, KvGrams& sums) {
  const Model& from = source.model();
  const Model& to = target.model();
  CELSLM_TRY(const auto source_tokens, tokens_of(from.text(), document, max_tokens));
  CELSLM_TRY(const auto target_tokens, tokens_of(to.text(), document, max_tokens));
  if (source_tokens.empty() || target_tokens.empty()) return 0;
  CELSLM_TRY(const auto pairs, pair_positions(from.text(), source_tokens, to.text(), target_tokens));
  CELSLM_TRY(const ExactKv x, compute_kv(source, source_tokens));
  CELSLM_TRY(const ExactKv y, compute_kv(target, target_tokens));
  add_rows(x.planes, y.planes, source_layers, pairs, sums);
  return static_cast<int>(pairs.size());
}

bool is_held_out(const Document& document) {
  return document.hash.bytes[0] % kHeldOutDivisor == 0;
}

Result<CalibrationSums> collect(Engine& source, Engine& target, std::span<const Document> documents,
                                const CollectOptions& options) {
  CELSLM_CHECK_OK(check_sides(documents));
  const auto empty = [&] {
    return empty_grams(source.model().config(), target.model().config(), options.source_layers.size());
  };
  CalibrationSums out{.fit = empty(), .held_out = empty()};
  const Checkpoint checkpoint(options.checkpoint, run_hash(source.model(), target.model(), documents, options));
  std::size_t done = std::min(checkpoint.load(out), documents.size());
  for (; done < documents.size(); ++done) {
    const Document& document = documents[done];
    const auto rows = add_document(source, target, document, options.source_layers, options.max_tokens,
                                   is_held_out(document) ? out.held_out : out.fit);
    if (!rows) return wrap(rows.error(), fmt::format("document {}", done + 1));
    if (options.progress) {
      options.progress(static_cast<int>(done) + 1, static_cast<int>(documents.size()),
                       static_cast<std::uint64_t>(out.fit.k.rows() + out.held_out.k.rows()));
    }
    if ((done + 1) % static_cast<std::size_t>(options.checkpoint_every) == 0)
      CELSLM_CHECK_OK(checkpoint.save(out, done + 1));
  }
  return out;
}

}  // namespace celslm
