#include "serve/wire/errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <new>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/json.h"
#include "core/printable.h"
#include "net/response_text.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::array kRows{
    ApiErrorRow{ApiError::kInvalidRequest, 400, "invalid_request", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kInvalidContext, 400, "invalid_context", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kContextLengthExceeded, 400, "context_length_exceeded", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kUnauthorized, 401, "unauthorized", ErrorKind::kUnauthorized},
    ApiErrorRow{ApiError::kOriginNotAllowed, 403, "origin_not_allowed", ErrorKind::kUnauthorized},
    ApiErrorRow{ApiError::kNotForwarded, 403, "not_forwarded", ErrorKind::kUnauthorized},
    ApiErrorRow{ApiError::kCertificateRequired, 403, kCertificateRequired, ErrorKind::kUnauthorized},
    ApiErrorRow{ApiError::kOperatorsOnly, 403, "operators_only", ErrorKind::kUnauthorized},
    ApiErrorRow{ApiError::kNotFound, 404, "not_found", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kUnknownContext, 404, "unknown_context", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kUnknownModel, 404, "unknown_model", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kUnknownCodec, 404, "unknown_codec", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kUnknownMap, 404, "unknown_map", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kUnknownTuning, 404, "unknown_tuning", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kUnknownStudy, 404, "unknown_study", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kUnknownPack, 404, "unknown_pack", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kModelNotFound, 404, "model_not_found", ErrorKind::kNotFound},
    ApiErrorRow{ApiError::kMethodNotAllowed, 405, "method_not_allowed", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kRequestTimeout, 408, "request_timeout", ErrorKind::kUnavailable},
    ApiErrorRow{ApiError::kMismatch, 409, "mismatch", ErrorKind::kMismatch},
    ApiErrorRow{ApiError::kBodyTooLarge, 413, "too_large", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kUrlTooLong, 414, "url_too_long", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kUnsupportedEncoding, 415, "unsupported_encoding", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kRangeNotAvailable, 416, "range_not_available", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kTooManyRequests, 429, "overloaded", ErrorKind::kOverloaded},
    ApiErrorRow{ApiError::kKeyLimit, 429, kKeyLimit, ErrorKind::kOverloaded},
    ApiErrorRow{ApiError::kHeadersTooLong, 431, "headers_too_long", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kCancelled, 499, "cancelled", ErrorKind::kUnavailable},
    ApiErrorRow{ApiError::kInternal, 500, "internal", ErrorKind::kUnavailable},
    ApiErrorRow{ApiError::kUnsupportedTransfer, 501, "unsupported_encoding", ErrorKind::kInvalid},
    ApiErrorRow{ApiError::kOverloaded, 503, "overloaded", ErrorKind::kOverloaded},
    ApiErrorRow{ApiError::kUnavailable, 503, "unavailable", ErrorKind::kUnavailable},
    ApiErrorRow{ApiError::kInsufficientStorage, 507, "insufficient_storage", ErrorKind::kUnavailable},
};

constexpr bool ordered_like_the_enumeration() {
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].error != static_cast<ApiError>(i)) return false;
  }
  return kRows.back().error == ApiError::kInsufficientStorage;
}
static_assert(ordered_like_the_enumeration(), "row_of() indexes the table");

const ApiErrorRow& row_of(ApiError error) {
  return kRows[static_cast<std::size_t>(error)];
}

// A status that the table does not have belongs to the first row of its class.
const ApiErrorRow& row_of(int status) {
  const auto it = std::ranges::find(kRows, status, &ApiErrorRow::status);
  if (it != kRows.end()) return *it;
  return row_of(status >= 400 && status < 500 ? ApiError::kInvalidRequest : ApiError::kInternal);
}

const ApiErrorRow* find_row(int status, std::string_view code) {
  const auto same = [&](const ApiErrorRow& row) { return row.status == status && row.code == code; };
  const auto it = std::ranges::find_if(kRows, same);
  return it != kRows.end() ? &*it : nullptr;
}

// Where an absolute path may begin in a message.
bool begins_path(std::string_view message, std::size_t at) {
  if (message[at] != '/' || message.substr(at).starts_with("/v1/")) return false;
  return at == 0 || std::string_view(" '\"(").contains(message[at - 1]);
}

// It may contain spaces: messages about a file begin with its path and ": ".
std::size_t end_of_path(std::string_view message, std::size_t begin) {
  const std::size_t colon = message.find(": ", begin);
  if (colon != std::string_view::npos) return colon;
  return std::min(message.find_first_of(" '\")", begin), message.size());
}

HttpResponse response(int status, const ApiErrorRow& row, std::string_view message) {
  HttpResponse out{.status = status, .body = error_body(row.error, message)};
  if (status == 429 || status == 503) out.headers["Retry-After"] = "1";
  return out;
}

}  // namespace

std::span<const ApiErrorRow> api_errors() {
  return kRows;
}

ApiError answer_to(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid: return ApiError::kInvalidRequest;
    case ErrorKind::kNotFound: return ApiError::kNotFound;
    case ErrorKind::kMismatch: return ApiError::kMismatch;
    case ErrorKind::kUnauthorized: return ApiError::kUnauthorized;
    case ErrorKind::kUnavailable: return ApiError::kUnavailable;
    case ErrorKind::kOverloaded: return ApiError::kTooManyRequests;
    case ErrorKind::kCancelled: return ApiError::kCancelled;
    case ErrorKind::kIo:
    case ErrorKind::kInternal: return ApiError::kInternal;
  }
  return ApiError::kInternal;
}

ErrorKind kind_of_answer(int status, std::string_view code) {
  const ApiErrorRow* row = find_row(status, code);
  return row != nullptr ? row->client : row_of(status).client;
}

std::string without_paths(std::string_view message) {
  std::string out;
  for (std::size_t at = 0; at < message.size();) {
    if (begins_path(message, at) && message.substr(at).find('/', 1) < end_of_path(message, at) - at) {
      out += "a file of this server";
      at = end_of_path(message, at);
    } else {
      out += message[at++];
    }
  }
  return out;
}

std::string error_body(ApiError error, std::string_view message) {
  const std::string_view code = row_of(error).code;
  const json body = {{"error", {{"code", code}, {"message", without_paths(message)}, {"type", code}}}};
  return dump_json(body);
}

HttpResponse error_response(ApiError error, std::string_view message) {
  const ApiErrorRow& row = row_of(error);
  return response(row.status, row, message);
}

HttpResponse error_response(const Error& error) {
  return error_response(answer_to(error.kind), error.message);
}

HttpResponse answer_or_refuse(const std::function<HttpResponse()>& handler) {
  constexpr std::string_view kMessage = "this server has no {} left for the request; try again later";
  try {
    return handler();
  } catch (const std::bad_alloc&) {
    return error_response(ApiError::kTooManyRequests, fmt::format(kMessage, "memory"));
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) throw;
    return error_response(ApiError::kTooManyRequests, fmt::format(kMessage, "thread"));
  }
}

HttpResponse http_error(int status, std::string_view message, std::string_view code) {
  const ApiErrorRow* row = find_row(status, code);
  return response(status, row != nullptr ? *row : row_of(status), message);
}

HttpResponse operators_only() {
  return error_response(ApiError::kOperatorsOnly, "this is for operators: use a key with \"operator\": true");
}

Error error_of_answer(int status, ByteView body) {
  const auto parsed = parse_object(as_text(body));
  const auto error = parsed ? JsonFields(*parsed).required_object("error") : std::unexpected(parsed.error());
  const auto message = error ? error->required_text("message") : std::unexpected(error.error());
  const auto code = error ? error->required_text("code") : std::unexpected(error.error());
  const std::string_view said = message ? std::string_view(*message) : as_text(body);
  return {kind_of_answer(status, code.value_or("")), said.empty() ? fmt::format("HTTP status {}", status) : printable(said)};
}

}  // namespace celslm
