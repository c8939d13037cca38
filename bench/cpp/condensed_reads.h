// A context's KV condensed to fewer rows, by names: METHOD/N[+reread|+both][+on-policy], N of how many tokens one row is
// kept.
//
//   match            rows by pursuit, masses and values fitted       top       rows by attention, nothing fitted
//   match-attention  rows by attention, masses and values fitted     evenly    rows at equal distances, nothing fitted
//   match-effect     rows by their effect, likewise                  random    rows at random, nothing fitted
//   match-evenly     rows at equal distances, likewise
//
// They are fitted to the task's study questions with their answers; +reread: to a second reading of the text instead, as the
// user's turn; +both: to both.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "align/condense/condense.h"
#include "align/condense/conversations.h"
#include "bench/cpp/quality_tasks.h"

namespace celslm {

struct CondensedName {
  MatchOptions match;  // without the number of rows
  int divisor = 1;
  bool questions = true;
  bool text = false;
  bool on_policy = false;
};
std::optional<CondensedName> parse_condensed(const std::string& name);

// One context's condensed KV, all that a task names made together where they read the same. Used by one thread.
class CondensedReads {
 public:
  // The task and the context's KV, which outlive this.
  CondensedReads(Engine& engine, const QualityTask& task, const ExactKv& context)
      : engine_(engine), task_(task), context_(context) {}

  // name: one of the task's. kInvalid where there is nothing to fit to; errors of condense().
  Result<std::shared_ptr<KvSegment>> read(const std::string& name);

 private:
  Result<std::vector<std::vector<Token>>> conversations(const CondensedName& name) const;
  Status make_alike(const CondensedName& name);
  MatchOptions with_rows(const CondensedName& name) const;

  Engine& engine_;
  const QualityTask& task_;
  const ExactKv& context_;
  std::map<std::string, CondensedKv> made_;
};

}  // namespace celslm
