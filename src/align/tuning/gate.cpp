#include "align/tuning/gate.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr int kGateVersion = 1;
constexpr std::size_t kMaxSetName = 256;
constexpr double kRounding = 1e-6;  // of figures in JSON
constexpr std::int64_t kMaxCount = std::numeric_limits<int>::max();

// Where a figure lies. Its change lies between -(most - least) and most - least.
struct Scale {
  double least;
  double most;
};
constexpr Scale kShare{0.0, 1.0};
constexpr Scale kLogP{-1e3, 0.0};

Result<double> number(const JsonFields& fields, const char* name, double low, double high) {
  CELSLM_TRY(const auto value, fields.number(name, low, high));
  return value ? Result<double>(*value) : fields.expected(name, "a number");
}

Result<int> count(const JsonFields& fields, const char* name, int least) {
  CELSLM_TRY(const auto value, fields.required_integer(name, least, kMaxCount));
  return static_cast<int>(value);
}

Result<Change> change(const JsonFields& parent, const char* name, const Scale& scale) {
  CELSLM_TRY(const JsonFields fields, parent.required_object(name));
  Change out;
  CELSLM_TRY(out.own, number(fields, "own", scale.least, scale.most));
  CELSLM_TRY(out.tuned, number(fields, "tuned", scale.least, scale.most));
  CELSLM_TRY(const json* interval, fields.required_list("interval", 2));
  if (interval->size() != 2 || !(*interval)[0].is_number() || !(*interval)[1].is_number())
    return fields.expected("interval", "a list of two numbers");
  out.low = (*interval)[0].get<double>();
  out.high = (*interval)[1].get<double>();
  const double width = scale.most - scale.least;
  if (!(-width <= out.low && out.low <= out.high && out.high <= width))
    return fields.expected("interval", "an interval of changes");
  return out;
}

Result<TuningGate::Set> set_from(const json& item) {
  CELSLM_TRY(const JsonFields fields, JsonFields::of(item, "sets[]"));
  TuningGate::Set out;
  CELSLM_TRY(out.name, fields.required_text("set", kMaxSetName));
  CELSLM_TRY(out.questions, count(fields, "questions", 1));
  CELSLM_TRY(out.f1, change(fields, "f1", kShare));
  CELSLM_TRY(out.contains, change(fields, "contains", kShare));
  return out;
}

// The figures of all questions are the means of the sets' figures: a gate cannot leave out a set that got worse.
Status check_sums(const TuningGate& gate) {
  std::int64_t questions = 0;
  double own = 0.0;
  double tuned = 0.0;
  for (const TuningGate::Set& set : gate.sets) {
    questions += set.questions;
    own += set.f1.own * set.questions;
    tuned += set.f1.tuned * set.questions;
  }
  if (questions != gate.questions)
    return fail(ErrorKind::kInvalid, "the sets have {} questions together, the gate has {}", questions, gate.questions);
  const auto n = static_cast<double>(questions);
  if (std::abs(own / n - gate.f1.own) < kRounding && std::abs(tuned / n - gate.f1.tuned) < kRounding) return {};
  return fail(ErrorKind::kInvalid, "f1 is {} and {}, but the sets' are {} and {} on average", gate.f1.own, gate.f1.tuned,
              own / n, tuned / n);
}

Result<TuningGate> figures_from(const JsonFields& fields) {
  TuningGate out;
  CELSLM_TRY(const auto version, fields.required_integer("version", 0, kMaxCount));
  if (version != kGateVersion)
    return fail(ErrorKind::kInvalid, "gate version {} is not supported; this program reads version {}", version,
                kGateVersion);
  CELSLM_TRY(out.tuning, fields.required_hash("tuning"));
  CELSLM_TRY(out.model, fields.required_hash("model"));
  CELSLM_TRY(out.documents, count(fields, "documents", 1));
  CELSLM_TRY(out.questions, count(fields, "questions", 1));
  CELSLM_TRY(out.f1, change(fields, "f1", kShare));
  CELSLM_TRY(out.contains, change(fields, "contains", kShare));
  CELSLM_TRY(const json* sets, fields.required_list("sets", kMaxGateSets));
  for (const json& item : *sets) {
    CELSLM_TRY(out.sets.emplace_back(), set_from(item));
  }
  CELSLM_TRY(const JsonFields plain, fields.required_object("plain_text"));
  CELSLM_TRY(out.plain_documents, count(plain, "documents", 1));
  CELSLM_TRY(out.plain_log_p, change(plain, "log_p", kLogP));
  return out;
}

std::string percent(const std::string& name, const Change& change) {
  return fmt::format("{:<28} {:8.2f} {:8.2f}   {:+.2f} [{:+.2f}, {:+.2f}] %\n", name, 100.0 * change.own,
                     100.0 * change.tuned, 100.0 * (change.tuned - change.own), 100.0 * change.low, 100.0 * change.high);
}

}  // namespace

std::string refusal(const TuningGate& gate) {
  if (gate.documents < kLeastGateDocuments || gate.plain_documents < kLeastGateDocuments)
    return fmt::format("it was judged on {} documents with questions and {} of plain text; {} of each are the least",
                       gate.documents, gate.plain_documents, kLeastGateDocuments);
  if (!(gate.f1.low > 0.0))
    return fmt::format("F1 is not better with certainty: the change's interval begins at {:+.2f} %", 100.0 * gate.f1.low);
  for (const TuningGate::Set& set : gate.sets) {
    if (set.f1.high < 0.0)
      return fmt::format("the set '{}' is significantly worse in F1: the change's interval ends at {:+.2f} %", set.name,
                         100.0 * set.f1.high);
  }
  if (gate.plain_log_p.high < 0.0)
    return fmt::format("plain text is significantly less likely: the change's interval ends at {:+.4f} nats a token",
                       gate.plain_log_p.high);
  return {};
}

Result<TuningGate> parse_gate(std::string_view text) {
  if (text.size() > kMaxGateBytes)
    return fail(ErrorKind::kInvalid, "the gate has {} bytes; at most {} are accepted", text.size(), kMaxGateBytes);
  CELSLM_TRY(const json object, parse_object(text));
  const JsonFields fields(object);
  CELSLM_TRY(TuningGate out, figures_from(fields));
  CELSLM_CHECK_OK(check_sums(out));
  CELSLM_TRY(const std::string state, fields.required_text("state", 16));
  const std::string why = refusal(out);
  if (state != (why.empty() ? "passed" : "refused"))
    return fail(ErrorKind::kInvalid, "the gate's state is '{}', but its figures give '{}'{}{}", state,
                why.empty() ? "passed" : "refused", why.empty() ? "" : ": ", why);
  return out;
}

std::string describe(const TuningGate& gate) {
  const std::string why = refusal(gate);
  std::string out =
      fmt::format("gate: {}\n{} questions about {} documents; plain text of {} documents\n",
                  why.empty() ? "passed" : "refused: " + why, gate.questions, gate.documents, gate.plain_documents);
  out += fmt::format("{:<28} {:>8} {:>8}   change [95 %]\n", "", "own", "tuned");
  out += percent("F1", gate.f1);
  out += percent("contains the answer", gate.contains);
  for (const TuningGate::Set& set : gate.sets) {
    out += percent(fmt::format("F1, {} ({})", set.name, set.questions), set.f1);
    out += percent("  contains", set.contains);
  }
  const Change& plain = gate.plain_log_p;
  return out + fmt::format("{:<28} {:8.4f} {:8.4f}   {:+.4f} [{:+.4f}, {:+.4f}]\n", "log p of plain text, a token",
                           plain.own, plain.tuned, plain.tuned - plain.own, plain.low, plain.high);
}

Status judge_tuning(Tuning& tuning, std::string_view gate) {
  CELSLM_TRY(const json object, parse_object(gate));
  tuning.gate = dump_json(object);
  tuning.signature.reset();
  tuning.constants.id = tuning_id(tuning);
  return gate_of(tuning).transform([](const TuningGate&) {});
}

Result<TuningGate> gate_of(const Tuning& tuning) {
  if (tuning.gate.empty()) return fail(ErrorKind::kInvalid, "the tuning was not judged: see 'celslm tuning judge --help'");
  CELSLM_TRY(TuningGate gate, parse_gate(tuning.gate));
  if (gate.tuning == unjudged_id(tuning) && gate.model == tuning.model) return gate;
  return fail(ErrorKind::kMismatch, "the gate is of the tuning {} for the model {}; this one is {} for {}",
              gate.tuning.hex(), gate.model.hex(), unjudged_id(tuning).hex(), tuning.model.hex());
}

Result<Tuning> read_servable_tuning(const std::filesystem::path& path) {
  CELSLM_TRY(Tuning tuning, read_tuning(path));
  const auto gate = gate_of(tuning);
  if (!gate) return fail(ErrorKind::kMismatch, "{}: it may not be served: {}", path.string(), gate.error().message);
  if (const std::string why = refusal(*gate); !why.empty())
    return fail(ErrorKind::kMismatch, "{}: it may not be served, its gate refused it: {}", path.string(), why);
  if (tuning.signature) return tuning;
  return fail(ErrorKind::kMismatch, "{}: it may not be served: nobody signed it; 'celslm tuning judge' does", path.string());
}

}  // namespace celslm
