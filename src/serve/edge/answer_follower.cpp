#include "serve/edge/answer_follower.h"

#include <utility>

namespace celslm {

void AnswerFollower::cancel() const {
  for (const auto& text : texts_) text->cancel();
  loop_.wake();
}

void AnswerFollower::follow() {
  texts_.front()->on_piece([self = shared_from_this()] { self->schedule(); });
}

void AnswerFollower::schedule() {
  if (scheduled_.exchange(true)) return;
  writers_.run([self = shared_from_this()] {
    self->scheduled_ = false;
    self->take_all();
  });
}

void AnswerFollower::take_all() {
  while (!done_) {
    auto piece = texts_.front()->take(Duration::zero());
    if (!piece) return;
    done_ = !take(*std::move(piece));
  }
  texts_.front()->on_piece({});
  cancel();
}

}  // namespace celslm
