// The cloud over real sockets on loopback, with a model that is a script.
#include "serve/cloud/cloud_service.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <latch>
#include <nlohmann/json.hpp>

#include "net/http_client.h"
#include "serve/wire/errors.h"
#include "tests/support/fake_producer.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using testing_support::FakeProducer;

class CloudServiceTest : public testing::Test {
 protected:
  CloudServiceTest() : folder_(std::filesystem::path(testing::TempDir()) / fmt::format("celslm-cloud-{}", ::getpid())) {
    std::filesystem::remove_all(folder_);
  }
  ~CloudServiceTest() override {
    stop();
    std::filesystem::remove_all(folder_);
  }

  void start(CloudOptions options = {}) {
    options.data_folder = folder_;
    auto service = CloudService::create(options, {small_, large_}, clock_, null_log());
    ASSERT_TRUE(service) << service.error().message;
    service_ = *std::move(service);
    server_ = *HttpServer::create({.max_body_bytes = kMaxCloudBodyBytes}, null_log());
    service_->add_routes(*server_);
    const Status started = server_->start();
    ASSERT_TRUE(started) << started.error().message;
    client_ = *make_http_client({.base_url = server_->url()});
  }

  void stop() {
    if (service_) service_->shutdown();
    if (server_) server_->stop(1s);
    client_.reset();
    server_.reset();
    service_.reset();
  }

  Result<HttpAnswer> call(HttpCall call) { return client_->call(call); }
  HttpAnswer get(const std::string& path) {
    auto answer = call({.path = path});
    EXPECT_TRUE(answer) << answer.error().message;
    return answer ? *std::move(answer) : HttpAnswer{};
  }
  HttpAnswer post(const std::string& path, const std::string& body) {
    auto answer = call({.method = "POST", .path = path, .body = body});
    EXPECT_TRUE(answer) << answer.error().message;
    return answer ? *std::move(answer) : HttpAnswer{};
  }
  static json body_of(const HttpAnswer& answer) { return json::parse(as_text(answer.body), nullptr, false); }
  static std::string code_of(const HttpAnswer& answer) {
    const json body = body_of(answer);
    return body.is_object() && body.contains("error") ? body["error"].value("code", "") : "";
  }

  ContextHandle put(const std::string& text) {
    const HttpAnswer answer = post("/v1/contexts", json{{"text", text}, {"name", "n"}}.dump());
    EXPECT_EQ(answer.status, 200);
    return context_handle(text);
  }
  std::string path(const ContextHandle& handle, std::string_view part, std::string_view codec = "f16") const {
    return pack_path(handle, small_->model().fingerprint.id(), codec, part);
  }
  PublicKey key() { return *PublicKey::from_hex(body_of(get("/v1/key"))["public_key"].get<std::string>()); }

  // Asks for the header and follows the entries until the pack is whole.
  PackHeader computed(const ContextHandle& handle, std::string_view codec = "f16") {
    get(path(handle, "header", codec));
    EXPECT_EQ(get(path(handle, "entries", codec)).status, 200);
    const HttpAnswer header = get(path(handle, "header", codec));
    EXPECT_EQ(header.status, 200);
    auto parsed = parse_header(header.body, key());
    EXPECT_TRUE(parsed) << parsed.error().message;
    return parsed ? *std::move(parsed) : PackHeader{};
  }

  static std::string text_of_tokens(int n) { return std::string(static_cast<std::size_t>(n), 'x'); }

  const std::filesystem::path folder_;
  const SystemClock clock_;
  const std::shared_ptr<FakeProducer> small_ = std::make_shared<FakeProducer>("small", 2000);
  const std::shared_ptr<FakeProducer> large_ = std::make_shared<FakeProducer>("large", 4000);
  std::unique_ptr<CloudService> service_;
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<HttpClient> client_;
};

TEST_F(CloudServiceTest, SaysThatItLives) {
  start();
  const HttpAnswer answer = get("/health");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(as_text(answer.body), R"({"status":"ok"})");
}

TEST_F(CloudServiceTest, ShowsItsModelsSoThatAnEdgeCanCompareThem) {
  start();
  const json models = body_of(get("/v1/models"))["models"];
  ASSERT_EQ(models.size(), 2U);
  const auto hosted = hosted_model_from(models[0]);
  ASSERT_TRUE(hosted) << hosted.error().message;
  EXPECT_EQ(hosted->fingerprint, small_->model().fingerprint);
  EXPECT_EQ(models[0]["id"], small_->model().fingerprint.id().hex());
}

TEST_F(CloudServiceTest, RegistersAContextAndSaysWhatItIsToEachModel) {
  start();
  const HttpAnswer answer = post("/v1/contexts", R"({"text":"hello","name":"greeting"})");
  ASSERT_EQ(answer.status, 200);
  const json body = body_of(answer);
  EXPECT_EQ(body["id"], context_handle("hello").hex());
  EXPECT_EQ(body["name"], "greeting");
  EXPECT_EQ(body["bytes"], 5);
  ASSERT_EQ(body["models"].size(), 2U);
  EXPECT_EQ(body["models"][0]["n_tokens"], 5);
  const auto tokens = small_->tokens("hello");
  EXPECT_EQ(body["models"][0]["context_id"], context_id(small_->model().fingerprint.tokenizer, *tokens).hex());
  EXPECT_EQ(body_of(get("/v1/contexts"))["contexts"].size(), 1U);
  EXPECT_EQ(body_of(get("/v1/contexts/" + context_handle("hello").hex()))["text"], "hello");
  EXPECT_EQ(small_->produced, 0) << "nothing is computed before somebody asks";
}

TEST_F(CloudServiceTest, RegisteringAgainChangesNothing) {
  start();
  post("/v1/contexts", R"({"text":"hello","name":"first"})");
  const HttpAnswer again = post("/v1/contexts", R"({"text":"hello","name":"second"})");
  EXPECT_EQ(body_of(again)["name"], "first");
  EXPECT_EQ(body_of(get("/v1/contexts"))["contexts"].size(), 1U);
}

TEST_F(CloudServiceTest, LeavesOutModelsThatATextIsTooLongFor) {
  start();
  const json body = body_of(post("/v1/contexts", json{{"text", text_of_tokens(3000)}}.dump()));
  ASSERT_EQ(body["models"].size(), 1U);
  EXPECT_EQ(body["models"][0]["name"], "large");
  const HttpAnswer header = get(path(context_handle(text_of_tokens(3000)), "header"));
  EXPECT_EQ(header.status, 400);
  EXPECT_EQ(code_of(header), "invalid_context");
}

TEST_F(CloudServiceTest, RefusesContextsThatNobodyCanUse) {
  start();
  const std::string invalid_utf8 = "{\"text\":\"\xff\"}";
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({"text":""})", "invalid_context"},
      {invalid_utf8, "invalid_context"},
      {json{{"text", text_of_tokens(5000)}}.dump(), "invalid_context"},  // longer than every model's context
      {json{{"text", std::string(kMaxContextBytes + 1, 'x')}}.dump(), "invalid_context"},
      {R"({"text":"x","name":"\u001b[2J"})", "invalid_context"},
      {R"({"text":1})", "invalid_request"},
      {R"({"text":"x","name":[]})", "invalid_request"},
      {R"(["text"])", "invalid_request"},
      {"{\"text\":\"x", "invalid_request"},
      {std::string(200, '['), "invalid_request"},
      {"", "invalid_request"},
  };
  for (const auto& [body, code] : cases) {
    const HttpAnswer answer = post("/v1/contexts", body);
    EXPECT_EQ(answer.status, 400) << body.substr(0, 60);
    EXPECT_EQ(code_of(answer), code) << body.substr(0, 60);
  }
  EXPECT_EQ(service_->n_contexts(), 0U);
}

TEST_F(CloudServiceTest, RefusesABodyThatWouldFillMemory) {
  start();
  const auto answer = call({.method = "POST", .path = "/v1/contexts", .body = std::string(kMaxCloudBodyBytes + 1, 'x')});
  // The server may cut the connection while the body is still being sent.
  EXPECT_TRUE(!answer || answer->status == 413);
  EXPECT_EQ(get("/health").status, 200);
}

TEST_F(CloudServiceTest, ForgetsARemovedContext) {
  start();
  const ContextHandle handle = put("text");
  EXPECT_EQ(call({.method = "DELETE", .path = "/v1/contexts/" + handle.hex()})->status, 204);
  EXPECT_EQ(code_of(get("/v1/contexts/" + handle.hex())), "unknown_context");
  EXPECT_EQ(code_of(get(path(handle, "header"))), "unknown_context");
  EXPECT_EQ(call({.method = "DELETE", .path = "/v1/contexts/" + handle.hex()})->status, 404);
}

TEST_F(CloudServiceTest, NamesWhatIsUnknownAndWhatThereIs) {
  start();
  const ContextHandle handle = put("text");
  const auto unknown = [&](const std::string& where, const char* code) {
    const HttpAnswer answer = get(where);
    EXPECT_EQ(answer.status, 404) << where;
    EXPECT_EQ(code_of(answer), code) << where;
    return error_of_answer(answer.status, answer.body).message;
  };
  unknown(path(context_handle("other"), "header"), "unknown_context");
  unknown(pack_path(handle, small_->model().fingerprint.id(), "f16", "header").replace(10, 4, "zzzz"), "unknown_context");
  EXPECT_THAT(unknown(pack_path(handle, hash_of("no model"), "f16", "header"), "unknown_model"), HasSubstr("small"));
  EXPECT_THAT(unknown(path(handle, "header", "q3"), "unknown_codec"), HasSubstr("f16"));
  unknown(path(handle, "header?map=zz"), "unknown_map");
  unknown(path(handle, "header?map=" + hash_of("no map").hex()), "unknown_map");
  unknown(path(handle, "entries"), "unknown_pack");
  unknown(path(handle, "blocks"), "unknown_pack");
  unknown(path(handle, "pack"), "unknown_pack");
  unknown("/v1/nothing", "not_found");
  EXPECT_EQ(small_->produced, 0);
}

TEST_F(CloudServiceTest, OffersOnlyTheCodecsItWasToldTo) {
  start({.codecs = {CodecId::kQ8}});
  const ContextHandle handle = put("text");
  EXPECT_EQ(code_of(get(path(handle, "header", "f16"))), "unknown_codec");
  EXPECT_EQ(get(path(handle, "header", "q8")).status, 202);
}

TEST_F(CloudServiceTest, ServesAPackFromTheFirstLayerWhileItComputesTheLast) {
  start();
  small_->hold();
  const ContextHandle handle = put(text_of_tokens(700));
  const HttpAnswer preamble = get(path(handle, "header"));
  ASSERT_EQ(preamble.status, 202);
  EXPECT_EQ(preamble.headers.at("x-celslm-state"), "computing");
  const auto identity = parse_preamble(preamble.body, key());
  ASSERT_TRUE(identity) << identity.error().message;
  const int per_layer = 2 * identity->n_chunks();

  // One connection follows the entries; for each layer's last one it fetches that layer's blocks and lets the next be
  // computed.
  Bytes held;
  Bytes region;
  int n_entries = 0;
  small_->allow(1);
  const auto take_entry = [&](const SignedEntry& entry) {
    EXPECT_EQ(entry.index, static_cast<std::uint32_t>(n_entries++));
    const auto block = call(
        {.path = path(handle, "blocks"), .range = ByteRange{entry.entry.offset, entry.entry.offset + entry.entry.bytes}});
    ASSERT_TRUE(block) << block.error().message;
    ASSERT_EQ(block->status, 206);
    EXPECT_EQ(hash_of(block->body), entry.entry.hash);
    region.insert(region.end(), block->body.begin(), block->body.end());
    if (n_entries % per_layer == 0) small_->allow(1);
  };
  const auto entries =
      call({.path = path(handle, "entries"), .timeout = 0ms, .sink = [&](ByteView piece) {
              held.insert(held.end(), piece.begin(), piece.end());
              for (; held.size() >= kSignedEntryBytes; held.erase(held.begin(), held.begin() + kSignedEntryBytes)) {
                const auto entry = parse_entry(ByteView(held).first(kSignedEntryBytes), *identity, key());
                if (!entry) return false;
                take_entry(*entry);
              }
              return true;
            }});
  ASSERT_TRUE(entries) << entries.error().message;
  EXPECT_EQ(n_entries, identity->n_blocks());

  const HttpAnswer header = get(path(handle, "header"));
  EXPECT_EQ(header.status, 200) << "a stream that ended well promises the whole header";
  EXPECT_EQ(header.headers.at("x-celslm-state"), "complete");
  const auto parsed = parse_header(header.body, key());
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->identity, *identity);
  Bytes file = header.body;
  file.insert(file.end(), region.begin(), region.end());
  EXPECT_EQ(get(path(handle, "pack")).body, file);
  EXPECT_EQ(small_->produced, 1);
}

TEST_F(CloudServiceTest, SendsBlocksWithTheHeaderOfAWholePack) {
  start();
  const ContextHandle handle = put(text_of_tokens(700));
  EXPECT_EQ(get(path(handle, "header?blocks=0-1")).status, 202);
  const PackHeader header = computed(handle);
  const Bytes file = get(path(handle, "pack")).body;
  const std::size_t region = file.size() - header.block_region_bytes();
  const BlockEntry& first = header.blocks[3];
  const BlockEntry& last = header.blocks[6];
  Bytes wanted(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(region));
  wanted.insert(wanted.end(), file.begin() + static_cast<std::ptrdiff_t>(region + first.offset),
                file.begin() + static_cast<std::ptrdiff_t>(region + last.offset + last.bytes));
  const HttpAnswer answer = get(path(handle, "header?blocks=3-6"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, wanted);
  for (const std::string& bad : {std::string("3"), std::string("-3"), std::string("3-"), std::string("6-3"),
                                 std::string("x"), std::to_string(header.blocks.size()) + "-", std::string("0-1,4-5")}) {
    const HttpAnswer refused = get(path(handle, "header?blocks=" + bad));
    EXPECT_EQ(refused.status, 400) << bad;
    EXPECT_EQ(code_of(refused), "invalid_request") << bad;
  }
}

TEST_F(CloudServiceTest, RefusesRangesThatWereNotAnnounced) {
  start();
  small_->hold();
  const ContextHandle handle = put(text_of_tokens(300));
  const auto identity = parse_preamble(get(path(handle, "header")).body, key());
  ASSERT_TRUE(identity);
  const auto status = [&](const std::string& range) {
    return call({.path = path(handle, "blocks"), .headers = {{"Range", range}}})->status;
  };
  EXPECT_EQ(status("bytes=0-0"), 416) << "nothing is announced yet";
  EXPECT_EQ(get(path(handle, "blocks")).status, 416) << "the whole region of a pack that is not whole";
  EXPECT_EQ(code_of(get(path(handle, "pack"))), "unknown_pack");
  small_->allow(FakeProducer::kLayers);
  EXPECT_EQ(get(path(handle, "entries")).status, 200);
  const std::uint64_t size = block_region_bytes(*identity).most;
  EXPECT_EQ(status(fmt::format("bytes=0-{}", size - 1)), 206);
  EXPECT_EQ(status(fmt::format("bytes={}-{}", size, size)), 416);
  for (const char* bad : {"bytes=5-4", "bytes=a-b", "bytes=0-1,2-3", "bytes=-"}) EXPECT_EQ(status(bad), 416) << bad;
}

TEST_F(CloudServiceTest, ServesAnyRangeOfAWholePack) {
  start();
  const ContextHandle handle = put(text_of_tokens(700));
  computed(handle);
  const Bytes region = get(path(handle, "blocks")).body;
  const Bytes file = get(path(handle, "pack")).body;
  for (const auto& [first, end] :
       {std::pair<std::size_t, std::size_t>{0, 1}, {100, 5000}, {region.size() - 3, region.size()}}) {
    const auto part = call({.path = path(handle, "blocks"), .range = ByteRange{first, end}});
    ASSERT_TRUE(part) << part.error().message;
    EXPECT_EQ(part->headers.at("content-range"), fmt::format("bytes {}-{}/{}", first, end - 1, region.size()));
    EXPECT_EQ(part->body,
              Bytes(region.begin() + static_cast<std::ptrdiff_t>(first), region.begin() + static_cast<std::ptrdiff_t>(end)));
    const auto of_file = call({.path = path(handle, "pack"), .range = ByteRange{first, end}});
    ASSERT_TRUE(of_file);
    EXPECT_EQ(of_file->body,
              Bytes(file.begin() + static_cast<std::ptrdiff_t>(first), file.begin() + static_cast<std::ptrdiff_t>(end)));
  }
}

TEST_F(CloudServiceTest, StreamsEntriesFromAnyNumberOnAlsoOfAWholePack) {
  start();
  const ContextHandle handle = put(text_of_tokens(700));
  const PackHeader header = computed(handle);
  const Bytes all = get(path(handle, "entries")).body;
  EXPECT_EQ(all.size(), header.blocks.size() * kSignedEntryBytes);
  const Bytes some = get(path(handle, "entries?from=5")).body;
  EXPECT_EQ(some, Bytes(all.begin() + 5 * kSignedEntryBytes, all.end()));
  const auto entry = parse_entry(ByteView(some).first(kSignedEntryBytes), header.identity, key());
  ASSERT_TRUE(entry) << entry.error().message;
  EXPECT_EQ(entry->entry, header.blocks[5]);
  EXPECT_TRUE(get(path(handle, fmt::format("entries?from={}", header.blocks.size()))).body.empty());
  for (const char* bad : {"entries?from=-1", "entries?from=x", "entries?from=99999999999"}) {
    EXPECT_EQ(get(path(handle, bad)).status, 400) << bad;
  }
}

TEST_F(CloudServiceTest, BreaksTheStreamOfAComputationThatFails) {
  start();
  small_->hold();
  const ContextHandle handle = put(text_of_tokens(300));
  EXPECT_EQ(get(path(handle, "header")).status, 202);
  small_->allow(1);
  auto stream = std::async(std::launch::async, [&] {
    bool first = true;
    return call({.path = path(handle, "entries"), .timeout = 0ms, .sink = [&](ByteView) {
                   if (std::exchange(first, false)) small_->fail_next({ErrorKind::kInternal, "the engine broke"});
                   return true;
                 }});
  });
  const auto answer = stream.get();
  ASSERT_FALSE(answer) << "a broken computation must not look like a short pack";
  EXPECT_EQ(answer.error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(get(path(handle, "header")).status, 202) << "the next request starts anew";
  small_->allow(FakeProducer::kLayers);
  EXPECT_EQ(get(path(handle, "entries")).status, 200);
}

TEST_F(CloudServiceTest, AnswersOverloadedWithRetryAfterWhenTooManyWait) {
  start({.jobs = {.max_waiting = 1}});
  small_->hold();
  const ContextHandle running = put("running");
  get(path(running, "header"));
  small_->allow(1);
  // Once its first layer is announced the job is no longer waiting.
  EXPECT_FALSE(call({.path = path(running, "entries"), .timeout = 0ms, .sink = [](ByteView) { return false; }}));
  EXPECT_EQ(get(path(put("waiting"), "header")).status, 202);
  const HttpAnswer refused = get(path(put("refused"), "header"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(code_of(refused), "overloaded");
  EXPECT_TRUE(refused.headers.contains("retry-after"));
}

TEST_F(CloudServiceTest, ComputesOnceForACrowdOfEdges) {
  start();
  const ContextHandle handle = put(text_of_tokens(700));
  std::atomic<int> whole = 0;
  {
    std::vector<std::jthread> edges;
    for (int i = 0; i < 16; ++i) {
      edges.emplace_back([&] {
        const int status = get(path(handle, "header")).status;
        EXPECT_TRUE(status == 200 || status == 202);
        if (get(path(handle, "entries")).body.size() == 18 * kSignedEntryBytes) ++whole;
      });
    }
  }
  EXPECT_EQ(whole, 16);
  EXPECT_EQ(small_->produced, 1);
  EXPECT_LE(small_->tokenized, 2) << "tokenized once for the cloud, once here";
}

TEST_F(CloudServiceTest, KeepsContextsPacksAndKeyOverARestart) {
  start();
  const ContextHandle handle = put(text_of_tokens(700));
  computed(handle);
  const Bytes file = get(path(handle, "pack")).body;
  const PublicKey before = key();
  stop();
  start();
  EXPECT_EQ(key(), before);
  EXPECT_EQ(get(path(handle, "header")).status, 200);
  EXPECT_EQ(get(path(handle, "pack")).body, file);
  EXPECT_EQ(small_->produced, 1);
}

TEST_F(CloudServiceTest, ADamagedPackIsComputedAgain) {
  start();
  const ContextHandle handle = put(text_of_tokens(300));
  const Hash256 pack_id = computed(handle).identity.id();
  stop();
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "packs")) {
    if (entry.path().stem() == pack_id.hex()) std::filesystem::resize_file(entry.path(), entry.file_size() - 1);
  }
  start();
  EXPECT_EQ(get(path(handle, "header")).status, 202);
  computed(handle);
  EXPECT_EQ(small_->produced, 2);
}

TEST_F(CloudServiceTest, ComputesAtOnceWhenARegistrationAsksForIt) {
  start();
  post("/v1/contexts?prefill=1", json{{"text", "now"}}.dump());
  EXPECT_EQ(get(path(context_handle("now"), "entries")).status, 200)
      << "the pack is there or on its way without a header request";
}

TEST_F(CloudServiceTest, AShutdownBreaksStreamsInsteadOfWaitingForThem) {
  start();
  small_->hold();
  const ContextHandle handle = put(text_of_tokens(300));
  get(path(handle, "header"));
  small_->allow(1);
  std::promise<void> streaming;
  bool first = true;
  auto stream = std::async(std::launch::async, [&] {
    return call({.path = path(handle, "entries"), .timeout = 0ms, .sink = [&](ByteView) {
                   if (std::exchange(first, false)) streaming.set_value();
                   return true;
                 }});
  });
  streaming.get_future().wait();
  service_->shutdown();
  EXPECT_FALSE(stream.get());
  const HttpAnswer refused = get(path(handle, "header"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(code_of(refused), "unavailable");
}

TEST_F(CloudServiceTest, RefusesAPackOverItsWholeBudget) {
  start({.pack_budget_bytes = 4096});
  const HttpAnswer answer = get(path(put(text_of_tokens(700)), "header"));
  EXPECT_EQ(answer.status, 507);
  EXPECT_EQ(code_of(answer), "insufficient_storage");
}

TEST_F(CloudServiceTest, CountsWhatItDoes) {
  start();
  computed(put(text_of_tokens(300)));
  const HttpAnswer answer = get("/metrics");
  EXPECT_THAT(answer.headers.at("content-type"), HasSubstr("text/plain"));
  const std::string text(as_text(answer.body));
  EXPECT_THAT(text, HasSubstr(R"(celslm_cloud_packs_computed_total{model="small"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(celslm_cloud_tokens_computed_total{model="small"} 300)"));
  EXPECT_THAT(text, HasSubstr(R"(celslm_cloud_requests_total{route="entries",status="200"} 1)"));
  EXPECT_THAT(text, HasSubstr("celslm_cloud_contexts 1"));
}

TEST_F(CloudServiceTest, EveryMetricIsDocumented) {
  start();
  computed(put(text_of_tokens(300)));
  small_->fail_next({ErrorKind::kInternal, "the engine broke"});
  const ContextHandle failing = put("failing");
  get(path(failing, "header"));
  (void)call({.path = path(failing, "entries")});  // may break or find nothing any more
  std::ifstream file("docs/metrics.md");
  const std::string documented((std::istreambuf_iterator<char>(file)), {});
  std::istringstream page{std::string(as_text(get("/metrics").body))};
  int n = 0;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("# TYPE ")) continue;
    const std::string name = line.substr(7, line.find(' ', 7) - 7);
    EXPECT_THAT(documented, HasSubstr("`" + name + "`"));
    ++n;
  }
  EXPECT_GE(n, 10);
}

TEST_F(CloudServiceTest, RefusesToStartWithoutModelsOrWithOneTwice) {
  EXPECT_EQ(CloudService::create({.data_folder = folder_}, {}, clock_, null_log()).error().kind, ErrorKind::kInvalid);
  const auto twice = CloudService::create({.data_folder = folder_}, {small_, small_}, clock_, null_log());
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().message, HasSubstr("small"));
}

}  // namespace
}  // namespace celslm
