#include "serve/page/page.h"

#include <algorithm>
#include <array>
#include <utility>

namespace celslm {
namespace {

// No other origin may supply, frame or receive anything of the page, and nothing in a text may become a script.
constexpr const char* kPolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

bool belongs(std::string_view file, PageOf of) {
  const bool edges = file.starts_with("edge.") || file == "layers.js";
  const bool clouds = file.starts_with("cloud.");
  return of == PageOf::kEdge ? !clouds : !edges;
}

std::string path_of(std::string_view file) {
  return file.ends_with(".html") ? "/" : "/" + std::string(file);
}

std::string content_type(std::string_view file) {
  static constexpr std::array<std::pair<std::string_view, const char*>, 4> kTypes{{
      {".html", "text/html; charset=utf-8"},
      {".css", "text/css; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".svg", "image/svg+xml"},
  }};
  return std::ranges::find_if(kTypes, [&](const auto& type) { return file.ends_with(type.first); })->second;
}

HttpResponse response(const PageFile& file) {
  return {.content_type = content_type(file.name),
          .headers = {{"Content-Security-Policy", kPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}},  // a new version of the program brings new files
          .body = std::string(file.content)};
}

}  // namespace

void add_page(HttpServer& server, PageOf of) {
  for (const PageFile& file : page_files()) {
    if (belongs(file.name, of))
      server.route("GET", path_of(file.name), [&file](const HttpRequest&) { return response(file); });
  }
}

std::vector<std::string> page_paths(PageOf of) {
  std::vector<std::string> out;
  for (const PageFile& file : page_files()) {
    if (belongs(file.name, of)) out.push_back(path_of(file.name));
  }
  return out;
}

}  // namespace celslm
