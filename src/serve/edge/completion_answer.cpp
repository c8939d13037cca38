#include "serve/edge/completion_answer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "serve/edge/response_extension.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

// Prompts count once however many texts go on from them.
Usage total(const std::vector<GenerationPiece>& ends, int n) {
  Usage out;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    out.completion_tokens += ends[i].usage.completion_tokens;
    if (i % static_cast<std::size_t>(n) != 0) continue;
    out.prompt_tokens += ends[i].usage.prompt_tokens;
    out.cached_tokens += ends[i].usage.cached_tokens;
  }
  return out;
}

}  // namespace

CompletionAnswer::CompletionAnswer(const CompletionParts& parts, BegunCompletion begun)
    : AnswerFollower(begun.texts, parts.loop, parts.writers),
      parts_(parts),
      begun_(std::move(begun)),
      out_(begun_.request, parts.model_name, begun_.unique, begun_.created_unix_s),
      left_(begun_.texts.size()) {
  states_.reserve(left_);
  for (std::size_t i = 0; i < left_; ++i)
    states_.push_back({.parser = begun_.prepared.parser(), .answer = {}, .tokens = {}, .confidence = {}, .last = {}});
}

void CompletionAnswer::measure(GenerationPiece& piece) {
  text_of(piece).confidence.add(piece.tokens);
  if (!begun_.request.logprobs) piece.tokens.clear();
  keep_top(piece.tokens, begun_.request.top_logprobs);
  keep_top(piece.prompt_tokens, begun_.request.top_logprobs);
}

bool CompletionAnswer::note_end(GenerationPiece piece) {
  parts_.metrics.finished(text(piece.choice).request, piece.usage, piece.times);
  text_of(piece).last = std::move(piece);
  return --left_ == 0;
}

std::vector<GenerationPiece> CompletionAnswer::ends() const {
  std::vector<GenerationPiece> out;
  out.reserve(states_.size());
  for (const Text& text : states_) out.push_back(*text.last);
  return out;
}

nlohmann::json CompletionAnswer::extension() const {
  nlohmann::json out =
      response_extension(texts().front()->request, *states_.front().last, parts_.engine, parts_.directory.cloud_trouble());
  if (begun_.request.confidence) out["confidence"] = to_json(states_.front().confidence.value());
  out.update(begun_.notes);
  return out;
}

// --- complete ----------------------------------------------------------------------------------------------------------

void CompleteAnswer::begin(std::shared_ptr<HttpReply> reply) {
  reply_ = std::move(reply);
  for (std::size_t i = 0; i < states_.size(); ++i) states_[i].answer.content = echo(static_cast<int>(i));
  reply_->on_gone([self = shared_from_this()] { self->cancel(); });
  follow();
}

bool CompleteAnswer::take(GenerationPiece piece) {
  if (piece.error) {
    reply_->send(completion_refusal(*piece.error));
    return false;
  }
  measure(piece);
  Text& text = text_of(piece);
  text.answer.add(text.parser.add(piece.text), begun_.unique);
  std::ranges::move(piece.prompt_tokens, std::back_inserter(text.tokens));
  std::ranges::move(piece.tokens, std::back_inserter(text.tokens));
  if (!piece.finish) return true;
  text.answer.add(text.parser.flush(), begun_.unique);
  if (!note_end(std::move(piece))) return true;
  reply_->send(response());
  return false;
}

HttpResponse CompleteAnswer::response() const {
  nlohmann::json choices = nlohmann::json::array();
  for (const Text& text : states_) {
    if (*text.last->finish == FinishReason::kCancelled)
      return error_response(ApiError::kCancelled, "the client disconnected");
    choices.push_back(out_.choice(text.last->choice, text.answer, text.tokens, *text.last->finish));
  }
  return json_response(out_.response(std::move(choices), total(ends(), begun_.request.n), extension()));
}

// --- streamed ----------------------------------------------------------------------------------------------------------

void StreamedAnswer::begin(std::shared_ptr<BodyWriter> body) {
  body_ = std::move(body);
  body_->on_change([self = std::static_pointer_cast<StreamedAnswer>(shared_from_this())] {
    if (self->body_->gone()) self->cancel();
  });
  if (!begin_texts()) cancel();
  follow();
}

bool StreamedAnswer::begin_texts() {
  const bool with_tokens = texts().front()->request.prompt_logprobs;  // then the echo and they come together
  for (int i = 0; i < static_cast<int>(states_.size()); ++i) {
    if (begun_.request.chat && !body_->push(out_.first_event(i))) return false;
    if (!echo(i).empty() && !with_tokens && !body_->push(out_.delta_event(echo_delta(i), {}, i))) return false;
  }
  return true;
}

bool StreamedAnswer::fail(const Error& error) {
  body_->push(CompletionWriter::error_event(error));
  body_->push(CompletionWriter::done_event());
  body_->end();
  return false;
}

bool StreamedAnswer::take(GenerationPiece piece) {
  if (piece.error) return fail(*piece.error);
  const int i = piece.choice;
  if (!piece.prompt_tokens.empty()) body_->push(out_.delta_event(echo_delta(i), piece.prompt_tokens, i));
  measure(piece);
  Text& text = text_of(piece);
  AnswerDelta delta = text.parser.add(piece.text);
  if (piece.finish) delta.add(text.parser.flush());
  const bool has_content = !delta.empty() || !piece.tokens.empty();
  if (has_content && !body_->push(out_.delta_event(delta, piece.tokens, i))) {
    body_->abort();
    return false;
  }
  if (!piece.finish) return true;
  const FinishReason reason = *piece.finish;
  const bool last = note_end(std::move(piece));
  if (reason == FinishReason::kCancelled) {
    body_->abort();
    return false;
  }
  if (last) return end(*text.last);
  return body_->push(out_.last_event(reason, nullptr, i));
}

bool StreamedAnswer::end(const GenerationPiece& last) {
  body_->push(out_.last_event(*last.finish, extension(), last.choice));
  if (begun_.request.include_usage) body_->push(out_.usage_event(total(ends(), begun_.request.n)));
  body_->push(CompletionWriter::done_event());
  body_->end();
  return false;
}

}  // namespace celslm
