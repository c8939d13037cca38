// Where an edge gets the blocks of one pack from: its disk, a neighbour, a cloud. A new kind of source implements this.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

#include "core/result.h"
#include "kv/pack/pack.h"
#include "plan/source_state.h"
#include "plan/transfer.h"
#include "serve/context/resident_context.h"

namespace celslm {

// One source of one pack. open() is called once, on a thread of its own; read() on several threads, once blocks have been
// announced.
class BlockSource {
 public:
  virtual ~BlockSource() = default;

  virtual Source kind() const = 0;
  virtual std::string name() const = 0;     // measurements of it are kept under this name
  virtual SourceTraits traits() const = 0;  // without an estimate

  // Entries of blocks that can be read from now on, in any order, each once; their signatures have been checked.
  using Announce = std::function<void(int first, std::span<const BlockEntry> entries)>;
  struct Reader {
    std::function<void(std::size_t bytes)> arrived;  // more bytes are here, of whichever block
    // All bytes of the next block, not checked yet; false ends the reading with kCancelled.
    std::function<bool(Bytes bytes)> block;
  };

  // Blocks to be read in the same request as the header, so that they cost no round trip of their own.
  struct EarlyRead {
    BlockRange blocks;
    Reader reader;
    std::function<void(const Status&)> ended;  // called once, as soon as no more of them will arrive
    std::stop_token stop;                      // ends this reading and nothing else
  };
  // Finds the pack and announces its blocks; where it is still being computed, as they are finished. Ends without error only
  // after the last one. Of `early`, which may be null, it reads what it can, once these blocks are announced.
  virtual Status open(const Announce& announce, const EarlyRead* early, std::stop_token stop) = 0;

  // Reads adjacent blocks, in order. kUnavailable: may succeed next time. kCancelled. Others: its answer makes no sense.
  virtual Status read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) = 0;

  // A block of it was not what was signed. Nothing more will be read.
  virtual void discard(const Error& /*why*/) {}

  // The pack's signed header, once open() has ended well. kUnavailable if it cannot be had now.
  virtual Result<Bytes> header(std::stop_token stop) = 0;
};

}  // namespace celslm
