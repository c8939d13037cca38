// A map from one model's KV to another's, layer by layer, and the verdict on it. docs/map-format.md says how it is stored.
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

// Limits on what a file may say, checked before anything is allocated.
inline constexpr std::uint32_t kMaxMapLayers = 255;          // a layer number fits the pack identity's one byte
inline constexpr std::uint32_t kMaxMapWidth = 1U << 16;      // n_kv_heads * head_dim: a matrix of terabytes
inline constexpr std::uint32_t kMaxMapSources = 8;           // source layers of one plane
inline constexpr std::uint32_t kMaxNetHidden = 1U << 14;     // the same, of a residual network
inline constexpr std::uint32_t kMaxMapDocuments = 1U << 20;  // hashes of calibration documents
inline constexpr std::uint64_t kMaxMapBytes = 16ULL << 30;   // a file that never ends

// One side of a map.
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

// How a matrix's values are stored; in memory they are f32. The codecs of docs/kv-pack-format.md, a matrix's rows as tokens.
enum class MapPrecision : std::uint8_t { kF32 = 0, kF16 = 1, kQ8 = 3 };
const char* to_string(MapPrecision precision);
Result<MapPrecision> map_precision_from(std::string_view name);  // "f32", "f16", "q8"

// x [n_in] -> x left right, or x left where rank is 0.
struct MapMatrix {
  int n_in = 0;
  int n_out = 0;
  int rank = 0;
  std::vector<float> left;   // [n_in][rank], or [n_in][n_out] where rank is 0
  std::vector<float> right;  // [rank][n_out]; empty where rank is 0

  std::size_t values() const { return left.size() + right.size(); }
};

// A learned correction: y += gate_head * (silu(x hidden + hidden_bias) out + out_bias), x the K and then the V of each input
// layer, side by side.
struct ResidualNet {
  std::vector<int> inputs;  // source layers
  int n_hidden = 0;
  std::vector<float> hidden;       // [inputs * 2 * source kv_width][n_hidden]
  std::vector<float> hidden_bias;  // [n_hidden]
  std::vector<float> out;          // [n_hidden][target kv_width]
  std::vector<float> out_bias;     // [target kv_width]
  std::vector<float> gate;         // [target n_kv_heads]
};

// K or V of one target layer from the K's or V's of some source layers.
struct PlaneMap {
  std::vector<int> sources;  // layers, side by side in the input in this order
  bool same_head = false;    // each target head from its own source heads only
  // One matrix from all sources' rows; or, same_head, one for each target head, from source_heads() of each source.
  std::vector<MapMatrix> blocks;
  std::vector<float> bias;  // [target kv_width]
  double held_out_r2 = 0.0;
  std::optional<ResidualNet> net;
};

struct LayerMap {
  PlaneMap k;
  PlaneMap v;
};

// What a split was found to cost: layers below it the target's own, from it on mapped.
struct SplitFigures {
  int split = 0;
  std::uint32_t questions = 0;     // asked; 0: judged by kl alone
  std::uint32_t right = 0;         // with mapped KV
  std::uint32_t native_right = 0;  // with the target's own
  double kl = 0.0;                 // D(native || mapped) in nats a token, teacher-forced on held-out text

  // right / native_right; 1 where nothing was asked.
  double retained() const;
  bool operator==(const SplitFigures&) const = default;
};

struct GateLimits {
  double least_retained = 0.98;
  double most_kl = 0.1;
  bool operator==(const GateLimits&) const = default;
};

enum class GateState : std::uint8_t { kNotJudged = 0, kPassed = 1, kRefused = 2 };

// Whether a map may be used, and from which layer on.
struct Gate {
  GateState state = GateState::kNotJudged;
  int split = 0;  // where passed
  GateLimits limits;
  std::vector<SplitFigures> splits;
  bool operator==(const Gate&) const = default;
};
// The lowest split whose figures are within the limits; refused if there is none.
Gate judge_splits(std::vector<SplitFigures> splits, const GateLimits& limits);
std::string describe(const Gate& gate);  // one line

struct KvMap {
  MapModel source;
  MapModel target;
  MapPrecision precision = MapPrecision::kF32;
  double lambda = 0.0;
  std::vector<Hash256> calibration;  // of the documents it was fitted and chosen on; ascending
  Gate gate;
  std::vector<LayerMap> layers;  // of the target
  Hash256 id;                    // of everything above as stored: set by parse_map

  bool fused() const;  // has a residual network anywhere
};

// Source heads that one target head is made from: all of its group, or the one that its group shares. 0: counts that do not
// divide each other.
int source_heads(const MapModel& source, const MapModel& target);
int first_source_head(const MapModel& source, const MapModel& target, int target_head);

// kInvalid, naming what does not fit. Everything that takes a KvMap takes only those for which this holds.
Status check_map(const KvMap& map);
// Bytes of the map's matrices and multiplications for one token, over layers [first_layer, n).
struct MapCost {
  std::uint64_t bytes = 0;
  std::uint64_t products = 0;
};
MapCost map_cost(const KvMap& map, int first_layer);
std::string describe(const KvMap& map);  // one line: its size, what applying it costs, its gate

// check_map() holds. The result of parse_map() on these bytes is what was stored: rounded where `precision` rounds.
Result<Bytes> encode_map(const KvMap& map);
// kInvalid naming the field; kMismatch for contents that do not have the hash at the end.
Result<KvMap> parse_map(ByteView bytes);

// Puts the networks of a file as tools/align-train writes it into `map`, in place of those it had; the map is then not
// judged. kInvalid naming what does not fit.
Status fuse(ByteView networks, KvMap& map);

// The file's name before every error.
Result<KvMap> read_map(const std::filesystem::path& path);
// Gives what read_map would.
Result<KvMap> write_map(const std::filesystem::path& path, const KvMap& map);

}  // namespace celslm
