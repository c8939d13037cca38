#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/hash.h"
#include "core/json.h"
#include "plan/simulation/fleet_requests.h"
#include "plan/simulation/json_lines.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr int kBlockTokens = 512;
constexpr std::size_t kMostBlocks = 1U << 16;
constexpr std::int64_t kMostTokens = 1 << 25;
constexpr std::int64_t kMostMs = std::int64_t{1} << 50;

struct Line {
  double at_s = 0;
  int input = 0;
  int output = 0;
  std::vector<std::int64_t> blocks;
};

Result<Line> parse_line(std::string_view text) {
  CELSLM_TRY(const json object, parse_object(text));
  const JsonFields fields(object);
  CELSLM_TRY(const auto timestamp, fields.required_integer("timestamp", 0, kMostMs));
  CELSLM_TRY(const auto input, fields.required_integer("input_length", 1, kMostTokens));
  CELSLM_TRY(const auto output, fields.required_integer("output_length", 0, kMostTokens));
  CELSLM_TRY(const json* const ids, fields.required_list("hash_ids", kMostBlocks));
  Line out{
      .at_s = static_cast<double>(timestamp) / 1000, .input = static_cast<int>(input), .output = static_cast<int>(output)};
  for (const json& id : *ids) {
    if (!id.is_number_integer()) return fields.expected("hash_ids", "a list of integers");
    out.blocks.push_back(id.get<std::int64_t>());
  }
  return out;
}

Result<std::vector<Line>> parse_lines(std::string_view text) {
  std::vector<Line> out;
  CELSLM_CHECK_OK(for_each_line(text, [&](std::string_view line) -> Status {
    CELSLM_TRY(Line parsed, parse_line(line));
    out.push_back(std::move(parsed));
    return {};
  }));
  std::ranges::stable_sort(out, {}, &Line::at_s);
  return out;
}

// A beginning that requests have in common, by its last block.
struct Beginning {
  std::int64_t block = 0;
  int n_blocks = 0;
  int n_requests = 0;
  std::int64_t tokens_saved() const { return std::int64_t{n_blocks} * kBlockTokens * (n_requests - 1); }
};

// Those that save most. A beginning that is asked for by the same requests as a longer one is not worth a context of its
// own.
std::vector<Beginning> best_beginnings(const std::vector<Line>& lines, const TraceOptions& options) {
  std::unordered_map<std::int64_t, Beginning> all;
  std::unordered_map<std::int64_t, int> most_behind;  // requests of the most popular continuation
  for (const Line& line : lines) {
    for (std::size_t i = 0; i < line.blocks.size(); ++i) {
      Beginning& beginning = all[line.blocks[i]];
      beginning = {line.blocks[i], static_cast<int>(i) + 1, beginning.n_requests + 1};
    }
  }
  for (const Line& line : lines) {
    for (std::size_t i = 1; i < line.blocks.size(); ++i) {
      int& most = most_behind[line.blocks[i - 1]];
      most = std::max(most, all[line.blocks[i]].n_requests);
    }
  }
  std::vector<Beginning> out;
  for (const auto& [block, beginning] : all) {
    const auto behind = most_behind.find(block);
    const bool longer_is_as_good = behind != most_behind.end() && behind->second == beginning.n_requests;
    if (beginning.n_requests >= options.min_requests && !longer_is_as_good) out.push_back(beginning);
  }
  std::ranges::sort(out, [](const Beginning& a, const Beginning& b) {
    return std::pair(-a.tokens_saved(), a.block) < std::pair(-b.tokens_saved(), b.block);
  });
  if (out.size() > static_cast<std::size_t>(options.n_contexts)) out.resize(static_cast<std::size_t>(options.n_contexts));
  return out;
}

class TraceReader {
 public:
  TraceReader(const TraceOptions& options, int n_edges) : options_(options), n_edges_(n_edges) {}

  FleetTrace read(const std::vector<Line>& lines) {
    for (const Beginning& beginning : best_beginnings(lines, options_)) {
      context_of_[beginning.block] = static_cast<int>(out_.contexts.size());
      const int tokens = beginning.n_blocks * kBlockTokens;
      out_.contexts.push_back({.tokens = tokens, .pack_bytes = tokens * options_.bytes_per_token});
    }
    for (const Line& line : lines) out_.requests.push_back(request_of(line));
    return std::move(out_);
  }

 private:
  FleetRequest request_of(const Line& line) {
    FleetRequest out{.at_s = line.at_s * options_.time_scale, .answer_tokens = std::max(line.output, 1)};
    std::size_t behind = 0;  // the first block that is the request's own
    for (std::size_t i = 0; i < line.blocks.size(); ++i) {
      const auto found = context_of_.find(line.blocks[i]);
      if (found == context_of_.end()) continue;
      out.context = found->second;
      behind = i + 1;
    }
    out_.n_without_context += out.context < 0 ? 1 : 0;
    const std::int64_t own = behind < line.blocks.size() ? line.blocks[behind] : -1 - line.input;
    const Hash256 spread = Hasher().update_u64(static_cast<std::uint64_t>(own)).finish();
    out.edge = (spread.bytes[0] << 16 | spread.bytes[1] << 8 | spread.bytes[2]) % n_edges_;
    std::size_t known = behind;
    std::unordered_set<std::int64_t>& seen = seen_[out.edge];
    while (known < line.blocks.size() && seen.contains(line.blocks[known])) ++known;
    for (std::size_t i = behind; i < line.blocks.size(); ++i) seen.insert(line.blocks[i]);
    out.prompt_tokens = std::max(1, line.input - static_cast<int>(known) * kBlockTokens);
    return out;
  }

  const TraceOptions options_;
  const int n_edges_;
  std::unordered_map<std::int64_t, int> context_of_;      // by a beginning's last block
  std::map<int, std::unordered_set<std::int64_t>> seen_;  // by edge: blocks of its conversations
  FleetTrace out_;
};

}  // namespace

Result<FleetTrace> read_mooncake_trace(std::string_view text, const TraceOptions& options, int n_edges) {
  CELSLM_TRY(const std::vector<Line> lines, parse_lines(text));
  if (lines.empty()) return fail(ErrorKind::kInvalid, "the trace has no requests");
  return TraceReader(options, n_edges).read(lines);
}

}  // namespace celslm
