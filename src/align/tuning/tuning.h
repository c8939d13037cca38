// A tuning: the constants that are added to a context's KV (model/kv/kv_tuning.h), what they are for, and whether they may
// be served. docs/tuning-format.md defines the file format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/result.h"
#include "kv/pack/signing.h"
#include "model/config.h"
#include "model/kv/kv_tuning.h"

namespace celslm {

// Limits on a file, checked before anything is allocated. Each comment names what the limit prevents.
inline constexpr std::uint64_t kMaxTuningBytes = 64U << 20;  // a hundred layers with KV of 65,536 values fit
inline constexpr std::size_t kMaxTuningLayers = 512;         // shapes that no model has
inline constexpr std::size_t kMaxTuningWidth = 1U << 16;     // the same
inline constexpr std::size_t kMaxTeacherBytes = 256;         // megabytes of text in logs and answers
inline constexpr std::size_t kMaxCorpusBytes = 4096;         // the same
inline constexpr std::size_t kMaxGateBytes = 64U << 10;      // the same

// The format's version that this program reads and writes.
inline constexpr std::uint32_t kTuningVersion = 1;

struct TuningSignature {
  PublicKey signer;
  Signature bytes{};
};

struct Tuning {
  Hash256 model;                             // ModelFingerprint::id() of the model whose KV is tuned
  std::string teacher;                       // name of the model that it was trained against
  Hash256 teacher_id;                        // its id; zero: not recorded
  std::string corpus;                        // what it was trained on, in words
  std::string gate;                          // JSON, see gate.h; empty: not judged
  KvTuning constants;                        // constants.id is tuning_id()
  std::optional<TuningSignature> signature;  // null: not signed
};

// Hash of everything above but the signature, the gate included: a tuning that is judged again is another tuning.
Hash256 tuning_id(const Tuning& tuning);
// The id that it has, or had, before it was judged: what a gate is about.
Hash256 unjudged_id(Tuning tuning);

// Checks texts, shapes and values. kInvalid, naming the field.
Status check_tuning(const Tuning& tuning);
// kMismatch unless the tuning is for this model.
Status check_model(const Tuning& tuning, const ModelFingerprint& model);

// Sets the id, and the signature over it.
void sign_tuning(Tuning& tuning, const SigningKey& key);

// Requires check_tuning(). The id is not in the file: who reads it computes it.
Bytes encode_tuning(const Tuning& tuning);
// Safe for untrusted input. kInvalid, naming the field; kMismatch for a signature that is not the signer's over the id.
Result<Tuning> parse_tuning(ByteView file);

// Errors of parse_tuning() and kNotFound, kIo; all begin with the file's name.
Result<Tuning> read_tuning(const std::filesystem::path& path);
// Writes atomically.
Status write_tuning(const std::filesystem::path& path, const Tuning& tuning);

}  // namespace celslm
