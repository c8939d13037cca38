// A layer map: how each layer of one model's KV is computed from another model's KV, and whether the map may be used.
// docs/map-format.md defines the file format, docs/alignment.md the method.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/result.h"
#include "model/config.h"

namespace celslm {

// Limits on the counts in a file, checked before anything is allocated.
inline constexpr std::uint32_t kMaxMapLayers = 255;          // the pack identity has one byte for the split layer
inline constexpr std::uint32_t kMaxMapWidth = 1U << 16;      // n_kv_heads * head_dim: stops matrices of terabytes
inline constexpr std::uint32_t kMaxMapSources = 8;           // source layers of one plane
inline constexpr std::uint32_t kMaxNetHidden = 1U << 14;     // hidden values of a residual network
inline constexpr std::uint32_t kMaxMapDocuments = 1U << 20;  // hashes of calibration documents
inline constexpr std::uint64_t kMaxMapBytes = 16ULL << 30;   // of the file

// What a map records about its source or its target model.
struct MapModel {
  Hash256 id;         // ModelFingerprint::id()
  Hash256 tokenizer;  // ModelFingerprint::tokenizer
  int n_layers = 0;
  int n_kv_heads = 0;
  int head_dim = 0;

  int kv_width() const { return n_kv_heads * head_dim; }
  bool operator==(const MapModel&) const = default;
};
MapModel map_model(const ModelFingerprint& fingerprint);

// How matrix values are stored (in memory they are f32): with the codecs of docs/kv-pack-format.md, each row as one token of
// one head.
enum class MapPrecision : std::uint8_t { kF32 = 0, kF16 = 1, kQ8 = 3 };
const char* to_string(MapPrecision precision);
Result<MapPrecision> map_precision_from(std::string_view name);  // "f32", "f16", "q8"

// A linear map of a row vector x [n_in]: x * left * right, or x * left if rank is 0.
struct MapMatrix {
  int n_in = 0;
  int n_out = 0;
  int rank = 0;
  std::vector<float> left;   // [n_in][rank], or [n_in][n_out] if rank is 0
  std::vector<float> right;  // [rank][n_out]; empty if rank is 0

  std::size_t values() const { return left.size() + right.size(); }
};

// A trained correction: y += gate[head] * (silu(x * hidden + hidden_bias) * out + out_bias), where x concatenates K and V of
// each input layer.
struct ResidualNet {
  std::vector<int> inputs;  // source layers
  int n_hidden = 0;
  std::vector<float> hidden;       // [inputs * 2 * source kv_width][n_hidden]
  std::vector<float> hidden_bias;  // [n_hidden]
  std::vector<float> out;          // [n_hidden][target kv_width]
  std::vector<float> out_bias;     // [target kv_width]
  std::vector<float> gate;         // [target n_kv_heads]
};

// How K or V of one target layer is computed from K or V of some source layers.
struct PlaneMap {
  std::vector<int> sources;  // source layers, in the order in which the input concatenates them
  bool same_head = false;    // each target head is computed only from the source heads of its group
  // One matrix over all sources' rows; if same_head, one for each target head, over source_heads() heads of each source.
  std::vector<MapMatrix> blocks;
  std::vector<float> bias;  // [target kv_width]
  double held_out_r2 = 0.0;
  std::optional<ResidualNet> net;
};

struct LayerMap {
  PlaneMap k;
  PlaneMap v;
};

// The quality measured for one split: layers below it native (the target's own KV), layers from it on mapped.
struct SplitMetrics {
  int split = 0;
  std::uint32_t questions = 0;     // asked; 0: the split is judged by kl alone
  std::uint32_t right = 0;         // answered correctly with mapped KV
  std::uint32_t native_right = 0;  // answered correctly with native KV
  double kl = 0.0;                 // D(native || mapped) in nats a token, teacher-forced on held-out text

  // right / native_right; 1 if no question was asked.
  double retained() const;
  bool operator==(const SplitMetrics&) const = default;
};

struct GateLimits {
  double min_retained = 0.98;  // share of the native correct answers
  double max_kl = 0.1;         // nats a token
  bool operator==(const GateLimits&) const = default;
};

enum class GateState : std::uint8_t { kNotJudged = 0, kPassed = 1, kRefused = 2 };

// Whether a map may be used, and from which layer.
struct Gate {
  GateState state = GateState::kNotJudged;
  int split = 0;  // first mapped layer; valid if passed
  GateLimits limits;
  std::vector<SplitMetrics> splits;  // all that were judged
  bool operator==(const Gate&) const = default;
};
// Passes with the lowest split that is within the limits; refused if there is none.
Gate judge_splits(std::vector<SplitMetrics> splits, const GateLimits& limits);
std::string describe(const Gate& gate);  // one line

// The format's version that this program writes. In version 1, which it reads, K before RoPE contained the model's bias.
inline constexpr std::uint16_t kMapVersion = 2;

struct KvMap {
  std::uint16_t version = kMapVersion;
  MapModel source;
  MapModel target;
  MapPrecision precision = MapPrecision::kF32;
  double lambda = 0.0;
  std::vector<Hash256> calibration;  // hashes of the documents used to fit it and to select its sources; ascending
  Gate gate;
  std::vector<LayerMap> layers;  // one for each target layer
  Hash256 id;                    // hash of the encoded map; set by parse_map

  bool fused() const;  // whether any plane has a residual network
};

// How many source heads feed one target head in a same-head map: those of its group, or the one that its group shares. 0 if
// neither head count divides the other, so that no same-head map exists.
int source_heads(const MapModel& source, const MapModel& target);
int first_source_head(const MapModel& source, const MapModel& target, int target_head);

// Checks every count and size of the map against the others. kInvalid, naming the field. A precondition of everything that
// takes a KvMap.
Status check_map(const KvMap& map);
// What layers [first_layer, n) of a map cost.
struct MapCost {
  std::uint64_t bytes = 0;            // of the stored matrices
  std::uint64_t multiplications = 0;  // per token
};
MapCost map_cost(const KvMap& map, int first_layer);
std::string describe(const KvMap& map);  // one line: size, cost of applying it, gate

// Requires check_map(). Values are rounded to `precision`: parse_map() of the result returns the rounded map. kInvalid for
// values that the precision cannot represent.
Result<Bytes> encode_map(const KvMap& map);
// Safe for untrusted input. kInvalid, naming the field; kMismatch if the contents do not match the hash at the end.
Result<KvMap> parse_map(ByteView bytes);

// Replaces the map's networks by those of a file that tools/align-train wrote, and resets the gate to not judged. kInvalid,
// naming the field; `map` is then partly changed and must be discarded.
Status fuse(ByteView networks, KvMap& map);

// Errors of parse_map() and kNotFound, kIo; all begin with the file's name.
Result<KvMap> read_map(const std::filesystem::path& path);
// Writes atomically and returns what read_map() would.
Result<KvMap> write_map(const std::filesystem::path& path, const KvMap& map);

}  // namespace celslm
