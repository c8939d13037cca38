// The texts that are registered as shared, kept in a folder: one file per text, named by its handle.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "net/access/caller.h"
#include "serve/wire/context_list.h"
#include "serve/wire/protocol.h"

namespace celslm {

inline constexpr std::size_t kMaxContextNameBytes = 100;          // a list whose names alone would pass kMaxListBytes
inline constexpr std::uint64_t kMaxRegisteredBytes = 8ULL << 30;  // registrations that would fill the disk
inline constexpr std::size_t kMaxKeptChanges = 10'000;            // for edges that know an older list

struct RegisteredContext {
  ContextInfo info;
  std::string text;
};

// Names and sizes are held in memory, texts stay on disk and are read when asked for. What is registered survives a crash at
// any point: files are written completely or not at all. Thread-safe.
class ContextRegistry {
 public:
  // Creates the folder if needed and loads its files. A file that is damaged, or whose text does not match its name, is
  // moved aside (name.bad) and reported in the log. kIo for a folder that cannot be read or created.
  // max_kept_changes: for changes_since().
  static Result<std::unique_ptr<ContextRegistry>> open(const std::filesystem::path& folder, Log log,
                                                       std::size_t max_kept_changes = kMaxKeptChanges);

  // Whether put() would accept them if there is room: kInvalid if not.
  static Status check(std::string_view text, std::string_view name);

  // Registers a text for a tenant; registering it again changes nothing, not even its name. kInvalid: empty, over
  // kMaxContextBytes, not UTF-8, a name that is too long or holds control characters. kOverloaded: no room for another. kIo:
  // the file could not be written.
  Result<ContextInfo> put(std::string_view text, std::string_view name, std::string_view tenant = {});
  // kNotFound; kInvalid when the file was damaged since it was registered.
  Result<RegisteredContext> find(const ContextHandle& handle) const;
  bool contains(const ContextHandle& handle) const;
  // The same as for a handle of nothing where it is another tenant's than the caller may see.
  bool contains(const ContextHandle& handle, const Caller& caller) const;
  std::vector<ContextInfo> list() const;  // by handle
  // Names the list as it is now. Another one after every change, and after every start of the cloud: what else it offers may
  // have changed with that.
  std::string revision() const;
  // What changed since a revision; the complete list if that is not one of this registry's, or too old.
  ContextList changes_since(std::string_view revision) const;
  // `changed` is called after every change, on the thread that made it, without locks. Set it before the registry is shared.
  void on_change(std::function<void()> changed) { on_change_ = std::move(changed); }
  Status remove(const ContextHandle& handle);
  std::size_t size() const;

 private:
  ContextRegistry(std::filesystem::path folder, Log log, std::size_t max_kept_changes);
  std::filesystem::path path_of(const ContextHandle& handle) const;
  Status load();
  void load_file(const std::filesystem::path& path);
  std::string revision_now() const CELSLM_REQUIRES(mutex_);
  // The number of a revision whose changes are still known.
  std::optional<std::uint64_t> known_number(std::string_view revision) const CELSLM_REQUIRES(mutex_);
  void count_change(const ContextHandle& handle) CELSLM_REQUIRES(mutex_);
  // Whether it was not registered yet; if it was, info becomes that registration.
  Result<bool> insert(ContextInfo& info, std::string_view text);
  Status erase(const ContextHandle& handle);

  const std::filesystem::path folder_;
  const Log log_;
  const std::size_t max_kept_changes_;
  const std::string run_;  // drawn at each start
  std::function<void()> on_change_;
  mutable Mutex mutex_;
  std::map<ContextHandle, ContextInfo> contexts_ CELSLM_GUARDED_BY(mutex_);
  std::uint64_t bytes_ CELSLM_GUARDED_BY(mutex_) = 0;  // of all texts
  std::uint64_t n_changes_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::deque<ContextHandle> changes_ CELSLM_GUARDED_BY(mutex_);  // what the last of them were about, in order
};

}  // namespace celslm
