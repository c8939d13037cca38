// The only file that includes minja: it is heavy, and reports by exceptions.
#include "model/text/chat_template.h"

#include <array>
#include <ctime>
#include <minja/minja.hpp>
#include <sstream>
#include <streambuf>
#include <utility>

#include "core/text.h"
#include "model/text/template_messages.h"
#include "model/text/template_source.h"

namespace celslm {
namespace {

using minja::ArgumentsValue;
using minja::Value;
using ContextPtr = std::shared_ptr<minja::Context>;

constexpr std::int64_t kFreeSteps = 100'000;
constexpr std::int64_t kStepsPerMessage = 1000;
constexpr std::int64_t kStepsPerToolByte = 8;     // macros that walk through a schema
constexpr std::size_t kFreeBytes = 16U << 20;     // of a rendering
constexpr std::size_t kBytesPerByte = 4;          // a template may repeat contents
constexpr std::size_t kMaxStackBytes = 1U << 20;  // a thread's is 8 MiB
constexpr std::int64_t kMaxRange = 1 << 16;
constexpr std::size_t kMaxReason = 300;  // bytes of a template's own message
// With what templates read without asking whether it is there.
constexpr const char* kProbedTool =
    R"([{"type": "function", "function": {"name": "tool60317", "description": "d", "parameters": {"type": "object",)"
    R"( "properties": {"p": {"type": "string", "description": "d"}}, "required": ["p"]}}}])";

// Not derived from std::exception: minja catches those once per level and appends the source's lines to each.
struct Stopped {
  std::string reason;
};

const char* stack_pointer() {
  return static_cast<const char*>(__builtin_frame_address(0));
}

// The variables of one rendering. Whatever a template does again and again looks up a name that only this outermost scope
// knows, so that it is stopped here.
class Variables final : public minja::Context {
 public:
  Variables(Value&& values, std::int64_t steps)
      : Context(std::move(values), Context::builtins()), steps_left_(steps), stack_begin_(stack_pointer()) {}

  bool contains(const Value& key) override {
    step();
    return Context::contains(key);
  }
  Value get(const Value& key) override {
    step();
    return Context::get(key);
  }

  // A macro is one of these variables and keeps all of them.
  void clear() { values_ = Value::object(); }

 private:
  void step() {
    if (--steps_left_ < 0) throw Stopped{"it takes too many steps"};
    if (static_cast<std::size_t>(std::abs(stack_begin_ - stack_pointer())) > kMaxStackBytes)
      throw Stopped{"its macros call one another too deeply"};
  }

  std::int64_t steps_left_;
  const char* const stack_begin_;
};

// A stream's target that ends a rendering which grows too large.
class BoundedText final : public std::streambuf {
 public:
  explicit BoundedText(std::size_t limit) : limit_(limit) {}
  std::string take() { return std::move(text_); }

 private:
  std::streamsize xsputn(const char* data, std::streamsize size) override {
    if (text_.size() + static_cast<std::size_t>(size) > limit_) throw Stopped{"it writes too much text"};
    text_.append(data, static_cast<std::size_t>(size));
    return size;
  }
  int_type overflow(int_type c) override {
    const char byte = traits_type::to_char_type(c);
    xsputn(&byte, 1);
    return c;
  }

  std::string text_;
  const std::size_t limit_;
};

std::string date(const std::string& format) {
  const std::tm day{.tm_hour = 12, .tm_mday = 26, .tm_mon = 6, .tm_year = 124, .tm_wday = 5, .tm_yday = 207};
  std::array<char, 256> out{};
  return {out.data(), std::strftime(out.data(), out.size(), format.c_str(), &day)};
}

std::int64_t whole_number(const Value& value) {
  if (!value.is_number_integer()) throw Stopped{"range() takes whole numbers"};
  return value.get<std::int64_t>();
}

// minja's own has no limit, and none to the size of what it is called with.
Value range(const ContextPtr&, ArgumentsValue& arguments) {
  const auto& given = arguments.args;
  if (given.empty() || given.size() > 3 || !arguments.kwargs.empty()) throw Stopped{"range() takes one to three numbers"};
  const std::int64_t begin = given.size() > 1 ? whole_number(given[0]) : 0;
  const std::int64_t end = whole_number(given[given.size() > 1 ? 1 : 0]);
  const std::int64_t stride = given.size() > 2 ? whole_number(given[2]) : 1;
  for (const std::int64_t n : {begin, end, stride}) {
    if (n < -kMaxRange || n > kMaxRange || stride == 0) throw Stopped{"range() beyond its limits"};
  }
  Value out = Value::array();
  for (std::int64_t i = begin; stride > 0 ? i < end : i > end; i += stride) out.push_back(Value(i));
  return out;
}

Value variables_of(const TemplateInput& input, bool answer, bool thinking, const std::string& bos, const std::string& eos) {
  Value out = Value::object();
  out.set("messages", Value(input.messages));
  if (!input.tools.is_null()) out.set("tools", Value(input.tools));
  if (answer) out.set("add_generation_prompt", Value(true));
  out.set("bos_token", Value(bos));
  out.set("eos_token", Value(eos));
  out.set("enable_thinking", Value(thinking));
  out.set("date_string", Value(date("%d %b %Y")));
  out.set("datetime", Value(date("%b %d %Y")));
  out.set("strftime_now", Value::callable([](const ContextPtr&, ArgumentsValue& arguments) {
            if (arguments.args.size() != 1 || !arguments.args[0].is_string()) throw Stopped{"strftime_now() takes a format"};
            return Value(date(arguments.args[0].get<std::string>()));
          }));
  out.set("raise_exception", Value::callable([](const ContextPtr&, ArgumentsValue& arguments) -> Value {
            throw Stopped{arguments.args.empty() ? "it gives no reason" : arguments.args[0].to_str()};
          }));
  out.set("range", Value::callable(range));
  out.set(kStepFunction, Value::callable([](const ContextPtr&, ArgumentsValue&) { return Value(); }));
  return out;
}

std::size_t bytes_of(const ChatMessage& m) {
  std::size_t out = m.content.size() + m.reasoning.size() + m.tool_call_id.size();
  for (const ToolCall& call : m.tool_calls) out += call.id.size() + call.name.size() + call.arguments.size();
  return out;
}

// minja appends the source's lines to what went wrong.
std::string first_line(std::string_view text) {
  return std::string(text.substr(0, std::min(text.find('\n'), kMaxReason)));
}

}  // namespace

struct ChatTemplate::Impl {
  std::shared_ptr<minja::TemplateNode> root;
  std::string bos;
  std::string eos;
  std::vector<std::string> literals;
  TemplateAbilities can;
  ChatStyle style;

  Result<std::string> render(std::span<const ChatMessage> messages, bool answer, const ChatOptions& options = {}) const;
  Status find_out_what_it_knows();
  void find_out_about_tools();
};

Result<std::string> ChatTemplate::Impl::render(std::span<const ChatMessage> messages, bool answer,
                                               const ChatOptions& options) const {
  std::size_t n_bytes = options.tools.size();
  for (const ChatMessage& m : messages) n_bytes += bytes_of(m);
  BoundedText text(kFreeBytes + kBytesPerByte * n_bytes);
  std::ostringstream out;  // minja asks for this type
  static_cast<std::ios&>(out).rdbuf(&text);
  out.exceptions(std::ios::badbit);  // or it would swallow what `text` throws
  std::shared_ptr<Variables> variables;
  std::string trouble;
  try {
    const json tools = options.tools.empty() ? json() : json::parse(options.tools);
    const TemplateInput input = template_input(can, messages, tools);
    const auto steps = kFreeSteps + kStepsPerMessage * static_cast<std::int64_t>(messages.size()) +
                       kStepsPerToolByte * static_cast<std::int64_t>(options.tools.size());
    variables = std::make_shared<Variables>(variables_of(input, answer, options.thinking, bos, eos), steps);
    root->render(out, variables);
  } catch (const Stopped& stopped) {
    trouble = first_line(stopped.reason);
  } catch (const std::exception& error) {
    trouble = first_line(error.what());
  }
  if (variables) variables->clear();
  if (trouble.empty()) return text.take();
  return fail(ErrorKind::kInvalid, "the model's chat template does not render this conversation: {}", trouble);
}

// As llama.cpp does: by trying.
Status ChatTemplate::Impl::find_out_what_it_knows() {
  // Shown in whatever case and order of letters.
  const ChatMessage system{.role = "system", .content = "70211207"};
  const ChatMessage user{.role = "user", .content = "83499438"};
  const auto shows = [](const Result<std::string>& text, const ChatMessage& m) { return text && text->contains(m.content); };
  Status failure = fail(ErrorKind::kInvalid, "it does not write a user's message");
  for (const bool typed : {false, true}) {
    can.typed_contents = typed;
    can.system_role = true;
    const auto both = render(std::array{system, user}, true);
    const auto alone = render(std::array{user}, true);
    can.system_role = shows(both, system);
    if (shows(both, user) || shows(alone, user)) return {};
    if (!typed && !alone) failure = std::unexpected(alone.error());
  }
  return failure;
}

void ChatTemplate::Impl::find_out_about_tools() {
  const auto shows = [](const Result<std::string>& text, std::string_view what) { return text && text->contains(what); };
  const ChatMessage user{.role = "user", .content = "83499438"};
  can.tools = true;  // until shown otherwise: what is not known is written another way
  can.tools = shows(render(std::array{user}, true, {.tools = kProbedTool}), "tool60317");

  const ToolCall call{.id = "abcdefgh1", .name = "tool60317", .arguments = R"({"needle5512": "text9921"})"};
  ChatMessage calling{.role = "assistant", .content = "", .tool_calls = {call}};
  const auto after_call = [&] { return render(std::array{user, calling}, false); };
  can.tool_calls = true;
  const auto with_object = after_call();
  // Shown, and not as Jinja prints a dictionary. Where both ways work the object is what the template was written for.
  const bool takes_object = shows(with_object, "needle5512") && !shows(with_object, "'needle5512'");
  can.text_arguments = !takes_object;
  can.tool_calls = (takes_object || shows(after_call(), R"({"needle5512":)")) && shows(after_call(), call.name);
  if (!can.tool_calls) return;

  ChatMessage result{.role = "tool", .content = "result4477", .tool_call_id = call.id};
  can.tool_results = true;
  const auto with_result = [&] { return render(std::array{user, calling, result}, true); };
  can.tool_results = shows(with_result(), result.content);
  for (const char* id : {"call_0123456789abcdef", "c_1"}) {
    calling.tool_calls.front().id = result.tool_call_id = id;
    if (can.tool_results && !shows(with_result(), result.content)) can.short_ids = true;
  }
  can.parallel_calls = true;
  calling.tool_calls = {call, {.id = "abcdefgh2", .name = "tool60318", .arguments = call.arguments}};
  can.parallel_calls = shows(after_call(), "tool60317") && shows(after_call(), "tool60318");
}

Result<std::unique_ptr<const ChatTemplate>> ChatTemplate::create(std::string_view source, std::string bos, std::string eos) {
  auto impl = std::make_unique<Impl>();
  impl->bos = std::move(bos);
  impl->eos = std::move(eos);
  CELSLM_TRY(TemplateSource checked, read_template_source(source));
  impl->literals = std::move(checked.literals);
  try {
    impl->root =
        minja::Parser::parse(checked.text, {.trim_blocks = true, .lstrip_blocks = true, .keep_trailing_newline = false});
  } catch (const std::exception& error) {
    return fail(ErrorKind::kInvalid, "it does not parse: {}", first_line(error.what()));
  }
  CELSLM_CHECK_OK(impl->find_out_what_it_knows());
  impl->can.results_in_call = source.contains("tool_responses");
  impl->find_out_about_tools();
  impl->style = chat_style_of(source, impl->can.tools);
  const auto prompt = impl->render(std::array{ChatMessage{.role = "user", .content = "x"}}, true);
  impl->style.begins_in_thoughts = prompt && !impl->style.thoughts_open.empty() &&
                                   trimmed(*prompt, " \n").ends_with(trimmed(impl->style.thoughts_open, " \n"));
  return std::unique_ptr<const ChatTemplate>(new ChatTemplate(std::move(impl)));
}

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

Result<std::string> ChatTemplate::render(std::span<const ChatMessage> messages, bool answer,
                                         const ChatOptions& options) const {
  return impl_->render(messages, answer, options);
}

const ChatStyle& ChatTemplate::style() const {
  return impl_->style;
}

const std::vector<std::string>& ChatTemplate::literals() const {
  return impl_->literals;
}

}  // namespace celslm
