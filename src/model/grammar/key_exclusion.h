// Names of members that are none of some given ones.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/grammar/json_schema.h"

namespace celslm {

// Adds rules named after `rule_name` that accept a JSON string which is none of `names`, and returns the first one's name.
// Up to where it differs from all of them such a string may hold no escapes.
Result<std::string> add_key_rules(GrammarBuilder& builder, std::string_view rule_name, std::span<const std::string> names);

}  // namespace celslm
