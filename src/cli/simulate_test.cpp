#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "cli/test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::Invocation;

json simulated(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"simulate", "--edges", "12", "--duration", "60", "--json"});
  Invocation command;
  EXPECT_EQ(command.run(arguments), kExitFine) << command.errors();
  return json::parse(command.output());
}

TEST(SimulateTest, PrintsWhatCameOfAFleet) {
  const json result = simulated({"--routing", "predicted", "--link", "5g", "--link", "fibre"});
  EXPECT_GT(result["requests"], 10);
  EXPECT_EQ(result["answered"], result["requests"]);
  EXPECT_GT(result["p95_ttft_ms"], result["p50_ttft_ms"]);
  EXPECT_GT(result["bytes_cloud"], 0);
  EXPECT_EQ(result["edges"], 12);
}

TEST(SimulateTest, FindsTheFewestClouds) {
  const std::vector<std::string> slow{"--cloud-rate", "5e6", "--prefer", "energy", "--site", "1", "--p95-ttft-ms", "20000"};
  std::vector<std::string> arguments = slow;
  arguments.insert(arguments.end(), {"--find", "clouds"});
  const int needed = simulated(arguments)["clouds_needed"];
  EXPECT_GE(needed, 2);
  arguments = slow;
  arguments.insert(arguments.end(), {"--clouds", std::to_string(needed - 1)});
  EXPECT_GT(simulated(arguments)["p95_ttft_ms"], 20'000);
  arguments.back() = std::to_string(needed);
  EXPECT_LE(simulated(arguments)["p95_ttft_ms"], 20'000);
}

TEST(SimulateTest, ReportsThatNoNumberOfCloudsIsEnough) {
  Invocation command;
  EXPECT_EQ(command.run({"simulate", "--edges", "4", "--duration", "60", "--prefer", "energy", "--site", "1", "--cloud-rate",
                         "1e5", "--find", "clouds"}),
            kExitFailed);
  EXPECT_THAT(command.errors(), HasSubstr("not even 4 clouds"));
}

TEST(SimulateTest, FindsHowMuchAFleetCanTake) {
  const json result = simulated({"--find", "capacity", "--pushed", "5", "--contexts", "5", "--context-memory", "1e9"});
  EXPECT_GT(result["capacity_factor"], 1);
  EXPECT_LE(result["p95_ttft_ms"], 2000);
}

TEST(SimulateTest, NumbersThatNoSimulationEndsWithAreRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"--zipf", "nan"},       {"--prefill", "nan"},      {"--duration", "1e18"},        {"--decode-base", "0"},
      {"--time-scale", "nan"}, {"--edge-mtbf", "1e-9"},   {"--cloud-mtbf", "1e-300"},    {"--repair", "1e18"},
      {"--down", "nan"},       {"--p95-ttft-ms", "-nan"}, {"--requests-per-edge", "inf"}};
  for (const auto& [option, value] : cases) {
    Invocation command;
    EXPECT_NE(command.run({"simulate", option, value}), kExitFine) << option;
    EXPECT_THAT(command.errors(), HasSubstr(option));
  }
  Invocation command;
  EXPECT_EQ(command.run({"simulate", "--duration", "1e9", "--requests-per-edge", "1e6"}), kExitFailed);
  EXPECT_THAT(command.errors(), HasSubstr("--requests-per-edge"));
}

TEST(SimulateTest, ClientsGiveUpWhereEdgesFailAllTheTime) {
  const json result =
      simulated({"--edge-mtbf", "1", "--repair", "1", "--answer-tokens", "100000", "--requests-per-edge", "0.01"});
  EXPECT_EQ(result["answered"].get<int>() + result["refused"].get<int>(), result["requests"]);
  EXPECT_GT(result["refused"], 0);
}

TEST(SimulateTest, ReadsATrace) {
  const json result = simulated({"--trace", "tests/bench/trace.jsonl"});
  EXPECT_EQ(result["requests"], 78);
  EXPECT_GT(result["contexts"], 0);
}

TEST(SimulateTest, NamesTheFileAndTheLineOfABadTrace) {
  const auto file = std::filesystem::temp_directory_path() / "celslm-bad-trace.jsonl";
  std::ofstream(file) << "{\"timestamp\": 1}\n";
  Invocation command;
  EXPECT_EQ(command.run({"simulate", "--trace", file.string()}), kExitFailed);
  EXPECT_THAT(command.errors(), testing::AllOf(HasSubstr(file.string()), HasSubstr("line 1"), HasSubstr("input_length")));
  std::filesystem::remove(file);
}

TEST(PrivacyAuditTest, RefusesWhatCannotBeCompared) {
  Invocation command;
  EXPECT_EQ(command.run({"privacy-audit", "--model", "m.gguf", "--texts", "short", "--rounds", "1"}), kExitUsage);
  EXPECT_THAT(command.errors(), HasSubstr("cannot be compared"));
}

TEST(PrivacyAuditTest, RefusesAPolicyThatDoesNotExist) {
  Invocation command;
  EXPECT_EQ(command.run({"privacy-audit", "--model", "m.gguf", "--policy", "none"}), kExitUsage);
  EXPECT_THAT(command.errors(), HasSubstr("--policy"));
}

}  // namespace
}  // namespace celslm
