// Finds the handler of a method and a URL path.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_types.h"

namespace celslm {

// "%2F" becomes "/"; kInvalid for a broken escape or a control character (which no path of ours contains, and which would
// end up in logs).
Result<std::string> decode_percent(std::string_view text, bool plus_is_space);

// The query's parameters, decoded; the first of several of the same name counts. kInvalid as above.
Result<std::map<std::string, std::string>> parse_query(std::string_view query);

// Filled before the server starts; thread-safe afterwards.
class Router {
 public:
  void add(std::string_view method, std::string_view pattern, HttpHandler handler);

  struct Match {
    const HttpHandler* handler = nullptr;
    std::map<std::string, std::string> parameters;
    int status = 404;   // 200 with a handler; else 400, 404 or 405
    std::string allow;  // for 405: the methods there are
  };
  // `path` as on the wire: segments are split before they are decoded, so that an escaped "/" stays inside its segment.
  Match find(std::string_view method, std::string_view path) const;

 private:
  struct Route {
    std::string method;
    std::vector<std::string> segments;
    HttpHandler handler;
  };
  std::vector<Route> routes_;
};

}  // namespace celslm
