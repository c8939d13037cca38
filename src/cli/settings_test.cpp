#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/terminal/model_files.h"
#include "cli/test_support.h"
#include "net/http_server.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing_support::Invocation;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

std::string content(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

TEST(SettingsTest, AVariableSetsAnOptionAndTheCommandLineWins) {
  Invocation wrong;
  wrong.variables["CELSLM_EDGE_PORT"] = "70000";
  EXPECT_EQ(wrong.run({"edge", "--model", "m.gguf"}), kExitUsage);
  EXPECT_THAT(wrong.errors(), HasSubstr("--port"));
  Invocation right;
  right.variables = wrong.variables;
  EXPECT_EQ(right.run({"edge", "--model", "/no/such.gguf", "--port", "0", "--data", testing::TempDir()}), kExitFailed);
  EXPECT_THAT(right.errors(), HasSubstr("/no/such.gguf"));
}

TEST(SettingsTest, AVariableSatisfiesARequiredOption) {
  Invocation program;
  program.variables = {{"CELSLM_EDGE_MODEL", "/no/such.gguf"}, {"CELSLM_EDGE_DATA", testing::TempDir()}};
  EXPECT_EQ(program.run({"edge"}), kExitFailed);
  EXPECT_THAT(program.errors(), HasSubstr("/no/such.gguf"));
}

TEST(SettingsTest, AVariableGivesSeveralValuesToAList) {
  Invocation program;
  program.variables = {{"CELSLM_CLOUD_MODEL", "/no/one.gguf,/no/two.gguf"}, {"CELSLM_CLOUD_DATA", testing::TempDir()}};
  EXPECT_EQ(program.run({"cloud"}), kExitFailed);
  EXPECT_THAT(program.errors(), AllOf(HasSubstr("/no/one.gguf"), Not(HasSubstr("one.gguf,"))));
}

TEST(SettingsTest, AFileHasASectionForEachCommand) {
  const TemporaryFolder folder;
  std::ofstream(folder / "celslm.toml") << fmt::format(
      "[edge]\nmodel = \"/no/such.gguf\"\ndata = \"{}\"\nrefine = true\n[cloud]\nmodel = [\"a\", \"b\"]\n",
      (folder / "data").string());
  Invocation program;
  EXPECT_EQ(program.run({"edge", "--config", folder / "celslm.toml"}), kExitFailed);
  EXPECT_THAT(program.errors(), HasSubstr("/no/such.gguf"));
  Invocation missing;
  EXPECT_EQ(missing.run({"edge", "--config", folder / "nowhere.toml"}), kExitUsage);
}

TEST(SettingsTest, AWrongValueOfTheFileIsReported) {
  const TemporaryFolder folder;
  std::ofstream(folder / "celslm.toml") << "[edge]\nmodel = \"m.gguf\"\nport = 70000\n";
  Invocation program;
  EXPECT_EQ(program.run({"edge", "--config", folder / "celslm.toml"}), kExitUsage);
  EXPECT_THAT(program.errors(), HasSubstr("port"));
}

TEST(SettingsTest, AMisspelledKeyOfTheFileIsReported) {
  const TemporaryFolder folder;
  std::ofstream(folder / "celslm.toml") << "[edge]\nmodel = \"m.gguf\"\nmax-userz = 4\n";
  Invocation program;
  EXPECT_EQ(program.run({"edge", "--config", folder / "celslm.toml"}), kExitUsage);
  EXPECT_THAT(program.errors(), AllOf(HasSubstr("max-userz"), HasSubstr("celslm.toml"), Not(HasSubstr("INI"))));
}

TEST(SettingsTest, AFileThatCannotBeOneOfOptionsIsNotRead) {
  for (const char* file : {"/dev/zero", "/dev", "/no/such.toml"}) {
    Invocation program;
    EXPECT_EQ(program.run({"edge", "--config", file, "--model", "m.gguf"}), kExitUsage);
    EXPECT_THAT(program.errors(), HasSubstr(file));
  }
}

TEST(ReferenceTest, CompletionsAndManualPagesHaveEveryOption) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    Invocation program;
    EXPECT_EQ(program.run({"completion", shell}), kExitFine);
    EXPECT_THAT(program.output(), AllOf(HasSubstr("max-users"), HasSubstr("prefill"), Not(HasSubstr("least-agreement"))));
  }
  Invocation page;
  EXPECT_EQ(page.run({"man", "edge"}), kExitFine);
  EXPECT_THAT(page.output(), AllOf(HasSubstr(".SH OPTIONS"), HasSubstr("max\\-users"), HasSubstr("CELSLM_EDGE_MAX_USERS")));
  Invocation unknown;
  EXPECT_EQ(unknown.run({"man", "edgy"}), kExitFailed);
}

// A server of one file, by range, behind a redirection.
class ModelServer {
 public:
  explicit ModelServer(std::string file) : file_(std::move(file)), server_(*HttpServer::create({}, null_log())) {
    server_->route("GET", "/m.gguf", [](const HttpRequest&) {
      return HttpResponse{.status = 302, .headers = {{"Location", "/real/m.gguf"}}};
    });
    server_->route("GET", "/real/m.gguf", [this](const HttpRequest& request) {
      const auto range = *parse_range(request.header("range"), file_.size());
      if (!range) return HttpResponse{.body = file_};
      fetched += range->end - range->first;
      return HttpResponse{
          .status = 206,
          .headers = {{"Content-Range", fmt::format("bytes {}-{}/{}", range->first, range->end - 1, file_.size())}},
          .body = file_.substr(range->first, range->end - range->first)};
    });
    EXPECT_TRUE(server_->start());
  }
  ~ModelServer() { server_->stop({}); }
  std::string url() const { return server_->url() + "/m.gguf"; }
  std::atomic<std::uint64_t> fetched = 0;

 private:
  const std::string file_;
  std::unique_ptr<HttpServer> server_;
};

TEST(ModelGetTest, FetchesChecksAndIsFoundByName) {
  const TemporaryFolder folder;
  write_random_model(folder / "source.gguf", {});
  const ModelServer server(content(folder / "source.gguf"));
  Invocation program;
  program.variables["CELSLM_CACHE"] = (folder / "cache").string();
  ASSERT_EQ(program.run({"model", "get", server.url()}), kExitFine) << program.errors();
  EXPECT_EQ(program.output(), (folder / "cache/models/m.gguf").string() + "\n");
  EXPECT_EQ(content(folder / "cache/models/m.gguf"), content(folder / "source.gguf"));
  Invocation shown;
  shown.variables = program.variables;
  EXPECT_EQ(shown.run({"model", "m"}), kExitFine) << shown.errors();
  Invocation wrong;
  wrong.variables = program.variables;
  EXPECT_EQ(wrong.run({"model", "get", server.url(), "--sha256", std::string(64, 'a')}), kExitFailed);
  EXPECT_THAT(wrong.errors(), HasSubstr("SHA-256"));
}

TEST(ModelGetTest, KeepsNothingThatIsNotTheModelExpected) {
  const TemporaryFolder folder;
  write_random_model(folder / "source.gguf", {});
  std::ofstream(folder / "text.gguf") << "no model";
  Invocation program;
  program.variables["CELSLM_CACHE"] = (folder / "cache").string();
  EXPECT_EQ(program.run({"model", "get", folder / "source.gguf", "--sha256", std::string(64, 'a')}), kExitFailed);
  EXPECT_EQ(program.run({"model", "get", folder / "text.gguf"}), kExitFailed);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "cache/models"));
}

TEST(ModelGetTest, GoesOnWhereItWasInterrupted) {
  const TemporaryFolder folder;
  const std::string file(40U << 20, 'x');  // three pieces; not a model: what is kept of it is
  const ModelServer server(file);
  Invocation program;
  program.variables["CELSLM_CACHE"] = (folder / "cache").string();
  std::filesystem::create_directories(folder / "cache/models");
  std::ofstream(folder / "cache/models/m.gguf.part", std::ios::binary) << file.substr(0, 33U << 20);
  EXPECT_EQ(program.run({"model", "get", server.url()}), kExitFailed);  // as it is no model
  EXPECT_EQ(server.fetched, 8U << 20);
}

TEST(DoctorTest, ReportsWhatFailedAndHowFit) {
  const TemporaryFolder folder;
  write_random_model(folder / "m.gguf", {});
  Invocation program;
  program.variables["XDG_DATA_HOME"] = folder.path().string();
  EXPECT_EQ(program.run({"doctor", "--port", "0", "--model", folder / "m.gguf", "--json"}), kExitFine) << program.errors();
  const json report = json::parse(program.output());
  EXPECT_EQ(report["fit"], true);
  EXPECT_THAT(report["checks"].dump(),
              AllOf(HasSubstr("\"cpu\""), HasSubstr("\"memory\""), HasSubstr("1,000 tokens takes")));
  Invocation broken;
  broken.variables = program.variables;
  EXPECT_EQ(broken.run({"doctor", "--port", "0", "--cloud", "http://127.0.0.1:1"}), kExitFailed);
  EXPECT_THAT(broken.output(), HasSubstr("failed"));
}

}  // namespace
}  // namespace celslm
