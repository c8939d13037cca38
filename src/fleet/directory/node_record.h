// What a node tells the others of its fleet about itself. docs/fleet.md has the fields.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "core/result.h"

namespace celslm {

inline constexpr std::size_t kMaxRecordBytes = 8U << 10;  // of a record as JSON: a poisoned one must not fill memory
inline constexpr std::size_t kMaxRecordModels = 64;       // nor may its lists
inline constexpr std::size_t kMaxNodeIdBytes = 64;

enum class NodeRole { kCloud, kEdge };
const char* to_string(NodeRole role);

// Figures that are 0 are not known.
struct NodeRecord {
  std::string id;
  NodeRole role = NodeRole::kEdge;
  std::string url;                      // passes check_node_url()
  std::vector<Hash256> models;          // ids: an edge answers with its one model, a cloud has the KV of these
  int running = 0;                      // requests (cloud: packs) that are computed now
  int queued = 0;                       // and that wait
  int places = 0;                       // how many may run at the same time
  std::uint64_t free_memory_bytes = 0;  // of the node's ledger
  double prefill_tokens_per_s = 0;      // of a context of 1,000 tokens, measured
  double decode_tokens_per_s = 0;       // of one answer, measured
  double link_bytes_per_s = 0;          // from its cloud, measured
  std::string held;                     // revision of its list of packs (held_packs.h); empty: there is none

  bool operator==(const NodeRecord&) const = default;
};

// 1 to 64 of the characters A-Z a-z 0-9 . _ -: ids are parts of keys, and stand in logs.
bool is_node_id(std::string_view id);

std::string to_json_text(const NodeRecord& record);
// Fields that are not known are ignored: a newer node may write more. kInvalid, naming the field, for anything else that is
// not as documented.
Result<NodeRecord> parse_node_record(std::string_view text);

}  // namespace celslm
