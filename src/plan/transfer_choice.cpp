#include "plan/transfer_choice.h"

#include <algorithm>

namespace celslm {
namespace {

constexpr double kHedgeGain = 1.25;   // a hedge must be earlier by this factor
constexpr double kFarFaster = 2.0;    // by this factor
constexpr double kNearlyEqual = 2.0;  // rates within this factor

// The choice for one source at one moment.
class Choice {
 public:
  Choice(const LoadStatus& status, SourceId source, TimePoint now)
      : status_(status),
        shape_(status.shape()),
        id_(source),
        source_(status.source(source)),
        now_(now),
        forecast_(status.forecast(now)) {}

  std::optional<BlockRange> free() const;
  std::optional<BlockRange> hedge() const;

 private:
  std::uint64_t budget() const;
  std::uint64_t useful_bytes() const;
  bool is_free(int block) const { return status_.blocks.is_free(block) && source_.has(block); }
  std::optional<int> first_free(int layer) const;
  bool earlier_without(int layer) const;
  bool takes_shallow_end() const;
  BlockRange extend(int first, FetchOrder order) const;
  std::vector<double> others_arrivals_s() const;

  const LoadStatus& status_;
  const LoadShape& shape_;
  const SourceId id_;
  const SourceState& source_;
  const TimePoint now_;
  const Forecast forecast_;
};

// Bytes that one transfer should ask for, and may.
std::uint64_t Choice::budget() const {
  return std::min(useful_bytes(), source_.bytes_left());
}

std::uint64_t Choice::useful_bytes() const {
  std::uint64_t missing = 0;
  for (const std::uint64_t bytes : status_.blocks.missing_bytes()) missing += bytes;
  int lanes = 0;
  int sources = 0;
  for (const SourceState& s : status_.sources) {
    lanes += s.alive() ? std::min(2, s.traits.max_transfers) : 0;
    sources += s.alive() ? 1 : 0;
  }
  // With the header: all that can arrive before the next request would be answered, without what the others may supply.
  if (source_.is_presumed()) {
    const std::uint64_t part = missing / static_cast<std::uint64_t>(std::max(1, sources));
    return std::max(source_.request_bytes(), std::min(source_.bytes_per_wait(), part));
  }
  // The nearer the end, the smaller: no source should have much left to send while others have nothing to do. But not so
  // small that most of the time is spent waiting.
  const std::uint64_t share = missing / (2 * static_cast<std::uint64_t>(std::max(1, lanes)));
  return std::min(source_.request_bytes(), std::max(share, source_.bytes_per_wait()));
}

std::optional<int> Choice::first_free(int layer) const {
  for (int block = shape_.first_block(layer); block < shape_.first_block(layer + 1); ++block) {
    if (is_free(block)) return block;
  }
  return std::nullopt;
}

// Whether a block of this layer would be here without this source before it could come from it: by local compute, where the
// forecast has it compute this layer, or because all that is missing will have come from faster sources.
bool Choice::earlier_without(int layer) const {
  const std::uint32_t bytes = shape_.bytes_of(shape_.first_block(layer));
  const double own = status_.fetch_s(source_, bytes);
  const ComputeProgress& compute = status_.compute;
  const double computed_in_s = (layer - compute.layer() + 1 - compute.part()) * compute.layer_s();
  if (layer < forecast_.compute_until && compute.layer_s() > 0 && own >= computed_in_s) return true;
  if (own <= forecast_.fetch_s) return false;
  for (std::size_t i = 0; i < status_.sources.size(); ++i) {
    const auto other = static_cast<SourceId>(i);
    const SourceState& faster = status_.sources[i];
    const bool counts =
        other != id_ && faster.has_all() && faster.estimate().rate_bytes_per_s.known() && status_.helps(other, now_);
    if (counts && status_.fetch_s(faster, bytes) * kFarFaster < own) return true;
  }
  return false;
}

// With a neighbour and a cloud of about the same speed the neighbour takes the shallow end: then neither asks for what the
// other is about to, and the cloud, which serves everyone, is asked for the layers that only it computes for small models.
bool Choice::takes_shallow_end() const {
  if (!source_.traits.is_neighbour) return false;
  const double rate = source_.estimate().rate_bytes_per_s.mean();
  return std::ranges::any_of(status_.sources, [&](const SourceState& other) {
    const double others = other.estimate().rate_bytes_per_s.mean();
    return other.alive() && !other.traits.is_neighbour && others > 0 && rate < others * kNearlyEqual &&
           others < rate * kNearlyEqual;
  });
}

// As many adjacent free blocks as one transfer should ask for. Within a layer upward; further layers in the given order.
BlockRange Choice::extend(int first, FetchOrder order) const {
  const std::uint64_t budget_bytes = budget();
  BlockRange range{.first = first, .count = 1};
  std::uint64_t bytes = shape_.bytes_of(first);
  const auto try_add = [&](int block) {
    if (block < 0 || block >= shape_.n_blocks() || !is_free(block)) return false;
    const std::uint64_t more = bytes + shape_.bytes_of(block);
    if (more > budget_bytes) return false;
    bytes = more;
    return true;
  };
  const int layer_end = shape_.first_block(shape_.layer_of(first) + 1);
  const int last = order == FetchOrder::kDeepFirst ? layer_end : shape_.n_blocks();
  while (range.end() < last && try_add(range.end())) ++range.count;
  if (order == FetchOrder::kShallowFirst) return range;
  // Complete layers only, so that what a transfer leaves are complete layers, too.
  int layer = shape_.layer_of(range.first);
  while (range.first == shape_.first_block(layer) && layer > status_.compute.layer()) {
    const int n_blocks = shape_.blocks_of(--layer);
    for (int i = 1; i <= n_blocks; ++i) {
      if (!try_add(range.first - i)) return range;
    }
    range.first -= n_blocks;
    range.count += n_blocks;
  }
  return range;
}

std::optional<BlockRange> Choice::free() const {
  const bool deep = forecast_.order == FetchOrder::kDeepFirst;
  if (!deep || takes_shallow_end()) {
    for (int layer = deep ? forecast_.compute_until : 0; layer < shape_.n_layers; ++layer) {
      const auto block = first_free(layer);
      if (block && !earlier_without(layer)) return extend(*block, FetchOrder::kShallowFirst);
    }
  }
  for (int layer = shape_.n_layers - 1; layer >= 0; --layer) {
    const auto block = first_free(layer);
    if (block && !earlier_without(layer)) return extend(*block, FetchOrder::kDeepFirst);
  }
  return std::nullopt;
}

// When blocks arrive from other sources; from this one only where it is late, so that another transfer may help.
std::vector<double> Choice::others_arrivals_s() const {
  std::vector<double> out = status_.arrivals_s(now_);
  for (const auto& [id, transfer] : status_.transfers) {
    if (transfer.source != id_ || status_.is_late(transfer, now_)) continue;
    for (int block = transfer.next; block < transfer.blocks.end(); ++block) out[static_cast<std::size_t>(block)] = 0;
  }
  return out;
}

// The blocks that will arrive last as things are: from the very last one towards the front for as long as this source would
// have them earlier.
std::optional<BlockRange> Choice::hedge() const {
  const std::vector<double> arrivals = others_arrivals_s();
  const auto earlier = [&](int block, std::uint64_t bytes) {
    const double arrival = arrivals[static_cast<std::size_t>(block)];
    return arrival > 0 && source_.has(block) &&
           bytes <= std::max<std::uint64_t>(source_.request_bytes(), shape_.bytes_of(block)) &&
           status_.fetch_s(source_, bytes) * kHedgeGain < arrival && !earlier_without(shape_.layer_of(block));
  };
  int last = -1;
  for (int block = 0; block < shape_.n_blocks(); ++block) {
    const auto i = static_cast<std::size_t>(block);
    if (earlier(block, shape_.bytes_of(block)) && (last < 0 || arrivals[i] >= arrivals[static_cast<std::size_t>(last)]))
      last = block;
  }
  if (last < 0) return std::nullopt;
  std::uint64_t bytes = shape_.bytes_of(last);
  int first = last;
  while (first > 0 && earlier(first - 1, bytes + shape_.bytes_of(first - 1))) bytes += shape_.bytes_of(--first);
  return BlockRange{.first = first, .count = last - first + 1};
}

}  // namespace

std::optional<BlockRange> choose_blocks(const LoadStatus& status, SourceId source, TimePoint now) {
  const SourceState& asked = status.source(source);
  if (status.blocks.complete() || !status.may_ask(asked, now) || !asked.wants_transfer()) return std::nullopt;
  const Choice choice(status, source, now);
  const auto free = choice.free();
  return free ? free : choice.hedge();
}

}  // namespace celslm
