// Ways by which the blocks of one pack come to an edge: its disk, a neighbour, a cloud. A new way is written by implementing
// this.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

#include "core/result.h"
#include "kv/pack/pack.h"
#include "plan/source_state.h"
#include "serve/context/resident_context.h"

namespace celslm {

// One source of one pack. open() is called once, by a thread of its own; read() by several threads, once blocks have been
// announced.
class BlockSource {
 public:
  virtual ~BlockSource() = default;

  virtual Source kind() const = 0;
  virtual std::string name() const = 0;     // what is measured of it is kept under this name
  virtual SourceTraits traits() const = 0;  // without an estimate

  // Entries of blocks that can be read from now on, in any order, each once; their signatures have been checked.
  using Announce = std::function<void(int first, std::span<const BlockEntry> entries)>;
  struct Reader {
    std::function<void(std::size_t bytes)> arrived;  // more bytes are here, of whichever block
    // The next block's bytes, whole but not checked; false ends the reading with kCancelled.
    std::function<bool(ByteView bytes)> block;
  };

  // Blocks [first, first + count) to be read together with the header, so that they cost no round trip of their own.
  struct Opening {
    int first = 0;
    int count = 0;
    Reader reader;
    std::function<void(const Status&)> ended;  // called once, as soon as nothing more of them will come
    std::stop_token stop;                      // ends this reading and nothing else
  };
  // Finds the pack and announces its blocks, as they come where it is still being computed. Ends without error only after
  // the last one. Of `opening`, which may be null, it reads what it can, once these blocks are announced.
  virtual Status open(const Announce& announce, const Opening* opening, std::stop_token stop) = 0;

  // Reads adjacent blocks, in order. kUnavailable: may do next time. kCancelled. Others: what it said makes no sense.
  virtual Status read(std::span<const BlockEntry> entries, const Reader& reader, std::stop_token stop) = 0;

  // The pack's signed header, once open() has ended well. kUnavailable if it cannot be had now.
  virtual Result<Bytes> header(std::stop_token stop) = 0;
};

}  // namespace celslm
