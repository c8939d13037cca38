#include "align/fit/collect.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "align/map/numbers.h"
#include "align/texts/positions.h"
#include "core/file.h"

namespace celslm {
namespace {

constexpr int kHeldOutOneIn = 5;

// Rows `at` of the planes of `layers`, side by side.
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

// What a checkpoint is of.
Hash256 task_hash(const Model& source, const Model& target, std::span<const Document> documents,
                  const CollectOptions& options) {
  Hasher hasher;
  hasher.update_field("celslm.align.checkpoint.1");
  for (const Hash256& id : {source.fingerprint().id(), target.fingerprint().id()})
    hasher.update(std::as_bytes(std::span(id.bytes)));
  for (const Document& d : documents) hasher.update(std::as_bytes(std::span(d.hash.bytes)));
  hasher.update(std::as_bytes(std::span(options.source_layers))).update_u64(static_cast<std::uint64_t>(options.max_tokens));
  return hasher.finish();
}

std::vector<std::span<double>> parts_of(Collected& sums) {
  std::vector<std::span<double>> out;
  for (Gram* gram : {&sums.fit.k, &sums.fit.v, &sums.held_out.k, &sums.held_out.v}) {
    for (const std::span<double> part : gram->parts()) out.push_back(part);
  }
  return out;
}

// The task's hash, the number of documents in the sums, the sums: piece by piece, since they may be gigabytes.
class Checkpoint {
 public:
  Checkpoint(std::filesystem::path path, const Hash256& task) : path_(std::move(path)), task_(task) {}

  Status save(Collected& sums, std::uint64_t done) const {
    if (path_.empty()) return {};
    std::uint64_t size = kHeadBytes;
    for (const auto part : parts_of(sums)) size += part.size_bytes();
    CELSLM_TRY(const auto file, AtomicFile::create(path_, size));
    ByteWriter head;
    head.bytes(std::as_bytes(std::span(task_.bytes)));
    head.u64(done);
    CELSLM_CHECK_OK(file->write_at(0, head.data()));
    std::uint64_t at = kHeadBytes;
    for (const auto part : parts_of(sums)) {
      CELSLM_CHECK_OK(file->write_at(at, std::as_bytes(part)));
      at += part.size_bytes();
    }
    return file->commit();
  }

  // How many documents the sums hold now: 0, with the sums untouched, where there is no checkpoint of this task.
  std::size_t load(Collected& sums) const {
    if (path_.empty()) return 0;
    const auto file = MappedFile::open(path_);
    if (!file) return 0;
    ByteReader in((*file)->bytes());
    std::uint64_t size = kHeadBytes;
    for (const auto part : parts_of(sums)) size += part.size_bytes();
    const ByteView task = in.bytes(task_.bytes.size());
    if (in.remaining() + task.size() != size || !std::ranges::equal(task, std::as_bytes(std::span(task_.bytes)))) return 0;
    const std::uint64_t done = in.u64();
    for (const auto part : parts_of(sums)) std::memcpy(part.data(), in.bytes(part.size_bytes()).data(), part.size_bytes());
    return done;
  }

 private:
  static constexpr std::size_t kHeadBytes = 32 + 8;
  std::filesystem::path path_;
  Hash256 task_;
};

Status check_sides(std::span<const Document> documents) {
  const auto held_out = std::ranges::count_if(documents, is_held_out);
  if (held_out > 0 && held_out < static_cast<std::ptrdiff_t>(documents.size())) return {};
  return fail(ErrorKind::kInvalid,
              "of {} documents {} fall to the held-out side (one in {}, by hash); both sides need some: give more texts, or "
              "put empty lines between the parts of a long one",
              documents.size(), held_out, kHeldOutOneIn);
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
  const std::vector<int> rows = first_numbers(n);
  const std::vector<int> target_layers = first_numbers(static_cast<int>(target.k.size()));
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
  return document.hash.bytes[0] % kHeldOutOneIn == 0;
}

Result<Collected> collect(Engine& source, Engine& target, std::span<const Document> documents,
                          const CollectOptions& options) {
  CELSLM_CHECK_OK(check_sides(documents));
  const auto empty = [&] {
    return empty_grams(source.model().config(), target.model().config(), options.source_layers.size());
  };
  Collected out{.fit = empty(), .held_out = empty()};
  const Checkpoint checkpoint(options.checkpoint, task_hash(source.model(), target.model(), documents, options));
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
