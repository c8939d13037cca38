// The only file that includes minja: it is heavy, and reports by exceptions.
#include "model/text/chat_template.h"

#include <array>
#include <ctime>
#include <minja/minja.hpp>
#include <sstream>
#include <streambuf>
#include <utility>

#include "model/text/template_source.h"

namespace celslm {
namespace {

using minja::ArgumentsValue;
using minja::Value;
using ContextPtr = std::shared_ptr<minja::Context>;

constexpr std::int64_t kFreeSteps = 100'000;
constexpr std::int64_t kStepsPerMessage = 1000;
constexpr std::size_t kFreeBytes = 16U << 20;     // of a rendering
constexpr std::size_t kBytesPerByte = 4;          // a template may repeat contents
constexpr std::size_t kMaxStackBytes = 1U << 20;  // a thread's is 8 MiB
constexpr std::int64_t kMaxRange = 1 << 16;
constexpr std::size_t kMaxReason = 300;  // bytes of a template's own message

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

Value variables_of(const json& messages, bool answer, const std::string& bos, const std::string& eos) {
  Value out = Value::object();
  out.set("messages", Value(messages));
  if (answer) out.set("add_generation_prompt", Value(true));
  out.set("bos_token", Value(bos));
  out.set("eos_token", Value(eos));
  out.set("enable_thinking", Value(true));
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
  bool typed_contents = false;  // a content is a list of parts with a type rather than a text
  bool system_role = true;

  json as_json(const std::string& role, std::string content) const {
    if (!typed_contents) return json{{"role", role}, {"content", std::move(content)}};
    return json{{"role", role}, {"content", json::array({json{{"type", "text"}, {"text", std::move(content)}}})}};
  }

  json as_json(std::span<const ChatMessage> messages) const {
    std::string before;
    if (!system_role && messages.front().role == "system") {
      if (messages.size() > 1) before = messages.front().content + "\n";
      messages = messages.subspan(1);
    }
    json out = json::array();
    for (const ChatMessage& m : messages) {
      out.push_back(as_json(m.role == "developer" ? "system" : m.role, std::exchange(before, {}) + m.content));
    }
    return out;
  }

  Result<std::string> render(std::span<const ChatMessage> messages, bool answer) const;
  Status find_out_what_it_knows();
};

Result<std::string> ChatTemplate::Impl::render(std::span<const ChatMessage> messages, bool answer) const {
  std::size_t n_bytes = 0;
  for (const ChatMessage& m : messages) n_bytes += m.content.size();
  BoundedText text(kFreeBytes + kBytesPerByte * n_bytes);
  std::ostringstream out;  // minja asks for this type
  static_cast<std::ios&>(out).rdbuf(&text);
  out.exceptions(std::ios::badbit);  // or it would swallow what `text` throws
  std::shared_ptr<Variables> variables;
  std::string trouble;
  try {
    variables = std::make_shared<Variables>(variables_of(as_json(messages), answer, bos, eos),
                                            kFreeSteps + kStepsPerMessage * static_cast<std::int64_t>(messages.size()));
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
    typed_contents = typed;
    system_role = true;
    const auto both = render(std::array{system, user}, true);
    const auto alone = render(std::array{user}, true);
    system_role = shows(both, system);
    if (shows(both, user) || shows(alone, user)) return {};
    if (!typed && !alone) failure = std::unexpected(alone.error());
  }
  return failure;
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
  return std::unique_ptr<const ChatTemplate>(new ChatTemplate(std::move(impl)));
}

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

Result<std::string> ChatTemplate::render(std::span<const ChatMessage> messages, bool answer) const {
  return impl_->render(messages, answer);
}

const std::vector<std::string>& ChatTemplate::literals() const {
  return impl_->literals;
}

}  // namespace celslm
