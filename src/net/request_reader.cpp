#include "net/request_reader.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <utility>

#include "net/http_limits.h"

namespace celslm {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

// A body that grows with what arrives. Beast's string_body allocates what a peer announces.
struct GrowingBody {
  using value_type = std::string;
  class reader {  // NOLINT(readability-identifier-naming): the name that Beast looks for
   public:
    template <bool is_request, typename Fields>
    reader(http::header<is_request, Fields>& /*header*/, std::string& body) : body_(body) {}
    template <typename Optional>
    void init(const Optional& /*length*/, error_code& error) {
      error = {};
    }
    template <typename Buffers>
    std::size_t put(const Buffers& buffers, error_code& error) {
      error = {};
      std::size_t n = 0;
      for (auto it = boost::asio::buffer_sequence_begin(buffers); it != boost::asio::buffer_sequence_end(buffers); ++it) {
        const boost::asio::const_buffer piece(*it);
        body_.append(static_cast<const char*>(piece.data()), piece.size());
        n += piece.size();
      }
      return n;
    }
    void finish(error_code& error) { error = {}; }

   private:
    std::string& body_;
  };
};

}  // namespace

struct RequestReader::Body {
  http::request_parser<GrowingBody> parser;
};

RequestReader::RequestReader() = default;
RequestReader::~RequestReader() = default;

RequestReader::Progress RequestReader::refuse(int status) {
  status_ = status;
  return Progress::kRefused;
}

bool RequestReader::has_input() const {
  return std::string_view(input_).find_first_not_of("\r\n") != std::string_view::npos;
}

void RequestReader::release_memory() {
  if (input_.empty()) input_ = std::string();
  head_bytes_ = std::string();
  head_ = {};
  body_.reset();
}

RequestReader::Progress RequestReader::read_head() {
  while (input_.starts_with("\r\n")) {
    input_.erase(0, 2);
    skipped_ += 2;
    seen_ = 0;
  }
  const std::string_view input = input_;
  const std::size_t end = input.find("\r\n\r\n", seen_ < 3 ? 0 : seen_ - 3);
  const std::size_t size = end == std::string_view::npos ? input.size() : end + 4;
  if (skipped_ + size > kMaxHeadBytes) return refuse(input.substr(0, kMaxHeadBytes).contains("\r\n") ? 431 : 414);
  if (end == std::string_view::npos) {
    seen_ = input.size();
    return Progress::kMore;
  }
  auto head = parse_request_head(input.substr(0, size));
  if (!head) return refuse(head.error());
  head_ = *std::move(head);
  head_bytes_ = input.substr(0, size);
  input_.erase(0, size);
  seen_ = skipped_ = 0;
  return Progress::kDone;
}

RequestReader::Progress RequestReader::begin_body(std::size_t max_bytes) {
  body_ = std::make_unique<Body>();
  body_->parser.header_limit(2 * kMaxHeadBytes);
  body_->parser.body_limit(max_bytes);
  error_code error;
  const std::size_t n = body_->parser.put(boost::asio::buffer(head_bytes_), error);
  if (error || n != head_bytes_.size() || !body_->parser.is_header_done()) return refuse(400);
  head_bytes_ = std::string();
  body_->parser.eager(true);
  return read_body();
}

RequestReader::Progress RequestReader::read_body() {
  auto& parser = body_->parser;
  while (!parser.is_done()) {
    if (input_.empty()) return Progress::kMore;
    error_code error;
    const std::size_t n = parser.put(boost::asio::buffer(input_), error);
    input_.erase(0, n);
    if (error == http::error::body_limit) return refuse(413);
    if (error && error != http::error::need_more) return refuse(400);
    if (n > 0) continue;
    return input_.size() > kMaxChunkHeadBytes ? refuse(400) : Progress::kMore;
  }
  return Progress::kDone;
}

std::size_t RequestReader::body_bytes() const {
  return body_ ? body_->parser.get().body().size() : 0;
}

std::string RequestReader::take_body() {
  std::string out = std::move(body_->parser.get().body());
  body_.reset();
  return out;
}

}  // namespace celslm
