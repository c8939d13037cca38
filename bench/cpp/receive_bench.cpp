// What KV that arrives costs an edge: HTTP from this machine, the check of each block, its values into a context's memory,
// and its copy on disk. CPU time of the threads that do this, on a model's shape, per 25 MB of the same values as f16; one
// line of JSON a codec.
//
//   build/release/bench/celslm_bench_receive --model FILE --tokens 2048 --runs 5
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "bench/cpp/support.h"
#include "kv/store/pack_store.h"
#include "model/engine/model.h"
#include "net/http_client.h"
#include "serve/load/block_import.h"
#include "serve/load/pack_keeper.h"

namespace celslm {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> codecs = {"f16", "f16z", "q8", "t4"};
  int tokens = 2048;
  int runs = 5;
};

double thread_cpu_ms() {
  struct timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

// Answers every request with the same bytes, one connection after the other.
class ByteServer {
 public:
  explicit ByteServer(Bytes body) : body_(std::move(body)), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    ::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    socklen_t size = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    ::listen(listener_, 4);
    thread_ = std::thread([this] { serve(); });
  }
  ~ByteServer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  ByteServer(const ByteServer&) = delete;
  ByteServer& operator=(const ByteServer&) = delete;
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  void serve() const {
    for (int peer = -1; (peer = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(peer)) {
      std::string head;
      char buffer[4096];
      while (!head.contains("\r\n\r\n")) {
        const ssize_t n = ::read(peer, buffer, sizeof buffer);
        if (n <= 0) break;
        head.append(buffer, static_cast<std::size_t>(n));
      }
      const std::string answer =
          "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body_.size()) + "\r\n\r\n";
      send(peer, std::as_bytes(std::span(answer)));
      send(peer, body_);
    }
  }
  static void send(int peer, ByteView rest) {
    while (!rest.empty()) {
      const ssize_t n = ::send(peer, rest.data(), rest.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      rest = rest.subspan(static_cast<std::size_t>(n));
    }
  }

  const Bytes body_;
  const int listener_;
  int port_ = 0;
  std::thread thread_;
};

// Rows with unequal variance along different directions, like those of a model: noise, summed along each row.
std::vector<float> block_values(const BlockShape& shape, unsigned seed) {
  std::vector<float> out(shape.values());
  std::mt19937 random(seed);
  std::normal_distribution<float> noise;
  float sum = 0.0F;
  for (std::size_t i = 0; i < out.size(); ++i) {
    sum = i % static_cast<std::size_t>(shape.head_dim) == 0 ? 0.0F : 0.9F * sum;
    out[i] = sum += noise(random);
  }
  return out;
}

// A pack of the model's shape. One layer's blocks are those of all.
struct Pack {
  PackIdentity identity;
  std::vector<BlockEntry> entries;
  Bytes region;
  Bytes header;
  std::size_t values = 0;
};

Result<Pack> make_pack(const Model& model, const Codec& codec, int tokens) {
  Pack out{.identity = {.model = model.fingerprint(), .codec = codec.id()}};
  out.identity.tokens.assign(static_cast<std::size_t>(tokens), 1);
  out.identity.context = context_id(out.identity.model.tokenizer, out.identity.tokens);
  std::vector<Bytes> layer;
  for (int i = 0; i < out.identity.n_blocks(); ++i) {
    const BlockRef ref = block_ref(out.identity, i);
    const BlockShape shape = out.identity.shape(ref.kind, ref.chunk);
    out.values += shape.values();
    if (ref.layer == 0) {
      CELSLM_TRY(layer.emplace_back(), codec.encode(shape, block_values(shape, static_cast<unsigned>(i))));
    }
    const Bytes& bytes = layer[static_cast<std::size_t>(i) % layer.size()];
    out.entries.push_back(make_entry(out.region.size(), bytes));
    out.region.insert(out.region.end(), bytes.begin(), bytes.end());
  }
  CELSLM_TRY(const SigningKey key, SigningKey::generate());
  out.header = encode_header(out.identity, out.entries, key);
  return out;
}

struct Costs {
  double total = 0.0;  // of the thread that receives
  double check = 0.0;
  double place = 0.0;
  double disk = 0.0;  // of the disk's thread
};

// Adds what a piece of work costs.
template <typename F>
auto timed(double& sum, const F& work) {
  const double before = thread_cpu_ms();
  auto out = work();
  sum += thread_cpu_ms() - before;
  return out;
}

Result<Costs> receive(const Model& model, const Pack& pack, const std::string& url, KvSegment& segment, PackKeeper& keeper) {
  Costs out;
  CELSLM_TRY(const auto client, make_http_client({.base_url = url}));
  Status taken;
  std::size_t next = 0;
  Bytes held;
  const auto take = [&](Bytes bytes) {
    const int index = static_cast<int>(next);
    const auto block = timed(out.check, [&] { return VerifiedBlock::check(index, pack.entries[next++], std::move(bytes)); });
    if (!block) {
      taken = std::unexpected(block.error());
      return false;
    }
    taken = timed(out.place, [&] { return import_block(model, pack.identity, *block, segment); });
    keeper.put(*block);
    return taken.has_value();
  };
  const auto sink = [&](ByteView piece) {
    while (!piece.empty() && next < pack.entries.size()) {
      const std::size_t wanted = pack.entries[next].bytes;
      const ByteView part = piece.first(std::min(piece.size(), wanted - held.size()));
      held.reserve(wanted);
      held.insert(held.end(), part.begin(), part.end());
      piece = piece.subspan(part.size());
      if (held.size() < wanted) return true;
      if (!take(std::exchange(held, {}))) return false;
    }
    return true;
  };
  keeper.announce(0, pack.entries);
  const double before = thread_cpu_ms();
  const auto answer = client->call({.path = "/", .max_body_bytes = pack.region.size(), .sink = sink});
  out.total = thread_cpu_ms() - before;
  CELSLM_CHECK_OK(taken);
  if (!answer) return std::unexpected(answer.error());
  return out;
}

Result<Costs> run_once(const Model& model, const Pack& pack, const std::string& url) {
  const auto folder = std::filesystem::temp_directory_path() / ("celslm-receive-" + std::to_string(::getpid()));
  CELSLM_TRY(const std::shared_ptr<PackStore> store, PackStore::open(folder, std::uint64_t{1} << 40, null_log()));
  CELSLM_TRY(const auto segment, KvSegment::create(model.config(), KvType::kF16, 0, pack.identity.n_tokens()));
  const auto disk = std::make_shared<DiskThread>();
  Costs out;
  {
    PackKeeper keeper([&](const PackIdentity& identity) { return store->create(identity); }, pack.identity, disk,
                      null_log());
    CELSLM_TRY(out, receive(model, pack, url, *segment, keeper));
    CELSLM_CHECK_OK(keeper.commit(pack.header));
  }
  disk->post(0, [&] { out.disk = thread_cpu_ms(); });
  disk->wait_until_idle();
  std::error_code gone;
  std::filesystem::remove_all(folder, gone);
  return out;
}

Status measure(const Model& model, const Codec& codec, const Options& o) {
  CELSLM_TRY(const Pack pack, make_pack(model, codec, o.tokens));
  const ByteServer server(pack.region);
  std::vector<Costs> runs;
  for (int i = 0; i < o.runs; ++i) {
    CELSLM_TRY(runs.emplace_back(), run_once(model, pack, server.url()));
  }
  const double per_25_mb = 25e6 / static_cast<double>(2 * pack.values);  // of the same values as f16
  const auto median = [&](double Costs::* cost) {
    std::ranges::sort(runs, {}, cost);
    return runs[runs.size() / 2].*cost * per_25_mb;
  };
  const double check = median(&Costs::check);
  const double place = median(&Costs::place);
  const double total = median(&Costs::total);
  std::printf(
      "{\"name\": \"%s\", \"bytes\": %zu, \"cpu_ms\": %.2f, \"receive_ms\": %.2f, \"check_ms\": %.2f, \"place_ms\": %.2f, "
      "\"disk_ms\": %.2f}\n",
      std::string(codec.name()).c_str(), pack.region.size(), total, total - check - place, check, place,
      median(&Costs::disk));
  std::fflush(stdout);
  return {};
}

Status run(const Options& o) {
  CELSLM_TRY(const auto model, Model::load(o.model));
  for (const std::string& name : o.codecs) {
    CELSLM_TRY(const Codec* codec, find_codec(name));
    CELSLM_CHECK_OK(measure(*model, *codec, o));
  }
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  CLI::App app("What KV that arrives costs an edge");
  app.add_option("--model", options.model, "GGUF")->required();
  app.add_option("--codec", options.codecs);
  app.add_option("--tokens", options.tokens)->check(CLI::Range(1, 1 << 17));
  app.add_option("--runs", options.runs)->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_receive", celslm::run(options));
}
