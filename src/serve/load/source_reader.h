// The threads that read one source of a load.
#pragma once

#include <memory>
#include <stop_token>
#include <thread>
#include <vector>

#include "serve/load/block_sink.h"
#include "serve/load/block_source.h"
#include "serve/load/load_state.h"

namespace celslm {

// One thread opens the source, one for each of its transfers reads blocks. start(), request_stop() and join() are for one
// thread, the load's. State and sink must outlive this.
class SourceReader {
 public:
  SourceReader(std::unique_ptr<BlockSource> source, SourceId id, LoadState& state, BlockSink& sink)
      : source_(std::move(source)), id_(id), state_(state), sink_(sink) {}

  void start();
  bool started() const { return !threads_.empty(); }
  void request_stop();
  void join() { threads_.clear(); }

  SourceId id() const { return id_; }
  BlockSource& source() { return *source_; }

 private:
  void open(std::stop_token stop);
  void read_transfers(std::stop_token stop);
  BlockSource::Reader reader(ActiveTransfer& transfer);
  bool take_block(ActiveTransfer& transfer, ByteView bytes);
  void end(const ActiveTransfer& transfer, const Status& read, const std::stop_token& stop);

  const std::unique_ptr<BlockSource> source_;
  const SourceId id_;
  LoadState& state_;
  BlockSink& sink_;
  std::vector<std::jthread> threads_;
};

}  // namespace celslm
