#include "cli/audit/judgement.h"

#include <gmock/gmock.h>

#include "cli/audit/questions.h"
#include "core/hash.h"

namespace celslm {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TimePoint at(int milliseconds) {
  return TimePoint() + std::chrono::milliseconds(milliseconds);
}

Conversation conversation(const std::string& sent, int time = 1) {
  return {.source = "cloud", .arrivals = {{at(time), sent.size()}}, .sent = sent};
}

SentRequest request(const std::string& target, const std::string& headers = "", const std::string& body = "") {
  const std::string length = body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return requests_in({conversation((body.empty() ? "GET " : "POST ") + target + " HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n" +
                                   headers + length + "\r\n" + body)})
      .front();
}

// A run that fetches a context for its one question.
AuditedRun run(std::vector<SentRequest> sent, std::size_t user_bytes = 10) {
  return {.script = "short",
          .authorities = {{"127.0.0.1:8081", "{cloud}"}},
          .at_start = {request("/v1/contexts?since=1&wait=150")},
          .questions = {{.about = "a question", .user_bytes = user_bytes, .sent = std::move(sent)}}};
}

const std::string kPack = "/v1/packs/aa/bb/f16/";

TEST(SentRequests, AreReadFromBytesOfAnyNumberOfRequestsOnAConnection) {
  const std::string first = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string second = "POST /b HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
  Conversation both = conversation(first + second);
  both.arrivals = {{at(1), first.size()}, {at(5), first.size() + second.size()}};
  const auto requests = requests_in({both});
  ASSERT_THAT(requests, SizeIs(2));
  EXPECT_EQ(requests[0].target, "/a");
  EXPECT_EQ(requests[0].at, at(1));
  EXPECT_EQ(requests[1].method, "POST");
  EXPECT_EQ(requests[1].body, "abc");
  EXPECT_EQ(requests[1].at, at(5));
  EXPECT_EQ(requests[1].bytes, second.size());
}

TEST(SentRequests, AreInTheOrderOfTheirTimesWhateverTheirConnection) {
  const auto requests =
      requests_in({conversation("GET /late HTTP/1.1\r\n\r\n", 9), conversation("GET /early HTTP/1.1\r\n\r\n", 2)});
  EXPECT_THAT(requests, ElementsAre(Field(&SentRequest::target, "/early"), Field(&SentRequest::target, "/late")));
}

TEST(SentRequests, KeepWhatIsNoHttp) {
  for (const std::string sent :
       {"hello", "GET /a\r\n\r\n", "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", "GET /unfinished HTTP/1.1\r\nHo"}) {
    const auto requests = requests_in({conversation(sent)});
    ASSERT_THAT(requests, SizeIs(1)) << sent;
    EXPECT_EQ(requests[0].method, "");
    EXPECT_EQ(requests[0].body, sent);
  }
}

TEST(Secrets, AreFoundInEveryEncoding) {
  Secrets secrets;
  secrets.add_mark("the mark", "GHJKLMNPQRSTVWXY");
  for (const char* sent : {
           "..GHJKLMNPQRSTVWXY..",
           "ghjklmnpqrstvwxy",
           "YXWVTSRQPNMLKJHG",
           "GHJKLMNP",
           "..QRSTVWXY",
           "47484a4b4c4d4e505152535456575859",
           "%47%48%4A%4B%4C%4D%4E%50%51%52%53%54%56%57%58%59",
           "R0hKS0xNTlBRUlNUVldYWQ==" /* base64 of it */,
           "YUdISktMTU5QUVJTVFZXWFk=" /* of "a" and it */,
           "YWJHSEpLTE1OUFFSU1RWV1hZ" /* of "ab" and it */,
       })
    EXPECT_THAT(secrets.found_in(sent), Not(IsEmpty())) << sent;
  EXPECT_THAT(secrets.found_in(hash_of("GHJKLMNPQRSTVWXY").hex()), ElementsAre("the BLAKE3 hash of the mark"));
  EXPECT_THAT(secrets.found_in("GHJKLMN QRSTVWX"), IsEmpty());
}

TEST(Secrets, AreFoundByTheHashOfALongText) {
  Secrets secrets;
  secrets.add_text("the prompt", "my sister's letter");
  EXPECT_THAT(secrets.found_in("x-id: " + hash_of("my sister's letter").hex().substr(0, 16)),
              ElementsAre("the BLAKE3 hash of the prompt"));
  EXPECT_THAT(secrets.found_in("my sister's letter"), IsEmpty()) << "texts are looked for by their marks";
}

TEST(Judgement, FindsNothingWhereOnlyTimeDiffers) {
  const std::vector<AuditedRun> runs{
      run({request(kPack + "header?blocks=0-7", ""), request(kPack + "blocks", "Range: bytes=0-99\r\n")}),
      run({request(kPack + "header?blocks=0-15", ""), request(kPack + "blocks", "Range: bytes=100-199\r\n"),
           request(kPack + "blocks", "Range: bytes=200-299\r\n"), request("/v1/contexts?since=1&wait=130")})};
  EXPECT_THAT(differences(runs), IsEmpty());
}

TEST(Judgement, TakesTheEdgesNumberOnlyAsItWasAtTheStart) {
  const auto with_number = [](const std::string& at_start, const std::string& later) {
    AuditedRun out = run({request(kPack + "header", "x-celslm-edge: " + later + "\r\n")});
    out.at_start = {request("/v1/contexts", "x-celslm-edge: " + at_start + "\r\n")};
    return out;
  };
  EXPECT_THAT(differences(std::vector{with_number("01", "01"), with_number("02", "02")}), IsEmpty());
  EXPECT_THAT(differences(std::vector{with_number("01", "01"), with_number("02", "03")}), Not(IsEmpty()));
}

struct Difference {
  const char* name;
  SentRequest first;
  SentRequest second;
  const char* words;
};

class JudgementTest : public testing::TestWithParam<Difference> {};

TEST_P(JudgementTest, NamesWhatDiffers) {
  const std::vector<AuditedRun> runs{run({GetParam().first}), run({GetParam().second})};
  const auto findings = differences(runs);
  ASSERT_THAT(findings, Not(IsEmpty()));
  EXPECT_EQ(findings[0].kind, "difference");
  EXPECT_THAT(findings[0].text, HasSubstr(GetParam().words));
}

INSTANTIATE_TEST_SUITE_P(
    Of, JudgementTest,
    testing::Values(
        Difference{"AHeader", request(kPack + "header", "x-a: 1\r\n"), request(kPack + "header", "x-a: 2\r\n"),
                   "'x-a: 2' instead of 'x-a: 1'"},
        Difference{"AFurtherHeader", request(kPack + "header"), request(kPack + "header", "x-a: 2\r\n"), "x-a: 2"},
        Difference{"ARangeThatIsNone", request(kPack + "blocks", "Range: bytes=0-9\r\n"),
                   request(kPack + "blocks", "Range: bytes=0-9,a\r\n"), "Range: bytes=0-9,a"},
        Difference{"TheContext", request(kPack + "header"), request("/v1/packs/cc/bb/f16/header"), "/v1/packs/cc/bb"},
        Difference{"AParameter", request(kPack + "header?blocks=0-7"), request(kPack + "header?blocks=0-7&q=1"), "q=1"},
        Difference{"TheWatch", request("/v1/contexts?since=1&wait=1"), request("/v1/contexts?since=2&wait=1"),
                   "was not sent before the first question"},
        Difference{"ABody", request(kPack + "header", "", "a"), request(kPack + "header", "", "b"), "'b' instead of 'a'"},
        Difference{"AnUnknownPath", request("/v1/log?a"), request("/v1/log?b"), "/v1/log?b"}),
    [](const auto& instance) { return instance.param.name; });

TEST(Judgement, FindsARequestThatOnlySomeRunsSend) {
  EXPECT_THAT(differences(std::vector<AuditedRun>{run({}), run({request("/v1/log")})}), SizeIs(1));
  EXPECT_THAT(differences(std::vector<AuditedRun>{run({request("/v1/log")}), run({})}), SizeIs(1));
}

TEST(Judgement, FindsNumbersOfRequestsThatFollowTheLengthOfThePrompt) {
  std::vector<AuditedRun> runs;
  for (std::size_t i = 1; i <= 9; ++i)
    runs.push_back(run(std::vector<SentRequest>(i, request(kPack + "blocks", "Range: bytes=0-99\r\n")), 100 * i));
  EXPECT_THAT(differences(runs), testing::Contains(Field(&Finding::kind, "length")));
  std::swap(runs[0].questions[0].sent, runs[8].questions[0].sent);
  std::swap(runs[1].questions[0].sent, runs[6].questions[0].sent);
  EXPECT_THAT(differences(runs), IsEmpty());
}

TEST(Judgement, ReportsAttemptsToReachAnybodyElse) {
  std::vector<AuditedRun> runs{run({})};
  runs[0].elsewhere = {{.protocol = "UDP", .address = "192.0.2.1", .port = 53, .payload = "GHJKLMNPQRSTVWXY"}};
  runs[0].secrets.add_mark("the mark", "GHJKLMNPQRSTVWXY");
  EXPECT_THAT(sent_elsewhere(runs),
              ElementsAre(Field(&Finding::text, HasSubstr("UDP to 192.0.2.1, port 53, with the mark"))));
}

TEST(Judgement, NamesWhereASecretWasSent) {
  std::vector<AuditedRun> runs{run({request(kPack + "header", "x-note: GHJKLMNPQRSTVWXY\r\n")})};
  runs[0].secrets.add_mark("the mark", "GHJKLMNPQRSTVWXY");
  const auto findings = secrets_sent(runs);
  ASSERT_THAT(findings, Not(IsEmpty()));
  EXPECT_THAT(findings[0].text, HasSubstr("the mark was sent to cloud, in the header 'x-note'"));
}

TEST(AttemptOf, ReadsProtocolDestinationAndPayload) {
  using namespace std::string_literals;
  const std::string tcp = "\x45\0\0\x3c\0\0\x40\0\x40\x06\0\0\x7f\0\0\1\x08\x08\x08\x08\xe2\x76\x01\xbb"s;
  const std::string udp = "\x45\0\0\x21\0\0\x40\0\x40\x11\0\0\x7f\0\0\1\xc0\0\2\x35\xa4\xf8\0\x35\0\x0d\0\0hello"s;
  const std::string unreachable = "\x45\xc0\0\x3d\0\0\0\0\x40\x01\0\0\x7f\0\0\1\x7f\0\0\1\x03\x03"s;
  const auto connection = attempt_of(0x0800, tcp);
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->protocol, "TCP");
  EXPECT_EQ(connection->address, "8.8.8.8");
  EXPECT_EQ(connection->port, 443);
  const auto datagram = attempt_of(0x0800, udp);
  ASSERT_TRUE(datagram);
  EXPECT_EQ(datagram->address, "192.0.2.53");
  EXPECT_EQ(datagram->port, 53);
  EXPECT_EQ(datagram->payload, "hello");
  EXPECT_FALSE(attempt_of(0x0800, unreachable));
  EXPECT_TRUE(attempt_of(0x0800, "\x45")) << "a packet that is cut off is still one";
}

TEST(AuditScripts, AskTheSameKindsOfQuestionsWithOtherWords) {
  std::mt19937_64 random(7);
  const auto contexts = made_up_contexts("GHJK");
  const auto scripts = audit_scripts(contexts, "edge-only", random);
  ASSERT_THAT(scripts, SizeIs(4));
  for (const AuditScript& script : scripts) {
    EXPECT_EQ(script.warm_up.body, scripts[0].warm_up.body);
    ASSERT_EQ(script.questions.size(), scripts[0].questions.size());
    for (std::size_t i = 0; i < script.questions.size(); ++i) {
      EXPECT_EQ(script.questions[i].about, scripts[0].questions[i].about);
      EXPECT_THAT(script.secrets.found_in(script.questions[i].body), Not(IsEmpty())) << script.questions[i].about;
    }
    EXPECT_THAT(script.secrets.found_in(script.warm_up.body), IsEmpty());
    EXPECT_THAT(script.secrets.found_in(contexts.shared), IsEmpty());
  }
}

}  // namespace
}  // namespace celslm
