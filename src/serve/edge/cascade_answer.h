// An answer of the small model that is looked at before its client gets it.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "net/http_stream.h"
#include "serve/edge/answer_follower.h"
#include "serve/edge/completions.h"
#include "serve/route/cascade_rule.h"

namespace celslm {

// Whether a request can be judged: it asks for one text.
bool can_be_judged(const CompletionRequest& request);

// Begins it as Completions would, with what the rule needs to know of it.
std::variant<BegunCompletion, HttpResponse> begin_judged(Completions& completions, CompletionRequest request,
                                                         const HttpRequest& http, const CascadeRule& rule);

// Waits for the end of the small model's answer. Then it is given to the client, complete or as a stream, if the rule keeps
// it; otherwise the large model is asked, and the small one's answer is given if that fails.
class CascadeAnswer final : public AnswerFollower {
 public:
  // Asks the large model; keep: the small one's answer, with notes about why that was kept.
  using HandOver = std::function<HttpResponse(nlohmann::json notes, std::function<HttpResponse(nlohmann::json)> keep)>;
  CascadeAnswer(Completions& completions, BegunCompletion begun, CascadeRule rule, HandOver hand_over);
  void begin(std::shared_ptr<HttpReply> reply);

 private:
  bool take(GenerationPiece piece) override;
  bool decide();
  nlohmann::json judgement(const Confidence& confidence, const char* by) const;
  static HttpResponse replay(Completions& completions, BegunCompletion begun, const std::vector<GenerationPiece>& pieces,
                             nlohmann::json cascade);

  Completions& completions_;
  const BegunCompletion begun_;
  const CascadeRule rule_;
  const HandOver hand_over_;
  std::shared_ptr<HttpReply> reply_;
  std::vector<GenerationPiece> pieces_;  // of the answer; the rest is of the second one
  ConfidenceMeter meter_;
  std::string text_;
  std::string second_text_;
  std::size_t left_;
};

}  // namespace celslm
