// celslm cert: a small authority, and certificates of nodes.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <ostream>

#include "cli/commands.h"
#include "cli/terminal/option_kinds.h"
#include "core/file.h"
#include "net/certificates.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

constexpr int kAuthorityDays = 3650;
constexpr int kNodeDays = 397;  // replaced once a year
constexpr int kMostDays = 36500;
constexpr const char* kAuthority = "authority";

constexpr const char* kExamples = R"(Examples:
  celslm cert authority certs
      writes certs/authority.pem, which every node gets, and certs/authority.key, which signs: keep it off the nodes
  celslm cert node certs --name cloud-1 --ip 10.0.0.1
      writes certs/cloud-1.pem and certs/cloud-1.key for the node that others reach at 10.0.0.1
  celslm cloud --model small.gguf --host 10.0.0.1 --tls-cert certs/cloud-1.pem --tls-key certs/cloud-1.key \
      --client-authority certs/authority.pem
      hands out KV only to nodes with a certificate of this authority
  celslm cert show certs/cloud-1.pem
)";

struct CertCommand {
  std::string folder;
  std::string name = "celslm authority";
  NodeNames node;
  int days = 0;  // 0: as --help tells
  std::string file;
};

std::chrono::seconds days(int given, int otherwise) {
  return std::chrono::days(given > 0 ? given : otherwise);
}

// The key first: a certificate without a key would be in the way of the next try.
Status write_pair(const fs::path& certificate_file, const fs::path& key_file, const CertificatePair& pair) {
  const auto taken = [](const fs::path& file) {
    return fail(ErrorKind::kInvalid, "{} exists already: move it away, or choose another name", file.string());
  };
  if (std::error_code error; fs::exists(certificate_file, error)) return taken(certificate_file);
  CELSLM_TRY(const bool is_new, write_new_private_file(key_file, as_bytes(pair.key)));
  if (!is_new) return taken(key_file);
  return write_file_atomically(certificate_file, as_bytes(pair.certificate));
}

Status make(Environment& env, const fs::path& folder, const std::string& file, const CertificatePair& pair) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorKind::kIo, "{}: cannot create the folder: {}", folder.string(), error.message());
  const fs::path certificate = folder / (file + ".pem");
  const fs::path key = folder / (file + ".key");
  CELSLM_CHECK_OK(write_pair(certificate, key, pair));
  env.out << certificate.string() << "\n" << key.string() << std::endl;
  return {};
}

Status new_authority(Environment& env, const CertCommand& command) {
  CELSLM_TRY(const CertificatePair pair, make_authority(command.name, days(command.days, kAuthorityDays)));
  return make(env, command.folder, kAuthority, pair);
}

Status new_node(Environment& env, const CertCommand& command) {
  const fs::path folder = command.folder;
  const std::string& name = command.node.name;
  if (name == kAuthority || name.contains(' ') || name.starts_with('.'))
    return fail(ErrorKind::kInvalid, "'{}' cannot be a node's name: it names its files", name);
  CertificatePair authority;
  for (const auto& [file, text] :
       {std::pair("authority.pem", &authority.certificate), std::pair("authority.key", &authority.key)}) {
    const auto bytes = read_file(folder / file, kMaxCertificateBytes);
    if (!bytes && bytes.error().kind == ErrorKind::kNotFound)
      return fail(ErrorKind::kNotFound, "{}: no such file: 'celslm cert authority {}' makes it", (folder / file).string(),
                  folder.string());
    if (!bytes) return std::unexpected(bytes.error());
    *text = as_text(*bytes);
  }
  auto pair = make_node_certificate(authority, command.node, days(command.days, kNodeDays));
  if (!pair) return wrap(std::move(pair).error(), folder.string());
  return make(env, folder, name, *pair);
}

Status show(Environment& env, const CertCommand& command) {
  CELSLM_TRY(const Bytes bytes, read_file(command.file, kMaxCertificateBytes));
  const auto facts = certificate_facts(as_text(bytes));
  if (!facts) return wrap(facts.error(), command.file);
  std::string also;
  for (const std::string& name : facts->also) also += (also.empty() ? "" : ", ") + name;
  const auto seconds = [](auto time) { return std::chrono::floor<std::chrono::seconds>(time); };
  env.out << fmt::format("name    {}{}\nissuer  {}\nalso    {}\nfrom    {:%F %T} UTC\nuntil   {:%F %T} UTC\n", facts->name,
                         facts->is_authority ? " (an authority)" : "", facts->issuer, also, seconds(facts->begins),
                         seconds(facts->ends))
          << std::flush;
  return {};
}

void add_days(CLI::App& app, int& value, int by_default) {
  app.add_option("--days", value, "For how many days the certificate is valid")
      ->check(CLI::Range(1, kMostDays))
      ->option_text(fmt::format("1..{} [{}]", kMostDays, by_default));
}

}  // namespace

void add_cert(CLI::App& app, Environment& env) {
  auto command = std::make_shared<CertCommand>();
  CLI::App* cert =
      app.add_subcommand("cert", "Make certificates by which nodes know each other: an authority, and one for each node");
  cert->require_subcommand(1);
  cert->footer(kExamples);
  const auto on = [&env](CLI::App* sub, const std::function<Status()>& run) {
    sub->callback([&env, run] {
      env.action = [&env, run] {
        const Status status = run();
        return status ? kExitFine : failed(env, status.error());
      };
    });
  };
  CLI::App* authority =
      cert->add_subcommand("authority", "Make an authority's certificate and key; prints the files' names");
  authority->add_option("DIR", command->folder, "Folder for authority.pem and authority.key")->required();
  authority->add_option("--name", command->name, "Name in the certificate")
      ->option_text(fmt::format("NAME [{}]", command->name));
  add_days(*authority, command->days, kAuthorityDays);
  on(authority, [&env, command] { return new_authority(env, *command); });
  CLI::App* node = cert->add_subcommand("node", "Make a node's certificate and key; prints the files' names");
  node->add_option("DIR", command->folder, "Folder with the authority, and for NAME.pem and NAME.key")->required();
  node->add_option("--name", command->node.name, "Name of the node, in logs and in the audit log")
      ->required()
      ->option_text("NAME REQUIRED");
  add_list(*node, "--ip", command->node.addresses, "ADDRESS", "Address by which others connect to the node");
  add_list(*node, "--dns", command->node.hosts, "HOST",
           "Host name by which others connect to the node (its --name counts as one)");
  add_days(*node, command->days, kNodeDays);
  on(node, [&env, command] { return new_node(env, *command); });
  CLI::App* show_command = cert->add_subcommand("show", "Print a certificate's names, and until when it is valid");
  show_command->add_option("FILE", command->file, "PEM file")->required();
  on(show_command, [&env, command] { return show(env, *command); });
}

}  // namespace celslm
