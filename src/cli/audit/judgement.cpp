#include "cli/audit/judgement.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iterator>
#include <numeric>
#include <random>
#include <ranges>
#include <set>
#include <string_view>

#include "core/printable.h"

namespace celslm {
namespace {

// Below this a dependence on the prompts' length counts as shown. Several are tried in each audit.
constexpr double kUnlikely = 1e-3;
constexpr std::size_t kMostFindings = 20;  // of one kind: what follows says no more

enum class Kind { kLoad, kWatch, kOther };

Kind kind_of(const SentRequest& request) {
  if (request.method != "GET" || !request.body.empty()) return Kind::kOther;
  if (request.target.starts_with("/v1/packs/")) return Kind::kLoad;
  const std::string_view path = std::string_view(request.target).substr(0, request.target.find('?'));
  const bool watches = path == "/v1/contexts" || path == "/v1/key" || path == "/v1/models";
  return watches ? Kind::kWatch : Kind::kOther;
}

// `text` with the digits and dashes behind each `before` replaced.
std::string without_numbers(std::string text, std::string_view before) {
  for (std::size_t at = 0; (at = text.find(before, at)) != std::string::npos;) {
    at += before.size();
    const std::size_t end = std::min(text.find_first_not_of("0123456789-", at), text.size());
    text.replace(at, end - at, "{n}");
  }
  return text;
}

// The target without what time decides: which part of a pack, in which codec, and for how long a list is to be held.
std::string target_of(const SentRequest& request) {
  std::string out = request.target;
  if (kind_of(request) == Kind::kWatch) return without_numbers(out, "wait=");
  if (kind_of(request) != Kind::kLoad) return out;
  for (const std::string_view number : {"blocks=", "from="}) out = without_numbers(out, number);
  const std::size_t query = out.find('?');
  std::string path = out.substr(0, query);
  std::vector<std::string> segments;
  for (const auto part : std::views::split(path, '/')) segments.emplace_back(std::string_view(part));
  constexpr std::size_t kPackSegments = 7;  // "", v1, packs, handle, model, codec, part
  if (segments.size() != kPackSegments) return out;
  static constexpr std::array<std::string_view, 4> kParts{"header", "entries", "blocks", "pack"};
  if (std::ranges::find(kParts, segments[6]) == kParts.end()) return out;
  std::string rest = query == std::string::npos ? "" : out.substr(query + 1);
  for (const std::string_view number : {"blocks={n}", "from={n}"}) {
    if (rest.starts_with(number)) rest = rest.substr(std::min(rest.size(), number.size() + 1));
  }
  return fmt::format("/v1/packs/{}/{}/{{codec}}/{{part}}{}{}", segments[3], segments[4], rest.empty() ? "" : "?", rest);
}

using Constants = std::map<std::pair<std::string, std::string>, std::string>;  // (source, header): its first value

// A request as lines: what time or the edge's start decided is replaced.
std::string form_of(const SentRequest& request, const AuditedRun& run, const Constants& constants) {
  if (request.method.empty()) return "(not HTTP)\n" + request.body;
  const Kind kind = kind_of(request);
  std::string out = fmt::format("{} {}\n", request.method, target_of(request));
  for (const auto& [name, value] : request.headers) {
    const auto constant = constants.find({request.source, name});
    // A number that the edge draws when it starts, before anybody asks it anything; some parts of packs are asked for with
    // it.
    const bool is_edge = lower_case(name) == "x-celslm-edge" && constant != constants.end() && constant->second == value;
    const bool is_range = lower_case(name) == "range" && without_numbers(value, "bytes=") == "bytes={n}";
    if (kind == Kind::kLoad && (is_edge || is_range)) continue;
    const auto server = run.authorities.find(value);
    out += fmt::format("{}: {}\n", name, is_edge ? "{start}" : server != run.authorities.end() ? server->second : value);
  }
  return out + "\n" + request.body;
}

Constants constants_of(const AuditedRun& run) {
  Constants out;
  for (const SentRequest& request : run.at_start) {
    for (const auto& [name, value] : request.headers) out.emplace(std::pair(request.source, name), value);
  }
  return out;
}

// The forms of one question's requests of a kind, each with its source before it.
std::vector<std::string> forms_of(const std::vector<SentRequest>& sent, Kind kind, const AuditedRun& run,
                                  const Constants& constants) {
  std::vector<std::string> out;
  for (const SentRequest& request : sent) {
    if (kind_of(request) == kind) out.push_back(fmt::format("{}: {}", request.source, form_of(request, run, constants)));
  }
  return out;
}

std::string first_line(std::string_view text) {
  return printable(text.substr(0, text.find('\n')));
}

// Where two forms begin to differ: a line of each.
std::string difference_of(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty() && first_line(a) == first_line(b)) {
    a.remove_prefix(std::min(a.size(), a.find('\n') + 1));
    b.remove_prefix(std::min(b.size(), b.find('\n') + 1));
    if (!a.contains('\n') || !b.contains('\n')) break;
  }
  return fmt::format("'{}' instead of '{}'", first_line(a), first_line(b));
}

std::string run_name(std::span<const AuditedRun> runs, const AuditedRun& run) {
  return fmt::format("run {} ({})", &run - runs.data() + 1, run.script);
}

// A form that only one of two runs has, in words.
std::string only_in(const std::string& form, const std::vector<std::string>& others) {
  const auto alike = std::ranges::find_if(others, [&](const auto& other) { return first_line(other) == first_line(form); });
  if (alike != others.end()) return fmt::format("{}: {}", first_line(form), difference_of(form, *alike));
  return first_line(form);
}

class Comparison {
 public:
  explicit Comparison(std::span<const AuditedRun> runs) : runs_(runs) {
    for (const AuditedRun& run : runs) {
      constants_.push_back(constants_of(run));
      for (std::string& form : forms_of(run.at_start, Kind::kWatch, run, constants_.back()))
        watches_.insert(std::move(form));
    }
  }

  std::vector<Finding> all() {
    for (std::size_t r = 0; r < runs_.size(); ++r) {
      for (std::size_t q = 0; q < runs_[r].questions.size(); ++q) compare(r, q);
    }
    return std::move(out_);
  }

 private:
  void compare(std::size_t r, std::size_t q) {
    for (const std::string& form : forms(r, q, Kind::kWatch)) {
      if (!watches_.contains(form)) add(r, q, "was not sent before the first question: " + only_in(form, as_list(watches_)));
    }
    const auto others = forms(r, q, Kind::kOther);
    const auto first_others = forms(0, q, Kind::kOther);
    if (others != first_others) {
      const auto [a, b] = std::ranges::mismatch(others, first_others);
      add(r, q, a == others.end() ? "lacks " + first_line(*b) : only_in(*a, first_others));
    }
    const auto loads = as_set(forms(r, q, Kind::kLoad));
    const auto first_loads = as_set(forms(0, q, Kind::kLoad));
    for (const std::string& form : loads) {
      if (!first_loads.contains(form)) add(r, q, only_in(form, as_list(first_loads)));
    }
    for (const std::string& form : first_loads) {
      if (!loads.contains(form)) add(r, q, "lacks " + only_in(form, as_list(loads)));
    }
  }

  std::vector<std::string> forms(std::size_t r, std::size_t q, Kind kind) const {
    return forms_of(runs_[r].questions[q].sent, kind, runs_[r], constants_[r]);
  }
  static std::set<std::string> as_set(const std::vector<std::string>& forms) { return {forms.begin(), forms.end()}; }
  static std::vector<std::string> as_list(const std::set<std::string>& forms) { return {forms.begin(), forms.end()}; }

  void add(std::size_t r, std::size_t q, const std::string& what) {
    if (out_.size() < kMostFindings)
      out_.push_back({"difference", fmt::format("{}, {}, compared with {}: {}", run_name(runs_, runs_[r]),
                                                runs_[r].questions[q].about, run_name(runs_, runs_[0]), what)});
  }

  const std::span<const AuditedRun> runs_;
  std::vector<Constants> constants_;
  std::set<std::string> watches_;
  std::vector<Finding> out_;
};

// Numbers that time changes, and prompts should not.
struct Feature {
  const char* name;
  double (*of)(const AuditedQuestion& question);
};

double sent_bytes(const AuditedQuestion& question) {
  std::size_t out = 0;
  for (const SentRequest& request : question.sent) out += request.bytes;
  return static_cast<double>(out);
}

double asked_bytes(const AuditedQuestion& question) {
  double out = 0;
  for (const SentRequest& request : question.sent) {
    const std::string* const range = request.header("range");
    if (range == nullptr || !range->starts_with("bytes=")) continue;
    double first = 0;
    double last = 0;
    const char* const end = range->data() + range->size();
    const auto [dash, error] = std::from_chars(range->data() + std::string_view("bytes=").size(), end, first);
    if (error == std::errc() && dash != end && std::from_chars(dash + 1, end, last).ec == std::errc())
      out += last - first + 1;
  }
  return out;
}

constexpr std::array kFeatures{
    Feature{"the number of requests", [](const AuditedQuestion& q) { return static_cast<double>(q.sent.size()); }},
    Feature{"the bytes sent", sent_bytes},
    Feature{"the bytes asked for", asked_bytes},
};

std::vector<double> ranks_of(const std::vector<double>& values) {
  std::vector<double> out;
  for (const double value : values) {
    const auto below = std::ranges::count_if(values, [&](double v) { return v < value; });
    const auto same = std::ranges::count(values, value);
    out.push_back(static_cast<double>(below) + static_cast<double>(same - 1) / 2);
  }
  return out;
}

double covariance(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double out = 0;
  for (std::size_t i = 0; i < a.size(); ++i) out += (a[i] - mean_a) * (b[i] - mean_b);
  return out;
}

std::vector<Finding> dependences(std::span<const AuditedRun> runs) {
  std::vector<Finding> out;
  for (std::size_t q = 0; q < runs.front().questions.size(); ++q) {
    for (const Feature& feature : kFeatures) {
      std::vector<double> lengths;
      std::vector<double> values;
      for (const AuditedRun& run : runs) {
        lengths.push_back(static_cast<double>(run.questions[q].user_bytes));
        values.push_back(feature.of(run.questions[q]));
      }
      const double chance = chance_of_dependence(lengths, values);
      if (chance < kUnlikely)
        out.push_back({"length", fmt::format("{}: {} follows the length of the prompt (by chance with probability {:.1g})",
                                             runs.front().questions[q].about, feature.name, chance)});
    }
  }
  return out;
}

void look_in(const SentRequest& request, const AuditedRun& run, const std::string& where, std::vector<Finding>& out) {
  const auto look = [&](std::string_view text, const std::string& place) {
    for (const std::string& secret : run.secrets.found_in(text))
      out.push_back({"secret", fmt::format("{}: {} was sent to {}, in {}", where, secret, request.source, place)});
  };
  look(request.method + " " + request.target,
       fmt::format("the request line of '{} {}'", request.method, printable(request.target)));
  for (const auto& [name, value] : request.headers)
    look(name + ": " + value,
         fmt::format("the header '{}' of '{} {}'", printable(name), request.method, printable(request.target)));
  look(request.body, fmt::format("the body of '{} {}'", request.method, printable(request.target)));
}

}  // namespace

double chance_of_dependence(const std::vector<double>& lengths, const std::vector<double>& values) {
  constexpr int kPermutations = 20'000;
  if (lengths.size() < 3) return 1;
  const std::vector<double> a = ranks_of(lengths);
  std::vector<double> b = ranks_of(values);
  const double seen = std::abs(covariance(a, b));
  std::mt19937 random(1);
  int as_much = 0;
  for (int i = 0; i < kPermutations; ++i) {
    std::ranges::shuffle(b, random);
    as_much += std::abs(covariance(a, b)) >= seen - 1e-9 ? 1 : 0;
  }
  return (as_much + 1.0) / (kPermutations + 1.0);
}

std::vector<Finding> secrets_sent(std::span<const AuditedRun> runs) {
  std::vector<Finding> out;
  for (const AuditedRun& run : runs) {
    const std::string name = run_name(runs, run);
    for (const SentRequest& request : run.at_start) look_in(request, run, name + ", before the first question", out);
    for (const AuditedQuestion& question : run.questions) {
      for (const SentRequest& request : question.sent)
        look_in(request, run, fmt::format("{}, {}", name, question.about), out);
    }
  }
  if (out.size() > kMostFindings) out.resize(kMostFindings);
  return out;
}

std::vector<Finding> sent_elsewhere(std::span<const AuditedRun> runs) {
  std::vector<Finding> out;
  for (const AuditedRun& run : runs) {
    for (const Attempt& attempt : run.elsewhere) {
      std::string text = fmt::format("{}: {} to {}", run_name(runs, run), attempt.protocol, attempt.address);
      if (attempt.port > 0) text += fmt::format(", port {}", attempt.port);
      for (const std::string& secret : run.secrets.found_in(attempt.payload)) text += ", with " + secret;
      if (out.size() < kMostFindings) out.push_back({"elsewhere", text});
    }
  }
  return out;
}

std::vector<Finding> differences(std::span<const AuditedRun> runs) {
  if (runs.empty()) return {};
  std::vector<Finding> out = Comparison(runs).all();
  std::ranges::move(dependences(runs), std::back_inserter(out));
  return out;
}

}  // namespace celslm
