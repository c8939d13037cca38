// Self-study at a cloud: over real sockets on loopback, with models that are scripts.
#include "serve/cloud/study_jobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <semaphore>

#include "net/http_client.h"
#include "serve/cloud/cloud_service.h"
#include "tests/support/fake_producer.h"
#include "tests/support/random_model.h"
#include "tests/support/scripted_study.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using testing_support::boats;
using testing_support::FakeProducer;
using testing_support::ScriptedModel;
using testing_support::TemporaryFolder;

// Longer than any study here; a test that waits so long has failed.
constexpr auto kLong = 60s;

class StudyJobsTest : public testing::Test {
 protected:
  ~StudyJobsTest() override { stop(); }

  void start() {
    CloudOptions options{.data_folder = folder_.path()};
    options.studying = StudyingOptions{.study = {.budget = 9000, .questions = 59},
                                       .model = hash_of("model"),
                                       .model_name = "scripted",
                                       .open = [this](const std::string& system) { return open(system); }};
    start(options);
  }
  void start(const CloudOptions& options) {
    service_ = CloudService::create(options, {producer_}, clock_, null_log()).value();
    server_ = *HttpServer::create({.max_body_bytes = kMaxCloudBodyBytes}, null_log());
    service_->add_routes(*server_);
    ASSERT_TRUE(server_->start());
    client_ = *make_http_client({.base_url = server_->url()});
  }
  void stop() {
    if (service_) service_->shutdown();
    if (server_) server_->stop(1s);
    client_.reset();
    server_.reset();
    service_.reset();
  }

  // On the studying thread.
  Result<std::unique_ptr<StudyModel>> open(const std::string& system) {
    systems_ = systems_ + system;
    auto model = std::make_unique<ScriptedModel>();
    model->on_start = [this](int batches) {
      ++batches_;
      return on_batch_ ? on_batch_(batches) : Status();
    };
    model->on_end = [this] { ended_.release(); };
    return model;
  }
  // Until a model has been used to the end of a study, or to its failure.
  void wait_for_study() { ASSERT_TRUE(ended_.try_acquire_for(kLong)); }

  HttpAnswer call(const char* method, const std::string& path, const std::string& body = {}) {
    auto answer = client_->call({.method = method, .path = path, .body = body});
    EXPECT_TRUE(answer) << answer.error().message;
    return answer ? *std::move(answer) : HttpAnswer{};
  }
  std::string put(const std::string& text) {
    EXPECT_EQ(call("POST", "/v1/contexts", json{{"text", text}, {"name", "n"}}.dump()).status, 200);
    return "/v1/contexts/" + context_handle(text).hex();
  }
  json state(const std::string& path) {
    return json::parse(as_text(call("GET", path).body), nullptr, false).value("self_study", json());
  }
  // The study's own thread sets the state just after the model's end.
  std::string finished(const std::string& path) {
    stop();
    start();
    const HttpAnswer answer = call("GET", path + "/study");
    EXPECT_EQ(answer.status, 200) << as_text(answer.body);
    return std::string(as_text(answer.body));
  }

  const TemporaryFolder folder_;
  const SystemClock clock_;
  const std::shared_ptr<FakeProducer> producer_ = std::make_shared<FakeProducer>("small", 20'000);
  std::function<Status(int batches)> on_batch_;  // set before start()
  std::string systems_;
  std::atomic<int> batches_ = 0;
  std::counting_semaphore<> ended_{0};
  std::unique_ptr<CloudService> service_;
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<HttpClient> client_;
};

TEST_F(StudyJobsTest, ARegisteredContextIsStudiedAndItsStudyServed) {
  start();
  const std::string path = put(boats());
  wait_for_study();
  const std::string line = finished(path);
  const json study = json::parse(line);
  EXPECT_EQ(study["system"], boats()) << "the registered text is the complete system message";
  EXPECT_GT(study["questions"].size(), 5U);
  EXPECT_LE(study["study"]["tokens"], 9000);
  EXPECT_EQ(study["study"]["model"], hash_of("model").hex());
  EXPECT_EQ(state(path)["state"], "finished");
  EXPECT_EQ(state(path)["questions"], study["questions"].size());
  EXPECT_EQ(systems_, boats()) << "once, not again after the restart";
}

TEST_F(StudyJobsTest, ATextPutAsBenchQualityPutsItIsTheContextOfAFileOfQuestions) {
  start();
  const std::string path = put(std::string(kTextSystem) + boats());
  wait_for_study();
  const json study = json::parse(finished(path));
  EXPECT_EQ(study["context"], boats());
  EXPECT_FALSE(study.contains("system"));
}

TEST_F(StudyJobsTest, NothingIsStudiedWhileAPackIsComputed) {
  producer_->hold();
  start();
  const std::string text(100, 'x');
  put(text);
  wait_for_study();  // no questions about that one
  const int before = batches_;
  ASSERT_EQ(call("GET", pack_path(context_handle(text), producer_->model().fingerprint.id(), "f16", "header")).status, 202);
  std::atomic<bool> allowed = false;
  std::atomic<int> early = 0;
  on_batch_ = [&](int) {
    if (!allowed) ++early;
    return Status();
  };
  put(boats());
  EXPECT_EQ(batches_, before);
  allowed = true;
  producer_->allow(FakeProducer::kLayers);
  wait_for_study();
  EXPECT_EQ(early, 0);
  EXPECT_GT(batches_, before);
}

TEST_F(StudyJobsTest, AStudyThatFailedContinuesAfterARestartAndEndsAsOneThatDidNot) {
  start();
  const std::string path = put(boats());
  wait_for_study();
  const std::string expected = finished(path);
  EXPECT_EQ(call("DELETE", path).status, 204);
  stop();
  on_batch_ = [](int batches) {
    return batches < 5 ? Status() : fail(ErrorKind::kOverloaded, "no memory");  // in the second round
  };
  start();
  put(boats());
  wait_for_study();
  stop();
  EXPECT_TRUE(std::filesystem::exists(folder_ / "contexts" / (context_handle(boats()).hex() + ".study")));
  on_batch_ = {};
  const int before = batches_;
  start();
  wait_for_study();
  EXPECT_GT(batches_, before);
  EXPECT_EQ(finished(path), expected);
}

TEST_F(StudyJobsTest, AFailureIsShownAndNotTriedAgain) {
  on_batch_ = [](int) { return fail(ErrorKind::kOverloaded, "no memory"); };
  start();
  const std::string path = put(boats());
  wait_for_study();
  put("another text");
  wait_for_study();
  EXPECT_EQ(state(path)["state"], "failed");
  EXPECT_EQ(state(path)["error"], "no memory");
  EXPECT_THAT(std::string(as_text(call("GET", "/metrics").body)),
              HasSubstr("celslm_cloud_studies_total{model=\"scripted\",outcome=\"failed\"}"));
  const HttpAnswer answer = call("GET", path + "/study");
  EXPECT_EQ(answer.status, 404);
  EXPECT_THAT(std::string(as_text(answer.body)), HasSubstr("not finished"));
}

TEST_F(StudyJobsTest, ARemovedContextTakesItsStudyWithIt) {
  start();
  const std::string path = put(boats());
  wait_for_study();
  finished(path);
  const auto file = folder_ / "contexts" / (context_handle(boats()).hex() + ".study.jsonl");
  EXPECT_TRUE(std::filesystem::exists(file));
  EXPECT_EQ(call("DELETE", path).status, 204);
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EQ(call("GET", path + "/study").status, 404);
  stop();
  std::ofstream(file) << "left by a process that was killed\n";
  start();
  EXPECT_FALSE(std::filesystem::exists(file)) << "no context of that name";
}

TEST_F(StudyJobsTest, WithoutABudgetNothingIsStudied) {
  start(CloudOptions{.data_folder = folder_.path()});
  const std::string path = put(boats());
  EXPECT_TRUE(state(path).is_null());
  const HttpAnswer answer = call("GET", path + "/study");
  EXPECT_EQ(answer.status, 404);
  EXPECT_THAT(std::string(as_text(answer.body)), HasSubstr("--study-budget"));
  EXPECT_EQ(call("GET", "/v1/contexts/nonsense/study").status, 404);
}

}  // namespace
}  // namespace celslm
