#include "serve/wire/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "core/bytes.h"
#include "core/printable.h"

namespace celslm {
namespace {

using nlohmann::json;

// "| 404 | `unknown_map` | not found | …" of the page, as "404 unknown_map: not found".
std::vector<std::string> documented() {
  std::ifstream page("docs/http-protocol.md");
  std::vector<std::string> out;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("## ")) inside = line == "## Errors";
    if (!inside || !line.starts_with("| ") || line.starts_with("| status")) continue;
    std::vector<std::string> cells;
    std::istringstream stream(line.substr(1));
    for (std::string cell; std::getline(stream, cell, '|');) {
      const std::size_t first = cell.find_first_not_of(" `");
      if (first != std::string::npos) cells.push_back(cell.substr(first, cell.find_last_not_of(" `") - first + 1));
    }
    out.push_back(cells.size() < 3 ? "not a row: " + line : cells[0] + " " + cells[1] + ": " + cells[2]);
  }
  return out;
}

TEST(ApiErrorsTest, AreThoseOfTheDocumentation) {
  std::vector<std::string> in_code;
  for (const ApiErrorRow& row : api_errors())
    in_code.push_back(fmt::format("{} {}: {}", row.status, row.code, to_string(row.client)));
  EXPECT_EQ(documented(), in_code);
}

TEST(ApiErrorsTest, AClientSeesWhatTheServerMeant) {
  for (const ErrorKind kind : {ErrorKind::kInvalid, ErrorKind::kNotFound, ErrorKind::kMismatch, ErrorKind::kUnauthorized,
                               ErrorKind::kUnavailable, ErrorKind::kOverloaded}) {
    const HttpResponse answer = error_response(Error{kind, "why"});
    const Error seen = error_of_answer(answer.status, as_bytes(answer.body));
    EXPECT_EQ(seen.kind, kind) << to_string(kind);
    EXPECT_EQ(seen.message, "why");
  }
}

// Above all, no server can make a client believe that the client itself has cancelled.
TEST(ApiErrorsTest, TheServersOwnTroubleIsToAClientAPeerThatFailed) {
  for (const ErrorKind kind : {ErrorKind::kCancelled, ErrorKind::kIo, ErrorKind::kInternal}) {
    const HttpResponse answer = error_response(Error{kind, "why"});
    EXPECT_EQ(error_of_answer(answer.status, as_bytes(answer.body)).kind, ErrorKind::kUnavailable) << to_string(kind);
  }
}

TEST(ApiErrorsTest, NoPathOfTheServerIsInAnAnswer) {
  const std::vector<std::pair<std::string, std::string>> kMessages{
      {"/var/lib/celslm/packs/ab.pack: cannot open: Permission denied",
       "a file of this server: cannot open: Permission denied"},
      {"disk: /home/jo smith/data/x: ends at byte 3", "disk: a file of this server: ends at byte 3"},
      {"cannot read '/srv/a/b' now", "cannot read 'a file of this server' now"},
      {"http://cloud:8081/v1/packs/x: timed out", "http://cloud:8081/v1/packs/x: timed out"},
      {"ask /v1/packs/x/header first", "ask /v1/packs/x/header first"},
      {"7 / 2 tokens/s", "7 / 2 tokens/s"},
  };
  for (const auto& [message, shown] : kMessages) {
    EXPECT_EQ(without_paths(message), shown);
    EXPECT_EQ(json::parse(error_response(Error{ErrorKind::kIo, message}).body)["error"]["message"], shown);
  }
}

TEST(ApiErrorsTest, EachRowIsFoundByStatusAndCode) {
  for (const ApiErrorRow& row : api_errors()) {
    const HttpResponse answer = error_response(row.error, "a \"message\"\n");
    EXPECT_EQ(answer.status, row.status);
    EXPECT_EQ(answer.headers.contains("Retry-After"), row.status == 429 || row.status == 503) << row.status;
    const json body = json::parse(answer.body);
    EXPECT_EQ(body["error"]["code"], row.code);
    EXPECT_EQ(body["error"]["message"], "a \"message\"\n");
    EXPECT_EQ(kind_of_answer(row.status, row.code), row.client) << row.code;
  }
}

TEST(ApiErrorsTest, AFullBoxAnswers429WithRetryAfterWhereverItIsNoticed) {
  const auto expect_full = [](const HttpResponse& answer) {
    EXPECT_EQ(answer.status, 429);
    EXPECT_EQ(answer.headers.count("Retry-After"), 1U);
    EXPECT_EQ(json::parse(answer.body)["error"]["code"], "overloaded");
  };
  expect_full(error_response(Error{ErrorKind::kOverloaded, "the ledger is full"}));
  expect_full(http_error(429, "too many connections"));
  expect_full(answer_or_refuse([]() -> HttpResponse { throw std::bad_alloc(); }));
  expect_full(answer_or_refuse(
      []() -> HttpResponse { throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again)); }));
  EXPECT_EQ(answer_or_refuse([] { return HttpResponse{.status = 204}; }).status, 204);
}

TEST(ApiErrorsTest, AnAnswerWithoutAKnownCodeCountsByItsStatus) {
  EXPECT_EQ(kind_of_answer(503, ""), ErrorKind::kOverloaded);
  EXPECT_EQ(kind_of_answer(404, "NoSuchBucket"), ErrorKind::kNotFound);
  EXPECT_EQ(kind_of_answer(404, "unavailable"), ErrorKind::kNotFound) << "a code of another status";
  EXPECT_EQ(kind_of_answer(418, ""), ErrorKind::kInvalid);
  EXPECT_EQ(kind_of_answer(502, ""), ErrorKind::kUnavailable);
  EXPECT_EQ(kind_of_answer(302, ""), ErrorKind::kUnavailable);
  const std::string page = "<html>" + std::string(1000, 'x');
  EXPECT_EQ(error_of_answer(502, as_bytes(page)).message, printable(page));
  EXPECT_EQ(error_of_answer(302, {}).message, "HTTP status 302") << "a redirect, which is not followed, says nothing";
  EXPECT_EQ(error_of_answer(502, as_bytes(std::string(R"({"error":"plain"})"))).message, R"({"error":"plain"})");
}

TEST(ApiErrorsTest, TheHttpLayersRefusalsHaveCodesOfTheirOwn) {
  const auto code = [](int status) {
    return json::parse(http_error(status, "why").body)["error"]["code"].get<std::string>();
  };
  EXPECT_EQ(code(400), "invalid_request");
  EXPECT_EQ(code(404), "not_found");
  EXPECT_EQ(code(405), "method_not_allowed");
  EXPECT_EQ(code(408), "request_timeout");
  EXPECT_EQ(code(413), "too_large");
  EXPECT_EQ(code(431), "headers_too_long");
  EXPECT_EQ(code(500), "internal");
  EXPECT_EQ(code(503), "overloaded");
  EXPECT_EQ(http_error(417, "why").status, 417);
  EXPECT_EQ(code(417), "invalid_request");
}

TEST(ApiErrorsTest, AMessageOfAnotherNodeIsOneShortPlainLine) {
  const std::string message = "\x1b[31mno\n2026-01-01 edge info: all is well" + std::string(900'000, 'A');
  const json body = {{"error", {{"code", "unknown_pack"}, {"message", message}}}};
  const Error error = error_of_answer(404, as_bytes(body.dump()));
  EXPECT_EQ(error.kind, ErrorKind::kNotFound);
  EXPECT_EQ(error.message, printable(message));
  EXPECT_LE(error.message.size(), kPrintableBytes);
  EXPECT_THAT(error_of_answer(500, as_bytes(std::string_view("\x1b]0;x\a"))).message, testing::StartsWith("\\x1b"));
}

}  // namespace
}  // namespace celslm
