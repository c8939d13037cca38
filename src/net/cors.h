// Cross-origin requests: what a browser sends for a page of another site, and which of them a server takes.
//
// A browser lets any page send some requests without asking first, POST with text/plain among them: the page cannot read the
// answer, but the server has done the work. So requests that do something are refused when they come from a page of another
// origin, unless the operator allowed that origin.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace celslm {

using Headers = std::map<std::string, std::string>;  // a request's: names in lower case

// "*", "null" (pages without an origin: files, sandboxed frames) or scheme://host[:port]. kInvalid for anything else.
Status check_origins(const std::vector<std::string>& origins);

// Immutable; thread-safe.
class CrossOrigin {
 public:
  // allowed: as check_origins() takes them. loopback: whether only this box is meant to ask, and without a token.
  explicit CrossOrigin(std::vector<std::string> allowed, bool loopback = false);

  // Asked by a name that anybody may own (with a dot, and no address): what a page of another site does whose name was made
  // to lead to this box, so that the browser takes this server for the page's own (DNS rebinding).
  bool names_another_host(const Headers& request) const;

  // A page of another origin, which is not allowed, asks for something other than reading.
  bool refuses(std::string_view method, const Headers& request) const;
  // The question that a browser asks before a request, and its answer; empty headers for an origin that is not allowed.
  static bool is_preflight(std::string_view method, const Headers& request);
  Headers preflight_headers(const Headers& request) const;
  // What lets the page read an answer: to be added to every one, errors included. Empty where there is nothing to add.
  Headers answer_headers(const Headers& request) const;

 private:
  bool allows(std::string_view origin) const;

  std::vector<std::string> allowed_;
  bool loopback_;
};

}  // namespace celslm
