// What questions about a context can be asked behind: nothing, or KV of its own, of a codec, of a large model.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "align/map/kv_map.h"
#include "align/tuning/tuning.h"
#include "bench/cpp/condensed_reads.h"
#include "bench/cpp/kv_treatments.h"
#include "bench/cpp/quality_tasks.h"
#include "bench/cpp/support.h"

namespace celslm {

struct QualityOptions : ProgramOptions {
  std::string cloud_model;         // empty: none
  std::string map;                 // empty: none
  std::string tuning;              // empty: none
  std::string own_teacher_tuning;  // empty: none
  std::string studied;             // folder of studied contexts, named <context handle>.gguf; empty: none
  std::string tasks;
  int limit = 24;  // tokens of a reply
  bool count = false;
};

struct ReadKv {
  Engine* engine = nullptr;                  // that answers
  const QualityPrompts* prompts = nullptr;   // in its tokens
  std::shared_ptr<const KvSegment> segment;  // null: none
  double seconds = 0.0;                      // until it was there
  std::optional<double> bits;                // its size on the wire; absent where there is none
};

// The models, and the KV of one context at a time. Used by one thread.
class QualityReads {
 public:
  // Errors of Model::load, read_map, check_models, check_gate, read_tuning and check_model; kInvalid for a map without a
  // large model.
  static Result<std::unique_ptr<QualityReads>> create(const QualityOptions& options);

  const Model& edge() const { return *edge_.model; }
  const Model* cloud() const { return cloud_.model.get(); }  // null: none
  std::optional<Hash256> tuning() const { return tuning_; }  // unjudged_id() of --tuning
  Status check(const std::string& name) const;               // kInvalid, with the names there are

  // The context that read() is about from now on; it outlives what is read.
  Status begin(const QualityTask& task);
  // Valid until begin(). KV that several reads need is computed once. name: accepted by check().
  Result<ReadKv> read(const std::string& name);

 private:
  struct Side {
    std::shared_ptr<const Model> model;
    std::unique_ptr<Engine> engine;
  };
  // One context as one model computes it, once it is asked for.
  struct Computed {
    QualityPrompts prompts;
    std::optional<ExactKv> exact;
    double seconds = 0.0;
  };

  QualityReads();
  static Result<Side> open(const std::string& path, int threads);
  Status use_map(const std::string& path);
  Status use_tuning(const std::string& name, const std::string& path);
  static Status compute(Engine& engine, Computed& computed);
  Result<ReadKv> exact(Side& side, Computed& computed);
  Result<std::shared_ptr<KvSegment>> map_large();
  Result<std::shared_ptr<KvSegment>> tune(const KvTuning& tuning) const;  // own KV
  Result<std::shared_ptr<KvSegment>> studied() const;

  Side edge_;
  Side cloud_;  // empty: none
  std::optional<KvMap> map_;
  std::filesystem::path studied_folder_;     // empty: none
  std::map<std::string, KvTuning> tunings_;  // by the name under which they are read
  std::optional<Hash256> tuning_;
  std::map<std::string, Treatment> treatments_;
  const QualityTask* task_ = nullptr;
  std::optional<CondensedReads> condensed_;  // once the first is asked for
  QualityPrompts closed_;
  Computed own_;
  Computed large_;
};

}  // namespace celslm
