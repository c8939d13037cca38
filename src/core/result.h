// Errors as values. No exception crosses a layer; the kind of an error tells what the caller can do about it.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <utility>

namespace celslm {

// What the caller can do. The kind decides control flow; the message is for people and names the thing and the remedy.
enum class ErrorKind {
  kInvalid,       // the input is wrong; repeating it is useless
  kNotFound,      // the named thing does not exist here
  kMismatch,      // both sides are well-formed but do not belong together (models, tokenizers, hashes)
  kUnauthorized,  // credentials are missing or wrong
  kUnavailable,   // a peer, link or device failed: try another source, or later
  kOverloaded,    // a limit is reached: try later
  kCancelled,     // the caller asked to stop
  kIo,            // the local disk or system refused
  kInternal,      // a bug here
};

const char* to_string(ErrorKind kind);

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{kind, fmt::format(format, std::forward<Args>(args)...)});
}

// Puts "what: " before an error's message; its kind stays.
[[nodiscard]] inline std::unexpected<Error> wrap(Error error, const std::string& what) {
  error.message = what + ": " + error.message;
  return std::unexpected(std::move(error));
}

}  // namespace celslm

#define CELSLM_CONCAT_(a, b) a##b
#define CELSLM_CONCAT(a, b) CELSLM_CONCAT_(a, b)

// CELSLM_TRY(auto x, f()): x is f()'s value, or the enclosing function returns its error.
#define CELSLM_TRY(declaration, expression) CELSLM_TRY_(CELSLM_CONCAT(result_, __LINE__), declaration, expression)
#define CELSLM_TRY_(result, declaration, expression)              \
  auto result = (expression);                                     \
  if (!result) return std::unexpected(std::move(result).error()); \
  declaration = *std::move(result)

// CELSLM_CHECK_OK(f()): the enclosing function returns f()'s error, if it has one. For f() returning Status.
#define CELSLM_CHECK_OK(expression)                                   \
  do {                                                                \
    auto status_ = (expression);                                      \
    if (!status_) return std::unexpected(std::move(status_).error()); \
  } while (false)
