#include "cli/terminal/model_files.h"

#include <algorithm>
#include <vector>

namespace celslm {
namespace {

std::vector<std::string> models_in(const std::filesystem::path& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error); !error && it != std::filesystem::directory_iterator();
       it.increment(error)) {
    if (it->path().extension() == ".gguf") out.push_back(it->path().filename().string());
  }
  std::ranges::sort(out);
  return out;
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

Result<std::filesystem::path> models_folder(const Environment& env) {
  if (const auto cache = env.variable("CELSLM_CACHE"); cache && !cache->empty())
    return std::filesystem::path(*cache) / "models";
  if (const auto xdg = env.variable("XDG_CACHE_HOME"); xdg && xdg->starts_with('/'))
    return std::filesystem::path(*xdg) / "celslm/models";
  if (const auto home = env.variable("HOME"); home && !home->empty())
    return std::filesystem::path(*home) / ".cache/celslm/models";
  return fail(ErrorKind::kNotFound, "none of CELSLM_CACHE, XDG_CACHE_HOME and HOME is set: there is no folder for models");
}

Result<std::filesystem::path> find_model_file(const Environment& env, const std::filesystem::path& name) {
  if (std::filesystem::exists(name) || name.has_parent_path()) return name;
  const auto folder = models_folder(env);
  if (!folder) return name;
  for (const std::string& file : {name.string(), name.string() + ".gguf"}) {
    if (std::filesystem::is_regular_file(*folder / file)) return *folder / file;
  }
  const std::vector<std::string> all = models_in(*folder);
  std::vector<std::string> matching;
  std::ranges::copy_if(all, std::back_inserter(matching),
                       [&](const std::string& m) { return m.starts_with(name.string()); });
  if (matching.size() == 1) return *folder / matching.front();
  if (matching.size() > 1)
    return fail(ErrorKind::kNotFound, "'{}' begins several models of {}: {}", name.string(), folder->string(),
                joined(matching));
  return fail(ErrorKind::kNotFound, "{}: there is no such file, and no such model in {} ({})", name.string(),
              folder->string(), all.empty() ? "which has none: 'celslm model get URL' fetches one" : joined(all));
}

}  // namespace celslm
