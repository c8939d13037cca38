// How large grammars and schemas may be. What these let through can still be slow or swell: it runs in a process of its own,
// under limits of time and memory (constraint_host.h). These give clear errors before that.
#pragma once

#include <cstddef>

namespace celslm {

inline constexpr std::size_t kMaxGrammarBytes = 64U << 10;        // of a grammar that a client wrote
inline constexpr std::size_t kMaxMadeGrammarBytes = 1024U << 10;  // of one made here from schemas
inline constexpr std::size_t kMaxGrammarRules = 20'000;
inline constexpr int kMaxSchemaDepth = 48;             // schemas within schemas
inline constexpr std::size_t kMaxSchemaNodes = 5'000;  // schemas in one document, each use of a $ref's target counted once
inline constexpr long kMaxRepeats = 100'000;           // minItems, maxLength, {m,n} in patterns, ...

}  // namespace celslm
