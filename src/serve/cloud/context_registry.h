// The texts that are registered as shared, kept in a folder: one file per text, named by its handle.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "serve/wire/protocol.h"

namespace celslm {

inline constexpr std::size_t kMaxContextNameBytes = 100;          // a list whose names alone would pass kMaxListBytes
inline constexpr std::uint64_t kMaxRegisteredBytes = 8ULL << 30;  // registrations that would fill the disk

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
  static Result<std::unique_ptr<ContextRegistry>> open(const std::filesystem::path& folder, Log log);

  // Whether put() would accept them if there is room: kInvalid if not.
  static Status check(std::string_view text, std::string_view name);

  // Registers a text; registering it again changes nothing, not even its name. kInvalid: empty, over kMaxContextBytes, not
  // UTF-8, a name that is too long or holds control characters. kOverloaded: no room for another. kIo: the file could not be
  // written.
  Result<ContextInfo> put(std::string_view text, std::string_view name);
  // kNotFound; kInvalid when the file was damaged since it was registered.
  Result<RegisteredContext> find(const ContextHandle& handle) const;
  bool contains(const ContextHandle& handle) const;
  std::vector<ContextInfo> list() const;  // by handle
  Status remove(const ContextHandle& handle);
  std::size_t size() const;

 private:
  ContextRegistry(std::filesystem::path folder, Log log) : folder_(std::move(folder)), log_(std::move(log)) {}
  std::filesystem::path path_of(const ContextHandle& handle) const;
  Status load();
  void load_file(const std::filesystem::path& path);

  const std::filesystem::path folder_;
  const Log log_;
  mutable Mutex mutex_;
  std::map<ContextHandle, ContextInfo> contexts_ CELSLM_GUARDED_BY(mutex_);
  std::uint64_t bytes_ CELSLM_GUARDED_BY(mutex_) = 0;  // of all texts
};

}  // namespace celslm
