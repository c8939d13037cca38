// Weights as our kernels read them, kept in a file, so that the next start maps them instead of packing them again.
//
// The file holds the panels of all packed matrices of one model, in the order of the model's files, each at a multiple of
// kPanelAlignment, behind a head of that size. It is used only if it was made from the very weights at hand and is what was
// written. It is a cache: whatever fails costs time only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <future>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "core/bytes.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/result.h"

namespace celslm {

inline constexpr std::size_t kPanelAlignment = 4096;  // a page
inline constexpr std::size_t kMostPanelFiles = 4;     // in a folder; the least recently used go

// The file for a model whose headers (metadata, and tensors' names, types and shapes) have this hash.
std::filesystem::path panel_file(const std::filesystem::path& folder, const Hash256& headers);

// An earlier start's file. Used by one thread; views of its panels may be used by any.
class CachedPanels {
 public:
  // sizes: bytes of each matrix's panels. Null where there is no such file. Begins to check what is in it on a thread of its
  // own, where one can be had.
  static std::unique_ptr<CachedPanels> open(const std::filesystem::path& path, std::span<const std::size_t> sizes);

  // Waits for the check. Whether the panels were made from these weights and are what was written.
  bool hold(const Hash256& weights);
  ByteView panels(std::size_t matrix) const;  // of the sizes' index
  std::shared_ptr<const void> owner() const { return file_; }

 private:
  CachedPanels(std::shared_ptr<const MappedFile> file, std::span<const std::size_t> sizes);

  std::shared_ptr<const MappedFile> file_;
  std::vector<std::size_t> offsets_;  // one more than matrices
  std::vector<std::size_t> sizes_;
  std::shared_future<Hash256> body_;
};

// Writes the file, all or nothing, and removes the folder's other files where they are too many. kCancelled when stopped.
Status write_panels(const std::filesystem::path& path, const Hash256& weights, std::span<const ByteView> panels,
                    const std::stop_token& stop);

}  // namespace celslm
