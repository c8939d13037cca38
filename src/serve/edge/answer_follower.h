// Takes the pieces of an answer as they come, without a thread that waits for them.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/worker_pool.h"
#include "serve/batch/batch_loop.h"

namespace celslm {

// One answer under way; kept alive by what it waits for. Its pieces are taken one at a time on a thread of `writers`, which
// has one thread, so that they stay in order.
class AnswerFollower : public std::enable_shared_from_this<AnswerFollower> {
 public:
  // texts: at least one, of one answer. The pool and the loop must outlive the answer.
  AnswerFollower(std::vector<std::shared_ptr<Generation>> texts, BatchLoop& loop, WorkerPool& writers)
      : texts_(std::move(texts)), loop_(loop), writers_(writers) {}
  virtual ~AnswerFollower() = default;
  AnswerFollower(const AnswerFollower&) = delete;
  AnswerFollower& operator=(const AnswerFollower&) = delete;

  // Frees the places of all texts. Thread-safe.
  void cancel() const;

 protected:
  // Begins to call take(). Once.
  void follow();
  // False: no further piece is of interest; texts that have not ended are cancelled.
  virtual bool take(GenerationPiece piece) = 0;

  const std::vector<std::shared_ptr<Generation>>& texts() const { return texts_; }
  const Generation& text(int choice) const { return *texts_[static_cast<std::size_t>(choice)]; }

 private:
  void schedule();
  void take_all();

  const std::vector<std::shared_ptr<Generation>> texts_;
  BatchLoop& loop_;
  WorkerPool& writers_;
  std::atomic<bool> scheduled_{false};
  bool done_ = false;  // the writers' thread only
};

}  // namespace celslm
