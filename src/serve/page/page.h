// The page that an edge and a cloud show to a browser: files of src/serve/page/assets, which are part of the program.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_server.h"

namespace celslm {

enum class PageOf { kEdge, kCloud };

// Serves the page at "/" and the files that it loads beside it. They refer to nothing outside this server, and the
// Content-Security-Policy forbids that they do. What they show comes from the server's JSON, with the user's token.
void add_page(HttpServer& server, PageOf of);

// The paths of all that, for HttpServerOptions::open_paths: a browser cannot send a token before the page has asked for it.
// The files are the same for everybody.
std::vector<std::string> page_paths(PageOf of);

struct PageFile {
  std::string_view name;  // "page.css"
  std::string_view content;
};
// All files, for both pages.
std::span<const PageFile> page_files();

}  // namespace celslm
