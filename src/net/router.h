// Finds the handler for a method and a URL path.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_types.h"

namespace celslm {

// Decodes percent escapes: "%2F" becomes "/". kInvalid for a malformed escape or a control character, which could corrupt
// logs.
Result<std::string> decode_percent(std::string_view text, bool plus_is_space);

// The decoded parameters of a query; of several with the same name the first is used. Errors of decode_percent.
Result<std::map<std::string, std::string>> parse_query(std::string_view query);

// Not thread-safe while routes are added; find() is thread-safe afterwards. The first matching route wins.
class Router {
 public:
  // for_nodes: kept for Match.
  void add(std::string_view method, std::string_view pattern, HttpHandler handler, bool for_nodes = false);

  struct Match {
    const HttpHandler* handler = nullptr;
    std::map<std::string, std::string> parameters;
    int status = 404;   // 200 if there is a handler; else 400, 404 or 405
    std::string allow;  // for 405: the supported methods
    bool for_nodes = false;
  };
  // `path` is not decoded yet: it is split into segments first, so that an escaped "/" does not separate segments.
  Match find(std::string_view method, std::string_view path) const;

 private:
  struct Route {
    std::string method;
    std::vector<std::string> segments;
    HttpHandler handler;
    bool for_nodes = false;
  };
  std::vector<Route> routes_;
};

}  // namespace celslm
