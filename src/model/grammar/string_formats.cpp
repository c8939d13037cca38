#include "model/grammar/string_formats.h"

#include <fmt/ranges.h>

#include <array>

#include "model/grammar/pattern.h"

namespace celslm {
namespace {

struct Format {
  std::string_view name;
  std::string_view pattern;
};

#define CELSLM_DATE "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
#define CELSLM_TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define CELSLM_BYTE "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define CELSLM_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define CELSLM_HOST CELSLM_LABEL "(\\." CELSLM_LABEL "){0,10}"
#define CELSLM_H "[0-9a-fA-F]{1,4}"

constexpr std::array kFormats{
    Format{"date", "^" CELSLM_DATE "$"},
    Format{"date-time", "^" CELSLM_DATE "T" CELSLM_TIME "$"},
    Format{"duration",
           "^P([0-9]{1,9}W|([0-9]{1,9}Y)?([0-9]{1,9}M)?[0-9]{1,9}D(T[0-9]{1,9}[HMS])?|T([0-9]{1,9}H)?([0-9]{1,9}M)?"
           "[0-9]{1,9}S|T([0-9]{1,9}H)?[0-9]{1,9}M|T[0-9]{1,9}H|([0-9]{1,9}Y)?[0-9]{1,9}M|[0-9]{1,9}Y)$"},
    Format{"email", "^[A-Za-z0-9_+-]{1,64}(\\.[A-Za-z0-9_+-]{1,64}){0,8}@" CELSLM_HOST "$"},
    Format{"hostname", "^" CELSLM_HOST "$"},
    Format{"ipv4", "^" CELSLM_BYTE "(\\." CELSLM_BYTE "){3}$"},
    Format{"ipv6", "^((" CELSLM_H ":){7}" CELSLM_H "|(" CELSLM_H ":){1,7}:|(" CELSLM_H ":){1,6}:" CELSLM_H "|(" CELSLM_H
                   ":){1,5}(:" CELSLM_H "){2}|(" CELSLM_H ":){1,4}(:" CELSLM_H "){3}|(" CELSLM_H ":){1,3}(:" CELSLM_H
                   "){4}|(" CELSLM_H ":){1,2}(:" CELSLM_H "){5}|" CELSLM_H ":(:" CELSLM_H "){6}|:(:" CELSLM_H "){1,7}|::)$"},
    Format{"time", "^" CELSLM_TIME "$"},
    Format{"uri", "^[a-zA-Z][a-zA-Z0-9+.-]{0,31}:[A-Za-z0-9._~:/?#\\[\\]@!$&'()*+,;=%-]{1,2000}$"},
    Format{"uuid", "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
};

#undef CELSLM_DATE
#undef CELSLM_TIME
#undef CELSLM_BYTE
#undef CELSLM_LABEL
#undef CELSLM_HOST
#undef CELSLM_H

}  // namespace

std::vector<std::string_view> string_formats() {
  std::vector<std::string_view> out;
  out.reserve(kFormats.size());
  for (const Format& format : kFormats) out.push_back(format.name);
  return out;
}

Result<std::string> format_grammar(std::string_view format) {
  for (const auto& [name, pattern] : kFormats) {
    if (name == format) return pattern_grammar(pattern);
  }
  return fail(ErrorKind::kInvalid, "'{}' is not supported; {} are", format, fmt::join(string_formats(), ", "));
}

}  // namespace celslm
