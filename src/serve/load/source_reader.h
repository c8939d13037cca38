// One source of a load: what workers do with it.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>

#include "serve/load/block_sink.h"
#include "serve/load/block_source.h"
#include "serve/load/load_state.h"

namespace celslm {

// open() runs once, read() on several threads; neither throws: what fails, memory included, is reported to the state. State
// and sink must outlive this.
class SourceReader {
 public:
  SourceReader(std::unique_ptr<BlockSource> source, SourceId id, LoadState& state, BlockSink& sink)
      : source_(std::move(source)), id_(id), state_(state), sink_(sink) {}

  void open(std::optional<ActiveTransfer> early);
  void read(ActiveTransfer transfer);
  void cancel_opening() { opening_.request_stop(); }
  Result<Bytes> header(std::stop_token stop);
  // Once nothing of it is under way.
  void close() { source_.reset(); }

  SourceId id() const { return id_; }

 private:
  BlockSource::Reader reader(ActiveTransfer& transfer);
  bool take_block(ActiveTransfer& transfer, Bytes bytes);
  void end(const ActiveTransfer& transfer, const Status& read);

  std::unique_ptr<BlockSource> source_;
  const SourceId id_;
  LoadState& state_;
  BlockSink& sink_;
  std::stop_source opening_;
};

}  // namespace celslm
