// What surrounds loads at an edge: threads, memory, files and budgets that may run out.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <latch>

#include "serve/batch/context_compute.h"
#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::dying_after;
using testing_support::kEdgeLayers;
using testing_support::long_text;
using testing_support::only_packs;
using testing_support::PackFault;

namespace fs = std::filesystem;

int threads_of_this_process() {
  return static_cast<int>(std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator()));
}

// Files below `folder` that this process has open.
std::vector<std::string> open_files(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const fs::path file = fs::read_symlink(entry.path(), gone);
    if (!gone && file.string().starts_with(folder.string())) out.push_back(file.string());
  }
  return out;
}

class LoadShellTest : public testing_support::EdgeFixture {
 protected:
  static std::string note(const json& answer) { return answer["x_celslm"].value("note", ""); }
};

TEST_F(LoadShellTest, AHundredContextsAtOnceTakeABoundedNumberOfThreads) {
  constexpr int kContexts = 100;
  for (int i = 0; i < kContexts; ++i) put(fmt::format("Bulletin number {}: all quiet in the harbour today.", i));
  const auto gate = std::make_shared<std::latch>(1);
  const PackFault shut = only_packs([gate](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
    gate->wait();
    return go_on();
  });
  const auto e = edge(shut, {.batch = {.max_queued = kContexts}});
  const int before = threads_of_this_process();
  std::vector<HttpResponse> waiting;
  for (int i = 0; i < kContexts; ++i) {
    json body = request(fmt::format("Bulletin number {}: all quiet in the harbour today.", i), "Where?");
    body["stream"] = true;
    body["max_tokens"] = 2;
    waiting.push_back(e->chat_completions({.body = body.dump()}));
    ASSERT_EQ(waiting.back().status, 200) << waiting.back().body;
  }
  EXPECT_LE(threads_of_this_process() - before, 40);
  gate->count_down();
  for (const HttpResponse& response : waiting) {
    std::string events;
    EXPECT_TRUE(response.stream([&](std::string_view event) {
      events += event;
      return true;
    }));
    EXPECT_THAT(events, HasSubstr(R"("source":"cloud")"));
  }
  e->wait_until_loaded();
}

TEST_F(LoadShellTest, ComputesWhereNoThreadCanBeMade) {
  put(long_text());
  spawn_ = [](const auto&) -> Result<std::jthread> { return fail(ErrorKind::kOverloaded, "the system has no thread left"); };
  const auto e = edge();
  const json answer = ask(*e, long_text());
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_THAT(note(answer), HasSubstr("no thread left"));
  EXPECT_EQ(said(answer), said(local_answer(long_text())));
  e->wait_until_loaded();
}

TEST_F(LoadShellTest, LoadsWithAsFewThreadsAsThereAre) {
  put(long_text());
  put(long_text('b'));
  spawn_ = [left = std::make_shared<std::atomic<int>>(2)](auto work) -> Result<std::jthread> {  // one is the timer's
    if (left->fetch_sub(1) <= 0) return fail(ErrorKind::kOverloaded, "the system has no thread left");
    return spawn_thread(std::move(work));
  };
  const auto e = edge();
  EXPECT_EQ(sources(ask(*e, long_text())), all("proxy cloud"));
  EXPECT_EQ(sources(ask(*e, long_text('b'))), all("proxy cloud"));
}

TEST_F(LoadShellTest, ComputesWhatAnHoursBytesDoNotBring) {
  put(long_text());
  put(long_text('b'));
  budget_ = std::make_shared<ByteBudget>(60'000, clock_, null_log());
  const auto e = edge();
  const json cut = ask(*e, long_text());
  EXPECT_EQ(cut["x_celslm"]["layers"].front()["source"], "compute") << cut["x_celslm"];
  EXPECT_THAT(note(cut), HasSubstr("--max-bytes-per-hour"));
  EXPECT_EQ(said(cut), said(local_answer(long_text())));
  e->wait_until_loaded();
  const json later = ask(*e, long_text('b'));
  EXPECT_EQ(said(later), said(local_answer(long_text('b'))));
  EXPECT_THAT(note(later), HasSubstr("--max-bytes-per-hour"));
}

TEST_F(LoadShellTest, AContextWhoseLoadCannotBeginIsComputed) {
  const LoaderOptions options{.may_ask = [](const ContextHandle&) -> bool { throw std::bad_alloc(); }};
  const auto cloud = std::make_shared<CloudClient>(std::make_unique<testing_support::LocalClient>(*server_), std::nullopt,
                                                   folder_ / "key", null_log());
  ContextLoader loader(model_, cloud, {}, nullptr, clock_, options, null_log());
  const std::vector<Token> tokens = *model_->text().context(long_text());
  const Hash256 id = context_id(model_->fingerprint().tokenizer, tokens);
  const auto fresh = [&] {
    return *ResidentContext::create(context_handle(long_text()), model_->config(), id, tokens, KvType::kF16);
  };
  const auto context = fresh();
  EXPECT_TRUE(loader.load(context));
  EXPECT_THAT(context->report().note, HasSubstr("no memory to begin"));
  EXPECT_FALSE(loader.busy());

  const auto engine = *Engine::create(model_, {.n_threads = 1});
  MemoryLedger memory;
  ContextCompute compute(*engine, clock_, memory);
  compute.add(context);
  while (!context->complete()) ASSERT_TRUE(compute.advance().worked);
  const auto expected = fresh();
  ContextLoader plain(model_, nullptr, {}, nullptr, clock_, LoaderOptions(), null_log());
  EXPECT_TRUE(plain.load(expected));
  compute.add(expected);
  while (!expected->complete()) ASSERT_TRUE(compute.advance().worked);
  for (int layer = 0; layer < kEdgeLayers; ++layer) {
    const std::size_t n_bytes = static_cast<std::size_t>(context->segment->n_kv_heads()) *
                                static_cast<std::size_t>(context->segment->capacity()) *
                                row_bytes(KvType::kF16, context->segment->head_dim());
    EXPECT_EQ(std::memcmp(context->segment->v_data(layer), expected->segment->v_data(layer), n_bytes), 0) << layer;
  }
}

TEST_F(LoadShellTest, LeavesNoFileOpenAtItsEnd) {
  put(long_text());
  fetch_and_keep(long_text(), "other");
  const auto e = edge(dying_after(2), {.load = {.n_connections = 1}}, "left");
  const json answer = ask(*e, long_text());
  EXPECT_EQ(sources(answer).back(), "native compute");
  e->wait_until_loaded();
  EXPECT_THAT(open_files(folder_ / "left" / "packs"), testing::IsEmpty()) << "though its context is still in memory";
}

TEST_F(LoadShellTest, EndsWhileItsSourceHangs) {
  put(long_text());
  const auto hung = std::make_shared<std::latch>(1);
  auto e = edge(only_packs([hung](const HttpCall& call, const auto&) -> Result<HttpAnswer> {
    hung->count_down();
    testing_support::wait_for_stop(call.stop);
    return fail(ErrorKind::kCancelled, "cancelled");
  }));
  json body = request(long_text(), "Where?");
  body["stream"] = true;
  const HttpResponse waiting = e->chat_completions({.body = body.dump()});
  hung->wait();
  e->drain(std::chrono::milliseconds(0));
  e.reset();
}

}  // namespace
}  // namespace celslm
