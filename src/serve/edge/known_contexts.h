// What an edge remembers on disk of its cloud's contexts, so that it can serve them when it starts without the cloud.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "serve/wire/context_list.h"
#include "serve/wire/protocol.h"

namespace celslm {

// A folder: list.json holds the registered contexts as of the last refresh, <handle>.txt a text that was asked for by its
// handle. Files are written completely or not at all; what is damaged counts as absent. A disk that fails costs the memory
// of a restart and nothing else. Used under the owner's lock.
class KnownContexts {
 public:
  explicit KnownContexts(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // The list of the last save(), complete; empty if there was none or it cannot be read.
  ContextList load() const;
  // Remembers this list, which must be complete, from now on, and forgets the texts of others.
  void save(ContextList list);

  std::optional<std::string> text(const ContextHandle& handle, const std::string& tenant) const;
  void keep_text(const ContextHandle& handle, std::string_view text);

 private:
  std::filesystem::path path_of(const ContextHandle& handle) const { return folder_ / (handle.hex() + ".txt"); }
  void forget_texts_except(const std::vector<ContextInfo>& sorted) const;

  const std::filesystem::path folder_;
  std::string saved_;  // content of list.json, so that it is written when it changes only
};

}  // namespace celslm
