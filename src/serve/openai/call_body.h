// What follows the opening of a tool call in one family's format; for the parser of answers only.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/tool_format.h"
#include "serve/openai/tools.h"

namespace celslm {

// A word that a call begins with.
struct Opening {
  std::string_view word;
  std::string_view close;     // what may follow the call; empty: nothing
  bool only_first = false;    // at the beginning of an answer only: elsewhere it is ordinary text
  bool part_of_call = false;  // the call's own first byte
};

std::vector<Opening> openings_of(ToolFormat format);

// Where calls go.
class CallSink {
 public:
  virtual ~CallSink() = default;
  virtual bool knows(std::string_view name) const = 0;
  virtual const Tool* tool(std::string_view name) const = 0;
  // A call of a known tool begins; what was read so far is no text.
  virtual void begin(std::string_view name) = 0;
  // The arguments of the call that began last, to be appended.
  virtual void arguments(std::string_view text) = 0;
  // What was read so far is no text.
  virtual void commit() = 0;
};

class CallBody {
 public:
  enum class Step {
    kMore,
    kEnd,     // the calls are complete: what was read since begin(), arguments() or commit() was called last is text behind
              // them
    kRefuse,  // not a call: the same is text
  };
  virtual ~CallBody() = default;
  virtual Step add(char c, CallSink& sink) = 0;
  // The answer has ended. False where what was held back is text.
  virtual bool finish(CallSink& sink) = 0;
};

std::unique_ptr<CallBody> make_call_body(ToolFormat format, const Opening& opening);

// Bodies that are held back until their end, as text: calls with their arguments, or nothing where it is something else.
struct ReadCall {
  std::string name;
  std::string arguments;  // JSON
};
// {"name", "arguments"}, or a list of these in "tool_calls", or one in "tool_call". With `bare`, arguments must be there.
std::vector<ReadCall> read_json_calls(std::string_view text);
// call:f{x:<escape>a<escape>,y:[1,{z:true}]} with `quote` for <escape>.
std::vector<ReadCall> read_gemma_call(std::string_view text, std::string_view quote);
// <function=f><parameter=x>a</parameter></function>. A value is text where the tool's schema wants a string, or where it is
// no JSON.
std::vector<ReadCall> read_xml_calls(std::string_view text, const CallSink& sink);

}  // namespace celslm
