#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "cli/commands.h"
#include "cli/edge_options.h"
#include "cli/listen_options.h"
#include "cli/terminal/model_loading.h"
#include "cli/test_support.h"
#include "kv/pack/pack.h"
#include "kv/studied/studied.h"
#include "model/engine/model.h"
#include "net/http_client.h"
#include "serve/wire/protocol.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;
using testing_support::Invocation;
using testing_support::TemporaryFolder;

void write(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path) << content;
}

// `celslm cloud` with a random model on a free port, on a thread of its own.
class RunningCloud {
 public:
  explicit RunningCloud(const TemporaryFolder& folder) {
    testing_support::write_random_model(folder / "model.gguf", {});
    auto line = invocation_.out_buffer.line();
    ended_ = std::async(std::launch::async, [this, &folder] {
      const int code = invocation_.run({"cloud", "--model", folder / "model.gguf", "--port", "0", "--data", folder / "data",
                                        "--threads", "1", "--log-level", "off"});
      invocation_.out_buffer.end();
      return code;
    });
    line_ = line.get();
  }
  ~RunningCloud() {
    if (ended_.valid()) stop();
  }
  int stop() {
    invocation_.signals.request_stop();
    return ended_.get();
  }
  const std::string& line() const { return line_; }
  std::string url() const { return line_.substr(std::min(line_.size(), std::string_view("listening on ").size())); }

 private:
  Invocation invocation_;
  std::future<int> ended_;
  std::string line_;
};

TEST(CommandLineTest, ADeviceThatIsFullIsAFailure) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP();
  for (const char* option : {"--help", "--version"}) {
    Invocation invocation;
    std::ofstream full("/dev/full");
    invocation.out.rdbuf(full.rdbuf());
    EXPECT_EQ(invocation.run({option}), kExitFailed) << option;
    EXPECT_THAT(invocation.errors(), HasSubstr("cannot write the output"));
  }
}

TEST(CommandLineTest, HelpGoesToStandardOutputWithExamples) {
  Invocation all;
  EXPECT_EQ(all.run({"--help"}), kExitFine);
  for (const char* command : {"cloud", "context", "pack"}) EXPECT_THAT(all.output(), HasSubstr(command));
  Invocation cloud;
  EXPECT_EQ(cloud.run({"cloud", "--help"}), kExitFine);
  EXPECT_THAT(cloud.output(), HasSubstr("celslm cloud --model"));
}

TEST(CommandLineTest, MisuseIsOneLineOnStandardErrorAndExitCodeTwo) {
  const std::vector<std::vector<std::string>> cases{
      {},
      {"clowd"},
      {"cloud"},
      {"cloud", "--model", "m.gguf", "--port", "70000"},
      {"cloud", "--model", "m.gguf", "--log-level", "loud"},
      {"cloud", "--model", "m.gguf", "--host", "0.0.0.0"},
      {"cloud", "--model", "m.gguf", "--tls-cert", "cert.pem"},
      {"cloud", "--model", "m.gguf", "--pack-budget", "many"},
      {"context"},
      {"context", "put"},
      {"pack", "inspect"},
  };
  for (const auto& arguments : cases) {
    Invocation invocation;
    EXPECT_EQ(invocation.run(arguments), kExitUsage) << testing::PrintToString(arguments);
    EXPECT_THAT(invocation.errors(), StartsWith("celslm: "));
    EXPECT_EQ(std::ranges::count(invocation.errors(), '\n'), 1) << invocation.errors();
    EXPECT_THAT(invocation.errors(), HasSubstr(arguments.empty() ? "celslm --help" : "--"));
    EXPECT_EQ(invocation.output(), "");
  }
}

TEST(CommandLineTest, OtherMachinesAreServedWithoutTlsOnlyOnRequest) {
  EXPECT_THAT(server_options({.host = "0.0.0.0"}).error().message, HasSubstr("--insecure"));
  EXPECT_TRUE(server_options({.host = "0.0.0.0", .insecure = true}));
  EXPECT_TRUE(server_options({.host = "127.0.0.1"}));
  EXPECT_TRUE(server_options({.host = "0.0.0.0", .tls_certificate_file = "c", .tls_key_file = "k"}));
}

TEST(CommandLineTest, AnEdgeForwardsRegistrationsWhereItIsAsCarefulAsItsCloud) {
  const auto forwards = [](const char* cloud_token, const char* own_token) {
    return complete_options({.cloud = {.token_file = cloud_token}, .listen = {.token_file = own_token}})
        ->forwards_registrations;
  };
  EXPECT_TRUE(forwards("", ""));
  EXPECT_TRUE(forwards("", "own"));
  EXPECT_TRUE(forwards("cloud", "own"));
  EXPECT_FALSE(forwards("cloud", ""));
}

TEST(CommandLineTest, ATokenIsTheFilesContentWithoutTheSpaceAroundIt) {
  const TemporaryFolder folder;
  write(folder / "token", "  secret\n");
  EXPECT_EQ(server_options({.token_file = folder / "token"})->bearer_token, "secret");
  write(folder / "empty", "\n");
  EXPECT_THAT(read_token(folder / "empty").error().message, HasSubstr("empty"));
  EXPECT_EQ(read_token(folder / "none").error().kind, ErrorKind::kNotFound);
}

TEST(CommandLineTest, DataLivesWhereXdgSays) {
  Invocation invocation;
  const auto folder = [&](std::map<std::string, std::string> variables) {
    Environment env{
        .out = invocation.out,
        .err = invocation.err,
        .in = invocation.in,
        .variable =
            [&](const char* name) { return variables.contains(name) ? std::optional(variables.at(name)) : std::nullopt; },
        .signals = invocation.signals,
        .clock = invocation.clock,
        .action = {}};
    return default_data_folder(env);
  };
  EXPECT_EQ(folder({{"XDG_DATA_HOME", "/x"}, {"HOME", "/h"}})->string(), "/x/celslm");
  EXPECT_EQ(folder({{"XDG_DATA_HOME", "relative"}, {"HOME", "/h"}})->string(), "/h/.local/share/celslm");
  EXPECT_FALSE(folder({}));
}

TEST(CommandLineTest, AFileThatIsNoModelEndsWithCodeOneAndItsName) {
  const TemporaryFolder folder;
  write(folder / "text.gguf", "this is no model");
  Invocation invocation;
  EXPECT_EQ(invocation.run({"cloud", "--model", folder / "text.gguf", "--port", "0", "--data", folder / "data"}),
            kExitFailed);
  EXPECT_THAT(invocation.errors(), HasSubstr("text.gguf"));
  EXPECT_EQ(invocation.output(), "");
}

// A cloud that cannot start; gives what it says.
std::string refused_cloud(const TemporaryFolder& folder, const std::string& data, const std::string& port = "0") {
  if (!std::filesystem::exists(folder / "model.gguf")) testing_support::write_random_model(folder / "model.gguf", {});
  Invocation invocation;
  EXPECT_EQ(invocation.run({"cloud", "--model", folder / "model.gguf", "--port", port, "--data", data, "--threads", "1",
                            "--log-level", "off"}),
            kExitFailed);
  EXPECT_EQ(invocation.output(), "") << "it never claims to listen";
  return invocation.errors();
}

TEST(CommandLineTest, APortInUseIsNamedWithTheRemedy) {
  const TemporaryFolder folder;
  RunningCloud cloud(folder);
  const std::string port = cloud.url().substr(cloud.url().rfind(':') + 1);
  const std::string errors = refused_cloud(folder, folder / "other", port);
  EXPECT_THAT(errors, HasSubstr(port));
  EXPECT_THAT(errors, HasSubstr("--port"));
}

TEST(CommandLineTest, ADataFolderThatCannotBeMadeIsNamed) {
  const TemporaryFolder folder;
  write(folder / "file", "in the way");
  EXPECT_THAT(refused_cloud(folder, folder / "file/data"), HasSubstr((folder / "file/data").string()));
}

TEST(CommandLineTest, AFolderThatHoldsSomethingElseIsLeftAlone) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "data/cloud/packs");
  write(folder / "data/cloud/packs/thesis.txt", "years of work");
  EXPECT_THAT(refused_cloud(folder, folder / "data"), HasSubstr((folder / "data/cloud/packs").string()));
  EXPECT_TRUE(std::filesystem::exists(folder / "data/cloud/packs/thesis.txt"));
}

TEST(CommandLineTest, ACloudThatIsNotThereIsNamedWithTheRemedy) {
  const TemporaryFolder folder;
  write(folder / "text", "x");
  Invocation invocation;
  EXPECT_EQ(invocation.run({"context", "put", folder / "text", "--cloud", "http://127.0.0.1:1"}), kExitFailed);
  EXPECT_THAT(invocation.errors(), HasSubstr("127.0.0.1:1"));
  EXPECT_THAT(invocation.errors(), HasSubstr("celslm cloud"));
}

TEST(CommandLineTest, ATextThatCannotBeAContextIsRefusedBeforeItIsSent) {
  const TemporaryFolder folder;
  write(folder / "binary", "\xff\xfe");
  Invocation invocation;
  EXPECT_EQ(invocation.run({"context", "put", folder / "binary", "--cloud", "http://127.0.0.1:1"}), kExitFailed);
  EXPECT_THAT(invocation.errors(), HasSubstr("UTF-8"));
}

TEST(CommandLineTest, RegistersListsAndRemovesContextsAtACloud) {
  const TemporaryFolder folder;
  RunningCloud cloud(folder);
  ASSERT_THAT(cloud.line(), StartsWith("listening on http://127.0.0.1:"));
  write(folder / "manual.txt", "a manual");
  const std::string handle = context_handle("a manual").hex();

  Invocation put;
  ASSERT_EQ(put.run({"context", "put", folder / "manual.txt", "--cloud", cloud.url()}), kExitFine) << put.errors();
  EXPECT_EQ(put.output(), handle + "\n");
  Invocation piped;
  piped.in.str("from a pipe");
  ASSERT_EQ(piped.run({"context", "put", "-", "--name", "piped", "--cloud", cloud.url()}), kExitFine) << piped.errors();

  Invocation list;
  ASSERT_EQ(list.run({"context", "list", "--cloud", cloud.url()}), kExitFine);
  EXPECT_THAT(list.output(), HasSubstr(handle));
  EXPECT_THAT(list.output(), HasSubstr("manual.txt"));
  EXPECT_THAT(list.output(), HasSubstr("piped"));

  Invocation rm;
  ASSERT_EQ(rm.run({"context", "rm", handle, "--cloud", cloud.url()}), kExitFine) << rm.errors();
  Invocation again;
  EXPECT_EQ(again.run({"context", "rm", handle, "--cloud", cloud.url()}), kExitFailed);
  EXPECT_THAT(again.errors(), HasSubstr(handle));
  EXPECT_EQ(cloud.stop(), kExitFine);
}

// The main job of a cloud, with a real engine: a random model's KV as a verified pack.
TEST(CommandLineTest, ACloudComputesAPackThatInspectFindsGood) {
  const TemporaryFolder folder;
  RunningCloud cloud(folder);
  std::string text;
  for (int i = 0; i < 60; ++i) text += fmt::format("line {}. ", i);
  write(folder / "text", text);
  Invocation put;
  ASSERT_EQ(put.run({"context", "put", folder / "text", "--cloud", cloud.url()}), kExitFine) << put.errors();

  const auto client = *make_http_client({.base_url = cloud.url()});
  const auto model = Model::load(folder / "model.gguf");
  ASSERT_TRUE(model) << model.error().message;
  const auto path = [&](std::string_view part) {
    return pack_path(context_handle(text), (*model)->fingerprint().id(), "f16", part);
  };
  ASSERT_EQ(client->call({.path = path("header")})->status, 202);
  ASSERT_EQ(client->call({.path = path("entries"), .timeout = 0ms, .stall_timeout = 60s})->status, 200);
  const auto file = client->call({.path = path("pack")});
  ASSERT_EQ(file->status, 200);
  write(folder / "pack.kvpack", as_text(file->body));

  const auto key = client->call({.path = "/v1/key"});
  const std::string hex = nlohmann::json::parse(as_text(key->body))["public_key"];
  Invocation inspect;
  EXPECT_EQ(inspect.run({"pack", "inspect", folder / "pack.kvpack", "--key", hex}), kExitFine) << inspect.errors();
  EXPECT_THAT(inspect.output(), HasSubstr("f16"));
  Invocation foreign;
  EXPECT_EQ(foreign.run({"pack", "inspect", folder / "pack.kvpack", "--key", std::string(64, '0')}), kExitFailed);
  std::string damaged(as_text(file->body));
  damaged.back() ^= 1;
  write(folder / "damaged.kvpack", damaged);
  Invocation spoilt;
  EXPECT_EQ(spoilt.run({"pack", "inspect", folder / "damaged.kvpack", "--key", hex}), kExitFailed);
  EXPECT_THAT(spoilt.output(), HasSubstr("BAD"));

  Invocation convert;
  EXPECT_EQ(convert.run({"pack", "convert", folder / "pack.kvpack", "--codec", "t3", "--out", folder / "small.kvpack",
                         "--signing-key", folder / "key"}),
            kExitFine)
      << convert.errors();
  Invocation small;
  EXPECT_EQ(small.run({"pack", "inspect", folder / "small.kvpack"}), kExitFine) << small.output();
  Invocation apart;
  EXPECT_EQ(apart.run({"pack", "diff", folder / "pack.kvpack", folder / "small.kvpack"}), kExitFailed);
  EXPECT_THAT(apart.output(), HasSubstr("codec"));
  Invocation alike;
  EXPECT_EQ(alike.run({"pack", "diff", folder / "pack.kvpack", folder / "pack.kvpack"}), kExitFine) << alike.errors();
  EXPECT_EQ(
      parse_header(ByteView(file->body).first(*peek_header_bytes(file->body)), *PublicKey::from_hex(hex))->identity.tokens,
      *(*model)->text().context(text));
}

TEST(CommandLineTest, TokensOfChatsArePrinted) {
  const TemporaryFolder folder;
  testing_support::write_random_model(folder / "model.gguf", {});
  const std::string chat = R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}]})";
  write(folder / "chats.jsonl", chat + "\n" + R"({"messages": [{"role": "user", "content": "x"}]})");
  Invocation lines;
  ASSERT_EQ(lines.run({"tokens", folder / "chats.jsonl", "--model", folder / "model.gguf", "--json"}), kExitFine)
      << lines.errors();
  const auto text = *Text::load(folder / "model.gguf");
  const std::string output = lines.output();
  const auto first = nlohmann::json::parse(output.substr(0, output.find('\n')));
  EXPECT_EQ(first["tokens"].get<std::vector<Token>>(), text->chat({{{"system", "Be brief."}, {"user", "x"}}}).value());
  EXPECT_EQ(first["n_context"], text->context("Be brief.")->size());
  EXPECT_EQ(first["context"], context_handle("Be brief.").hex());
  EXPECT_EQ(nlohmann::json::parse(output.substr(output.find('\n')))["n_context"], 0);

  Invocation person;
  person.in.str(chat);
  EXPECT_EQ(person.run({"tokens", "-", "--model", folder / "model.gguf"}), kExitFine) << person.errors();
  EXPECT_THAT(person.output(), HasSubstr(" \"<|im_start|>\"\n"));
  EXPECT_THAT(person.errors(), HasSubstr("as a registered context"));

  write(folder / "chats.jsonl", chat + "\n{}\n");
  Invocation wrong;
  EXPECT_EQ(wrong.run({"tokens", folder / "chats.jsonl", "--model", folder / "model.gguf"}), kExitFailed);
  EXPECT_THAT(wrong.errors(), HasSubstr("line 2"));
}

TEST(CommandLineTest, AModelAndItsIdArePrinted) {
  const TemporaryFolder folder;
  testing_support::write_random_model(folder / "model.gguf", {});
  Invocation lines;
  ASSERT_EQ(lines.run({"model", folder / "model.gguf", "--json"}), kExitFine) << lines.errors();
  const auto facts = nlohmann::json::parse(lines.output());
  const auto model = *Model::load(folder / "model.gguf");
  EXPECT_EQ(facts["model_id"], model->fingerprint().id().hex());
  EXPECT_EQ(facts["n_layers"], model->config().n_layers);

  Invocation person;
  EXPECT_EQ(person.run({"model", folder / "model.gguf"}), kExitFine) << person.errors();
  EXPECT_THAT(person.output(), HasSubstr("model_id      " + model->fingerprint().id().hex() + "\n"));
  Invocation wrong;
  EXPECT_EQ(wrong.run({"model", folder / "none.gguf"}), kExitFailed);
}

TEST(CommandLineTest, AModelThatCannotChatIsReportedWhereItIsLoaded) {
  const TemporaryFolder folder;
  testing_support::write_random_model(folder / "model.gguf", {.chat_template = "{% for m in messages %}"});
  Invocation invocation;
  std::ostringstream err;
  Environment env{.out = invocation.out,
                  .err = err,
                  .in = invocation.in,
                  .variable = {},
                  .signals = invocation.signals,
                  .clock = invocation.clock,
                  .action = {}};
  ASSERT_TRUE(load_model(env, folder / "model.gguf"));
  EXPECT_THAT(err.str(), HasSubstr("model.gguf: no chats with this model: the model's chat template cannot be used"));
}

TEST(SignalWatchTest, AnArmedWatchAsksToStopOnTheFirstSignal) {
  SignalWatch signals;
  signals.arm();
  ::kill(::getpid(), SIGTERM);
  signals.wait();
  EXPECT_TRUE(signals.stop().stop_requested());
}

TEST(SignalWatchDeathTest, ASignalBeforeThatEndsTheProcess) {
  EXPECT_EXIT(
      {
        SignalWatch signals;
        ::kill(::getpid(), SIGTERM);
        signals.wait();
      },
      testing::KilledBySignal(SIGTERM), "");
}

TEST(SignalWatchDeathTest, TheSecondSignalEndsTheProcessAtOnce) {
  EXPECT_EXIT(
      {
        SignalWatch signals;
        signals.arm();
        ::kill(::getpid(), SIGINT);
        signals.wait();
        ::kill(::getpid(), SIGINT);
        std::promise<void>().get_future().wait();
      },
      testing::KilledBySignal(SIGINT), "");
}

TEST(CommandLineTest, CondenseWritesShortKvOfEachStudiedContextOnce) {
  const TemporaryFolder folder;
  testing_support::write_random_model(folder / "model.gguf", {});
  write(folder / "study.jsonl",
        R"({"id": "a", "metric": "squad_em_f1", "context": "the boat carries a letter to another harbour, where it rained",)"
        R"( "questions": [{"q": "where did it rain?", "answers": ["another harbour"]}]})");
  const auto condense = [&](Invocation& run, const std::string& rows) {
    return run.run({"condense", "--model", folder / "model.gguf", "--study", folder / "study.jsonl", "--out", folder / "out",
                    "--rows", rows, "--threads", "1"});
  };
  Invocation first;
  ASSERT_EQ(condense(first, "1/4"), kExitFine) << first.errors();
  EXPECT_THAT(first.output(), HasSubstr(" rows for "));
  const auto files = std::filesystem::directory_iterator(folder / "out");
  ASSERT_EQ(std::distance(begin(files), end(files)), 1);
  const auto path = std::filesystem::directory_iterator(folder / "out")->path();
  const auto made = read_studied(path).value().context;
  EXPECT_EQ(made.context,
            context_handle("Use the text below to answer the user's questions.\n\nthe boat carries a letter to "
                           "another harbour, where it rained"));
  EXPECT_EQ(made.kv.n_tokens, static_cast<int>(made.tokens.size()));
  EXPECT_EQ(made.kv.n_rows, made.kv.n_tokens / 4);
  EXPECT_THAT(made.recipe, HasSubstr("1/4 of the rows"));
  Invocation again;
  ASSERT_EQ(condense(again, "1/4"), kExitFine);
  EXPECT_EQ(again.output(), "") << "it is there";
  Invocation other;
  ASSERT_EQ(condense(other, "1/2"), kExitFine);
  EXPECT_EQ(read_studied(path).value().context.kv.n_rows, made.kv.n_tokens / 2);
  for (const char* rows : {"4", "1/0", "1/4x", "1/-2", ""}) {
    Invocation refused;
    EXPECT_EQ(condense(refused, rows), kExitFailed) << rows;
    EXPECT_THAT(refused.errors(), HasSubstr("such as 1/4"));
  }
}

}  // namespace
}  // namespace celslm
