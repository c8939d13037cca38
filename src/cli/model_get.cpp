// celslm model get: a model from a URL or a file into the folder of models; resumes, and checks what came.
#include <fmt/format.h>
#include <sodium.h>

#include <CLI/CLI.hpp>
#include <array>
#include <fstream>
#include <ostream>

#include "cli/commands.h"
#include "cli/terminal/model_files.h"
#include "cli/terminal/progress.h"
#include "core/file.h"
#include "model/gguf/gguf_check.h"
#include "net/http_client.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr std::uint64_t kPiece = 16U << 20;  // of a range request: what an interrupted call loses at most
constexpr int kRedirects = 5;
constexpr int kTries = 5;  // of one piece

constexpr const char* kExamples = R"(Examples:
  celslm model get https://models.example/qwen2.5-0.5b-q4_0.gguf
      fetches it into the folder of models; the same command again goes on where it was interrupted
  celslm model get ~/downloads/m.gguf --sha256 1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
  celslm edge --model qwen2.5-0.5b
      the model of that folder whose name begins so
)";

struct GetCommand {
  std::string source;
  std::string sha256;
  std::string name;
};

bool is_url(const std::string& text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

struct Url {
  std::string base;  // "https://host"
  std::string path;
};

Url split(const std::string& url) {
  const std::size_t slash = std::min(url.find('/', url.find("://") + 3), url.size());
  const std::string path = url.substr(slash, url.find('#') - slash);
  return {.base = url.substr(0, slash), .path = path.empty() ? "/" : path};
}

std::string file_name(const std::string& source) {
  const std::string path = is_url(source) ? split(source).path.substr(0, split(source).path.find('?')) : source;
  return fs::path(path).filename().string();
}

// Where the file is after all redirections, and its size.
struct Remote {
  std::unique_ptr<HttpClient> client;
  std::string path;
  std::uint64_t bytes = 0;
};

Result<Remote> locate(std::string url) {
  for (int i = 0; i <= kRedirects; ++i) {
    const Url parts = split(url);
    CELSLM_TRY(auto client, make_http_client({.base_url = parts.base}));
    CELSLM_TRY(const HttpAnswer answer, client->call({.method = "HEAD", .path = parts.path}));
    if (const auto to = answer.headers.find("location"); answer.status / 100 == 3 && to != answer.headers.end()) {
      url = to->second.starts_with('/') ? parts.base + to->second : to->second;
      continue;
    }
    if (answer.status != 200) return fail(ErrorKind::kNotFound, "{}: the server answered {}", url, answer.status);
    const auto length = answer.headers.find("content-length");
    if (length == answer.headers.end())
      return fail(ErrorKind::kInvalid, "{}: the server does not tell the file's size", url);
    return Remote{
        .client = std::move(client), .path = parts.path, .bytes = std::strtoull(length->second.c_str(), nullptr, 10)};
  }
  return fail(ErrorKind::kInvalid, "{}: more than {} redirections", url, kRedirects);
}

// Appends the piece to `out`. What a failed call has written is overwritten by the next.
Status fetch_piece(const Remote& remote, ByteRange range, std::fstream& out) {
  for (int attempt = 1;; ++attempt) {
    out.seekp(static_cast<std::streamoff>(range.first));
    const auto sink = [&](ByteView piece) {
      out.write(reinterpret_cast<const char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
      return out.good();
    };
    const auto answer =
        remote.client->call({.path = remote.path, .range = range, .timeout = 0ms, .stall_timeout = 30s, .sink = sink});
    if (!out.good()) return fail(ErrorKind::kIo, "the file cannot be written: is the disk full?");
    if (answer && answer->status == 206) return {};
    if (answer) return fail(ErrorKind::kInvalid, "the server answered {} to a range request", answer->status);
    if (answer.error().kind != ErrorKind::kUnavailable || attempt == kTries) return std::unexpected(answer.error());
  }
}

Status fetch(Environment& env, const std::string& url, const fs::path& part) {
  CELSLM_TRY(const Remote remote, locate(url));
  std::ofstream(part, std::ios::app).flush();  // there from now on
  std::uint64_t have = fs::file_size(part);
  if (have > remote.bytes) have = 0;
  have -= have % kPiece;
  std::error_code error;
  if (const auto space = fs::space(part.parent_path(), error); !error && space.available < remote.bytes - have)
    return fail(ErrorKind::kIo, "{}: {} MB are needed, {} MB are free", part.parent_path().string(),
                (remote.bytes - have) / 1000000, space.available / 1000000);
  std::fstream out(part, std::ios::in | std::ios::out | std::ios::binary);
  Progress progress(env.err, fmt::format("fetching {} ({} MB)", part.stem().string(), remote.bytes / 1000000));
  for (; have < remote.bytes; have = std::min(have + kPiece, remote.bytes)) {
    progress.show(static_cast<double>(have) / static_cast<double>(remote.bytes));
    CELSLM_CHECK_OK(fetch_piece(remote, {.first = have, .end = std::min(have + kPiece, remote.bytes)}, out));
  }
  progress.end();
  out.close();
  fs::resize_file(part, remote.bytes, error);
  if (error || !out) return fail(ErrorKind::kIo, "{}: cannot be written", part.string());
  return {};
}

Result<std::string> sha256_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(ErrorKind::kIo, "{}: cannot be read", file.string());
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  std::vector<char> block(1U << 20);
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())) || in.gcount() > 0)
    crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(block.data()),
                              static_cast<unsigned long long>(in.gcount()));
  std::array<unsigned char, crypto_hash_sha256_BYTES> digest;
  crypto_hash_sha256_final(&state, digest.data());
  std::string out;
  for (const unsigned char byte : digest) out += fmt::format("{:02x}", byte);
  return out;
}

Status check(const GetCommand& command, const fs::path& part, const std::string& digest) {
  if (!command.sha256.empty() && digest != command.sha256)
    return fail(ErrorKind::kMismatch, "SHA-256 is {}, expected {}", digest, command.sha256);
  CELSLM_TRY(const auto file, MappedFile::open(part));
  return check_gguf(file->bytes());
}

Status get(Environment& env, const GetCommand& command) {
  CELSLM_TRY(const fs::path folder, models_folder(env));
  const std::string name = command.name.empty() ? file_name(command.source) : command.name;
  if (!name.ends_with(".gguf") || fs::path(name).has_parent_path())
    return fail(ErrorKind::kInvalid, "'{}' is not the name of a GGUF file: give one that ends in .gguf with --name", name);
  const fs::path target = folder / name;
  const fs::path part = folder / (name + ".part");
  std::error_code error;
  fs::create_directories(folder, error);
  if (!fs::exists(target)) {
    if (is_url(command.source)) {
      CELSLM_CHECK_OK(fetch(env, command.source, part));
    } else if (!fs::copy_file(command.source, part, fs::copy_options::overwrite_existing, error)) {
      return fail(ErrorKind::kIo, "{}: cannot be copied to {}: {}", command.source, part.string(), error.message());
    }
  }
  const fs::path& there = fs::exists(target) ? target : part;
  CELSLM_TRY(const std::string digest, sha256_of(there));
  if (const Status sound = check(command, there, digest); !sound) {
    if (there == part) fs::remove(part, error);
    return wrap(sound.error(), name);
  }
  if (there == part) fs::rename(part, target, error);
  if (error) return fail(ErrorKind::kIo, "{}: {}", target.string(), error.message());
  env.out << target.string() << std::endl;
  env.err << "SHA-256 " << digest << std::endl;
  return {};
}

}  // namespace

void add_model_get(CLI::App& model, Environment& env) {
  auto command = std::make_shared<GetCommand>();
  CLI::App* app = model.add_subcommand(
      "get",
      "Fetch a model into the folder of models, which ./dev models uses, too; prints its path. 'edge --model NAME' "
      "finds it there");
  app->footer(kExamples);
  app->add_option("SOURCE", command->source, "URL (http or https) or file")->required();
  app->add_option("--sha256", command->sha256, "What the file's SHA-256 has to be")
      ->transform([](std::string text) {
        std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        return text;
      })
      ->check([](const std::string& text) {
        const bool hex = text.size() == 64 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
        return hex ? std::string() : "expected 64 hex digits";
      })
      ->option_text("HEX");
  app->add_option("--name", command->name, "Name of the file (default: the source's)")->option_text("NAME");
  app->callback([&env, command] {
    env.action = [&env, command] {
      const Status status = get(env, *command);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
