#include "serve/openai/call_body.h"

#include <algorithm>
#include <utility>

#include "serve/openai/json_span.h"

namespace celslm {
namespace {

constexpr std::size_t kMaxNameBytes = 256;

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

// JSON: objects with name and arguments, alone, in a list or one after another, or Mistral's names before arguments.
class JsonBody final : public CallBody {
 public:
  JsonBody(std::string_view close, bool named) : close_(close), named_(named) {}

  Step add(char c, CallSink& sink) override {
    switch (state_) {
      case State::kStart: return start(c);
      case State::kName: return name(c, sink);
      case State::kHead: return head(c, sink);
      case State::kObject: return object(c, sink);
      case State::kArguments: return arguments(c, sink);
      case State::kTail: return tail(c, sink);
      case State::kBehind: return behind(c, sink);
      case State::kClose: return close(c, sink);
    }
    return Step::kRefuse;
  }

  // A call whose arguments ended early is one; what did not become a call is text.
  bool finish(CallSink&) override { return n_calls_ > 0 && state_ != State::kHead && state_ != State::kObject; }

 private:
  enum class State { kStart, kName, kHead, kObject, kArguments, kTail, kBehind, kClose };

  Step go(State state) {
    state_ = state;
    return Step::kMore;
  }
  Step no_call() const { return n_calls_ > 0 ? Step::kEnd : Step::kRefuse; }

  Step start(char c) {
    if (is_blank(c)) return Step::kMore;
    if (c == '[' && !in_list_ && n_calls_ == 0) {
      in_list_ = true;
      return Step::kMore;
    }
    if (c == '{') {
      text_ = c;
      return go(State::kHead);
    }
    if (!named_ || in_list_) return no_call();
    text_ = c;
    return go(State::kName);
  }

  // f[ARGS]{ or f[CALL_ID]id[ARGS]{ or f{
  Step name(char c, CallSink& sink) {
    if (c != '{') {
      text_ += c;
      return text_.size() <= kMaxNameBytes ? Step::kMore : no_call();
    }
    std::string_view name = std::string_view(text_).substr(0, text_.find('['));
    while (!name.empty() && is_blank(name.back())) name.remove_suffix(1);
    if (!sink.knows(name)) return no_call();
    begin(name, sink);
    has_outer_ = false;
    return arguments(c, sink);
  }

  void begin(std::string_view name, CallSink& sink) {
    sink.begin(name);
    ++n_calls_;
    span_ = JsonSpan();
    state_ = State::kArguments;
  }

  Step head(char c, CallSink& sink) {
    text_ += c;
    const CallHead head = read_call_head(text_);
    if (head.state == CallHead::State::kMore) return Step::kMore;
    if (head.state == CallHead::State::kFound) {
      if (!sink.knows(head.name)) return no_call();
      const std::string rest = text_.substr(head.arguments);
      begin(head.name, sink);
      has_outer_ = true;
      for (const char byte : rest) arguments(byte, sink);
      return Step::kMore;
    }
    span_ = JsonSpan();
    state_ = State::kObject;
    const std::string read = std::exchange(text_, {});
    Step step = Step::kMore;
    for (const char byte : read) step = object(byte, sink);  // a '}' could only be the last
    return step;
  }

  Step object(char c, CallSink& sink) {
    text_ += c;
    if (!span_.add(c)) return Step::kMore;
    const std::vector<ReadCall> calls = read_json_calls(text_);
    const bool known = std::ranges::all_of(calls, [&](const ReadCall& call) { return sink.knows(call.name); });
    if (calls.empty() || !known) return no_call();
    for (const ReadCall& call : calls) {
      sink.begin(call.name);
      sink.arguments(call.arguments);
      ++n_calls_;
    }
    return go(State::kBehind);
  }

  Step arguments(char c, CallSink& sink) {
    sink.arguments({&c, 1});
    if (!span_.add(c)) return Step::kMore;
    span_ = JsonSpan(1);
    return go(has_outer_ ? State::kTail : State::kBehind);
  }

  // The object's other fields mean nothing.
  Step tail(char c, CallSink& sink) {
    sink.commit();
    return span_.add(c) ? go(State::kBehind) : Step::kMore;
  }

  Step behind(char c, CallSink& sink) {
    if (is_blank(c)) return Step::kMore;
    if (c == ']' && in_list_) {
      in_list_ = false;
      sink.commit();
      return Step::kMore;
    }
    if (c == ',' || c == ';') {
      sink.commit();
      return go(State::kStart);
    }
    if (c == '{' && !named_) return start(c);
    n_closed_ = 0;
    return close(c, sink);
  }

  Step close(char c, CallSink& sink) {
    if (n_closed_ >= close_.size() || c != close_[n_closed_]) return Step::kEnd;
    if (++n_closed_ < close_.size()) return go(State::kClose);
    sink.commit();
    return Step::kEnd;
  }

  const std::string_view close_;
  const bool named_;
  State state_ = State::kStart;
  bool in_list_ = false;
  bool has_outer_ = true;  // arguments are within an object
  std::size_t n_calls_ = 0;
  std::size_t n_closed_ = 0;  // bytes of the closing word
  std::string text_;
  JsonSpan span_;
};

// Formats whose arguments are no JSON: a call is held back until it is complete.
class HeldBody final : public CallBody {
 public:
  HeldBody(ToolFormat format, std::string_view close) : format_(format), close_(close) {}

  Step add(char c, CallSink& sink) override {
    text_ += c;
    if (!text_.ends_with(close_)) return Step::kMore;
    text_.resize(text_.size() - close_.size());
    return deliver(sink) ? Step::kEnd : Step::kRefuse;
  }
  bool finish(CallSink& sink) override { return deliver(sink); }

 private:
  bool deliver(CallSink& sink) {
    const std::vector<ReadCall> calls = read(sink);
    const bool known = std::ranges::all_of(calls, [&](const ReadCall& call) { return sink.knows(call.name); });
    if (calls.empty() || !known) return false;
    for (const ReadCall& call : calls) {
      sink.begin(call.name);
      sink.arguments(call.arguments);
    }
    return true;
  }
  std::vector<ReadCall> read(const CallSink& sink) const {
    if (format_ == ToolFormat::kFunctionGemma) return read_gemma_call(text_, "<escape>");
    if (format_ == ToolFormat::kGemma4) return read_gemma_call(text_, "<|\"|>");
    return read_xml_calls(text_, sink);
  }

  const ToolFormat format_;
  const std::string_view close_;
  std::string text_;
};

}  // namespace

// Models also write JSON without the opening that they were trained on, and then at once or in a fence: that is a call, too,
// if it names a tool.
std::vector<Opening> openings_of(ToolFormat format) {
  constexpr Opening kObject{.word = "{", .close = {}, .only_first = true, .part_of_call = true};
  constexpr Opening kList{.word = "[", .close = {}, .only_first = true, .part_of_call = true};
  constexpr Opening kFence{.word = "```json", .close = "```", .only_first = true};
  constexpr Opening kTag{.word = "<tool_call>", .close = "</tool_call>"};
  switch (format) {
    case ToolFormat::kGeneric:
    case ToolFormat::kHermes: return {kTag, kFence, kObject};
    case ToolFormat::kQwenCoder: return {kTag};
    case ToolFormat::kLlama3: return {{.word = "<|python_tag|>", .close = {}}, kFence, kObject};
    case ToolFormat::kMistral:
    case ToolFormat::kMistralNamed: return {{.word = "[TOOL_CALLS]", .close = {}}, kFence, kObject, kList};
    case ToolFormat::kGranite: return {{.word = "<|tool_call|>", .close = {}}, kTag, kFence, kObject, kList};
    case ToolFormat::kFunctionGemma: return {{.word = "<start_function_call>", .close = "<end_function_call>"}};
    case ToolFormat::kGemma4: return {{.word = "<|tool_call>", .close = "<tool_call|>"}};
  }
  return {};
}

std::unique_ptr<CallBody> make_call_body(ToolFormat format, const Opening& opening) {
  if (format == ToolFormat::kQwenCoder || format == ToolFormat::kFunctionGemma || format == ToolFormat::kGemma4)
    return std::make_unique<HeldBody>(format, opening.close);
  const bool named = opening.word == "[TOOL_CALLS]";
  return std::make_unique<JsonBody>(opening.close, named);
}

}  // namespace celslm
