#include "serve/cloud/study_jobs.h"

#include <sys/resource.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/json.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uint64_t kMaxStudyBytes = 1ULL << 30;
constexpr std::string_view kStateSuffix = ".study";
constexpr std::string_view kFileSuffix = ".study.jsonl";
constexpr int kLowestPriority = 19;

// Of the calling thread alone, as Linux has it.
void give_others_way() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kLowestPriority);
}

// The study of a text that was registered as the complete system message.
StudyText text_of(const RegisteredContext& context) {
  StudyText out{.id = context.info.handle.hex(), .text = context.text, .system = context.text};
  if (context.text.starts_with(kTextSystem)) {
    out.text = context.text.substr(kTextSystem.size());
    out.system.clear();
  }
  return out;
}

}  // namespace

StudyJobs::StudyJobs(StudyingOptions options, const ContextRegistry& contexts, PackJobs& packs, CloudMetrics& metrics,
                     fs::path folder, Log log)
    : options_(std::move(options)),
      contexts_(contexts),
      packs_(packs),
      metrics_(metrics),
      folder_(std::move(folder)),
      log_(std::move(log)) {
  remove_orphans();
}

StudyJobs::~StudyJobs() {
  stop();
}

void StudyJobs::start() {
  thread_ = std::jthread([this](std::stop_token stop) { work(std::move(stop)); });
}

void StudyJobs::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void StudyJobs::wake() {
  const MutexLock lock(mutex_);
  ++changes_;
  changed_.notify_all();
}

fs::path StudyJobs::state_path(const ContextHandle& handle) const {
  return folder_ / (handle.hex() + std::string(kStateSuffix));
}

fs::path StudyJobs::file_path(const ContextHandle& handle) const {
  return folder_ / (handle.hex() + std::string(kFileSuffix));
}

void StudyJobs::remove_orphans() const {
  std::error_code error;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.ends_with(kStateSuffix) && !name.ends_with(kFileSuffix)) continue;
    const auto handle = Hash256::from_hex(name.substr(0, name.find('.')));
    std::error_code ignored;
    if (handle && !contexts_.contains(*handle)) fs::remove(it->path(), ignored);
  }
}

std::optional<ContextHandle> StudyJobs::next_context() const {
  for (const ContextInfo& info : contexts_.list()) {
    std::error_code ignored;
    if (fs::exists(file_path(info.handle), ignored)) continue;
    const MutexLock lock(mutex_);
    const auto it = shown_.find(info.handle);
    if (it == shown_.end() || it->second.error.empty()) return info.handle;
  }
  return {};
}

void StudyJobs::work(std::stop_token stop) {
  give_others_way();
  while (!stop.stop_requested()) {
    std::uint64_t seen = 0;
    {
      const MutexLock lock(mutex_);
      seen = changes_;
    }
    if (const auto handle = next_context()) {
      if (const Status status = study(*handle, stop); !status && contexts_.contains(*handle)) {
        log_->warn("no study of context {}: {}", handle->hex().substr(0, 12), status.error().message);
        metrics_.studied(options_.model_name, "failed");
        show(*handle, {.state = "failed", .error = status.error().message});
      }
      continue;
    }
    const MutexLock lock(mutex_);
    changed_.wait(mutex_, stop, [&]() CELSLM_REQUIRES(mutex_) { return changes_ != seen; });
  }
}

// False once a stop is requested.
bool StudyJobs::wait_for_turn(const std::stop_token& stop) {
  const MutexLock lock(mutex_);
  return changed_.wait(mutex_, stop, [&] { return packs_.idle(); }) && !stop.stop_requested();
}

Status StudyJobs::study(const ContextHandle& handle, const std::stop_token& stop) {
  CELSLM_TRY(const RegisteredContext context, contexts_.find(handle));
  const StudyText text = text_of(context);
  CELSLM_TRY(StudyJournal journal,
             StudyJournal::open(state_path(handle),
                                {.model = options_.model, .system = hash_of(context.text), .options = options_.study}));
  if (!journal.problem().empty()) log_->warn("{}", journal.problem());
  show(handle, {.state = "running", .questions = journal.progress().questions.size(), .tokens = journal.progress().tokens});
  CELSLM_TRY(const auto model, options_.open(context.text));
  SelfStudy study(*model, text.text, options_.study, journal.progress());
  CELSLM_CHECK_OK(run(handle, study, journal, stop));
  if (!contexts_.contains(handle)) {
    forget(handle);
    return {};
  }
  const StudyProgress& progress = study.progress();
  if (!progress.finished) return {};
  CELSLM_CHECK_OK(
      write_file_atomically(file_path(handle), as_bytes(study_line(text, progress, options_.study, options_.model) + "\n")));
  CELSLM_CHECK_OK(journal.remove());
  metrics_.studied(options_.model_name, "finished");
  log_->info("studied context {}: {} questions kept of {} written, {} tokens", handle.hex().substr(0, 12),
             progress.questions.size(), progress.written, progress.tokens);
  show(handle, {.state = "finished", .questions = progress.questions.size(), .tokens = progress.tokens});
  if (!contexts_.contains(handle)) forget(handle);  // removed in between
  return {};
}

// Until it is finished, or not to go on.
Status StudyJobs::run(const ContextHandle& handle, SelfStudy& study, StudyJournal& journal, const std::stop_token& stop) {
  while (!study.progress().finished && contexts_.contains(handle) && wait_for_turn(stop)) {
    CELSLM_TRY(const auto round, study.advance());
    if (!round) continue;
    CELSLM_CHECK_OK(journal.append(*round));
    const StudyProgress& progress = study.progress();
    metrics_.study_round(options_.model_name, round->tokens, round->questions.size());
    show(handle, {.state = "running", .questions = progress.questions.size(), .tokens = progress.tokens});
  }
  return {};
}

void StudyJobs::show(const ContextHandle& handle, Shown shown) {
  const MutexLock lock(mutex_);
  shown_[handle] = std::move(shown);
}

json StudyJobs::state(const ContextHandle& handle) const {
  Shown shown;
  {
    const MutexLock lock(mutex_);
    if (const auto it = shown_.find(handle); it != shown_.end()) shown = it->second;
  }
  json out{
      {"state", shown.state}, {"questions", shown.questions}, {"tokens", shown.tokens}, {"model", options_.model.hex()}};
  if (!shown.error.empty()) out["error"] = without_paths(shown.error);
  if (std::string_view(shown.state) != "waiting") return out;
  // Finished before this process began, perhaps by another model.
  const auto text = file(handle);
  const auto line = text ? parse_object(*text, {.values = 1 << 26}) : Result<json>(std::unexpected(text.error()));
  if (!line || !line->contains("study")) return out;
  const json& study = (*line)["study"];
  return {{"state", "finished"},
          {"questions", (*line)["questions"].size()},
          {"tokens", study.value("tokens", 0)},
          {"model", study.value("model", "")}};
}

Result<std::string> StudyJobs::file(const ContextHandle& handle) const {
  CELSLM_TRY(const Bytes bytes, read_file(file_path(handle), kMaxStudyBytes));
  return std::string(as_text(bytes));
}

void StudyJobs::forget(const ContextHandle& handle) {
  std::error_code ignored;
  fs::remove(state_path(handle), ignored);
  fs::remove(file_path(handle), ignored);
  const MutexLock lock(mutex_);
  shown_.erase(handle);
}

}  // namespace celslm
