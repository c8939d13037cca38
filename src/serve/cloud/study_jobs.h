// Self-study of registered contexts, in the background: a hosted model asks itself about each of them (docs/study.md).
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <thread>

#include "align/study/journal.h"
#include "align/study/progress.h"
#include "align/study/self_study.h"
#include "align/study/turns.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "serve/cloud/cloud_metrics.h"
#include "serve/cloud/context_registry.h"
#include "serve/cloud/pack_jobs.h"

namespace celslm {

// How a cloud studies.
struct StudyingOptions {
  StudyOptions study;      // of each context
  Hash256 model;           // fingerprint of the model that asks and answers
  std::string model_name;  // for people
  // That model, behind this system message. Called on the studying thread only, which runs at the lowest priority: threads
  // that are started there inherit that.
  std::function<Result<std::unique_ptr<StudyModel>>(const std::string& system)> open;
};

// One thread studies one context after the other, in the order of handles, a pass of the model at a time, and none while a
// pack is computed or waits for that. What it has is on disk after every round, beside the registered text: HANDLE.study is
// the state of a study under way, HANDLE.study.jsonl one that is finished. A study that fails is logged and not tried again
// before the next start. Thread-safe.
class StudyJobs {
 public:
  // All of these outlive this. folder: that of the registry. Files of contexts that are not registered are removed.
  StudyJobs(StudyingOptions options, const ContextRegistry& contexts, PackJobs& packs, CloudMetrics& metrics,
            std::filesystem::path folder, Log log);
  ~StudyJobs();  // stop()
  StudyJobs(const StudyJobs&) = delete;
  StudyJobs& operator=(const StudyJobs&) = delete;

  void start();
  void stop();  // soon: after the pass under way. Idempotent
  // Contexts or packs have changed.
  void wake();

  // "waiting", "running", "finished" or "failed", and what is known of it. handle: registered.
  nlohmann::json state(const ContextHandle& handle) const;
  // A finished study, as a file of questions with one line. kNotFound.
  Result<std::string> file(const ContextHandle& handle) const;
  // The context was removed: its study goes, too.
  void forget(const ContextHandle& handle);

 private:
  struct Shown {
    const char* state = "waiting";
    std::size_t questions = 0;
    std::int64_t tokens = 0;
    std::string error;
  };

  void work(std::stop_token stop);
  std::optional<ContextHandle> next_context() const;
  Status study(const ContextHandle& handle, const std::stop_token& stop);
  Status run(const ContextHandle& handle, SelfStudy& study, StudyJournal& journal, const std::stop_token& stop);
  bool wait_for_turn(const std::stop_token& stop);
  void show(const ContextHandle& handle, Shown shown);
  void remove_orphans() const;
  std::filesystem::path state_path(const ContextHandle& handle) const;
  std::filesystem::path file_path(const ContextHandle& handle) const;

  const StudyingOptions options_;
  const ContextRegistry& contexts_;
  PackJobs& packs_;
  CloudMetrics& metrics_;
  const std::filesystem::path folder_;
  const Log log_;

  mutable Mutex mutex_;
  ConditionVariable changed_;
  std::uint64_t changes_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::map<ContextHandle, Shown> shown_ CELSLM_GUARDED_BY(mutex_);  // those begun since the start
  std::jthread thread_;
};

}  // namespace celslm
