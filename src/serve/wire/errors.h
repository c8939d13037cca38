// Errors over HTTP: the one table of what servers respond with and what a client makes of it. docs/http-protocol.md,
// "Errors", shows the same table; a test compares the two.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/result.h"
#include "net/http_types.h"

namespace celslm {

// The answers that report an error, in the order of the table's rows.
enum class ApiError {
  kInvalidRequest,
  kInvalidContext,
  kContextLengthExceeded,
  kUnauthorized,
  kOriginNotAllowed,
  kNotForwarded,
  kCertificateRequired,
  kOperatorsOnly,
  kNotFound,
  kUnknownContext,
  kUnknownModel,
  kUnknownCodec,
  kUnknownMap,
  kUnknownTuning,
  kUnknownStudy,
  kUnknownPack,
  kModelNotFound,
  kMethodNotAllowed,
  kRequestTimeout,
  kMismatch,
  kBodyTooLarge,
  kUrlTooLong,
  kUnsupportedEncoding,
  kRangeNotAvailable,
  kTooManyRequests,
  kKeyLimit,
  kHeadersTooLong,
  kCancelled,
  kInternal,
  kUnsupportedTransfer,
  kOverloaded,
  kUnavailable,
  kInsufficientStorage,
};

struct ApiErrorRow {
  ApiError error;
  int status;
  std::string_view code;
  ErrorKind client;  // the kind of error for the client; an internal error of the server is a peer that failed
};

// All rows, by status. The first row of a status is what the HTTP layer's own refusals with that status become.
std::span<const ApiErrorRow> api_errors();

// The answer to an error of this kind (429 where this box is full), unless the service knows a more precise one.
ApiError answer_to(ErrorKind kind);

// The client's view: by status and code; where the code is missing or unknown, by status alone.
ErrorKind kind_of_answer(int status, std::string_view code);

// The message with "a file of this server" in place of absolute paths, whose beginnings are nobody else's business. Paths of
// this API stay.
std::string without_paths(std::string_view message);

// {"error":{"code","message","type"}}, as text; the message without paths.
std::string error_body(ApiError error, std::string_view message);

// With that body and, where trying again later makes sense, Retry-After.
HttpResponse error_response(ApiError error, std::string_view message);
HttpResponse error_response(const Error& error);

// The handler's answer; 429 where memory or a thread that it needs cannot be had (std::bad_alloc, std::system_error).
HttpResponse answer_or_refuse(const std::function<HttpResponse()>& handler);

// For HttpServer::on_error: refusals by the HTTP layer.
// code: of a row with that status; another one, or none: the first row's.
HttpResponse http_error(int status, std::string_view message, std::string_view code = {});

// For keys that are not an operator's.
HttpResponse operators_only();

// The error in an answer with an unexpected status: its kind as above, and the message in its body, or the body's beginning,
// both made printable(): another node's words are data.
Error error_of_answer(int status, ByteView body);

}  // namespace celslm
