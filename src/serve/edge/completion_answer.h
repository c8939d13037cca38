// One answer to a request for text, from its generations to its bytes: complete, or as a stream of events.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "net/http_stream.h"
#include "serve/edge/answer_follower.h"
#include "serve/edge/completions.h"
#include "serve/edge/request_preparation.h"
#include "serve/openai/openai.h"
#include "serve/route/confidence.h"

namespace celslm {

class CompletionAnswer : public AnswerFollower {
 protected:
  CompletionAnswer(const CompletionParts& parts, BegunCompletion begun);

  // One text of the answer, as far as it has come.
  struct Text {
    AnswerParser parser;
    AnswerMessage answer;
    std::vector<TokenText> tokens;
    ConfidenceMeter confidence;
    std::optional<GenerationPiece> last;
  };
  const std::string& echo(int choice) const { return begun_.echoes[static_cast<std::size_t>(choice / begun_.request.n)]; }
  Text& text_of(const GenerationPiece& piece) { return states_[static_cast<std::size_t>(piece.choice)]; }
  void measure(GenerationPiece& piece);  // and leaves the tokens as the client wants them
  bool note_end(GenerationPiece piece);  // true: that was the last text
  std::vector<GenerationPiece> ends() const;
  nlohmann::json extension() const;

  const CompletionParts& parts_;
  const BegunCompletion begun_;
  CompletionWriter out_;
  std::vector<Text> states_;
  std::size_t left_;  // texts that have not ended
};

// A client that has closed its sending side counts as gone: a half-close looks the same, and nothing can be written to find
// out.
class CompleteAnswer final : public CompletionAnswer {
 public:
  CompleteAnswer(const CompletionParts& parts, BegunCompletion begun) : CompletionAnswer(parts, std::move(begun)) {}
  void begin(std::shared_ptr<HttpReply> reply);

 private:
  bool take(GenerationPiece piece) override;
  HttpResponse response() const;
  std::shared_ptr<HttpReply> reply_;
};

// A client counts as gone once what is written cannot reach it.
class StreamedAnswer final : public CompletionAnswer {
 public:
  StreamedAnswer(const CompletionParts& parts, BegunCompletion begun) : CompletionAnswer(parts, std::move(begun)) {}
  void begin(std::shared_ptr<BodyWriter> body);

 private:
  bool take(GenerationPiece piece) override;
  bool begin_texts();
  bool fail(const Error& error);
  bool end(const GenerationPiece& last);
  AnswerDelta echo_delta(int choice) const { return {.content = echo(choice), .reasoning = {}, .calls = {}}; }
  std::shared_ptr<BodyWriter> body_;
};

}  // namespace celslm
