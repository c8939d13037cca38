#include "kv/pack/pack_inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/file.h"
#include "kv/pack/layer_state.h"
#include "kv/pack/pack.h"
#include "kv/pack/pack_file.h"
#include "kv/pack/places.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

std::string line(std::string_view name, const std::string& value) {
  return fmt::format("{:<14}{}\n", name, value);
}

// Text from an untrusted file: no control characters may reach the terminal.
std::string printable(std::string_view text) {
  std::string out(text);
  std::ranges::replace_if(out, [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

std::string describe_identity(const PackIdentity& identity) {
  const ModelFingerprint& model = identity.model;
  const auto codec = find_codec(identity.codec);
  std::string out = line("pack id", identity.id().hex());
  out += line("format", fmt::format("version {}", identity.version));
  out += line("context", fmt::format("{}, {} tokens", identity.context.hex(), identity.n_tokens()));
  out += line("model", fmt::format("{}, {} layers, {} KV heads of {}", printable(model.architecture), model.n_layers,
                                   model.n_kv_heads, model.head_dim));
  out += line("rope", printable(model.rope));
  out += line("weights", model.weights.hex());
  out += line("tokenizer", model.tokenizer.hex());
  out += line("arithmetic", fmt::format("class {}, {}", static_cast<int>(model.arithmetic), to_string(model.arithmetic)));
  out += line("provenance", to_string(identity.provenance));
  if (identity.map != Hash256{}) out += line("map", fmt::format("{}, from layer {} on", identity.map.hex(), identity.split));
  if (identity.tuning != Hash256{}) out += line("tuning", identity.tuning.hex());
  if (identity.studied())
    out += line("study",
                fmt::format("{}, {} rows for {} tokens", identity.study.hex(), identity.n_rows(), identity.n_tokens()));
  out += line("codec", codec ? std::string((*codec)->name()) : "unknown");
  return out;
}

struct States {
  std::uint32_t n = 0;
  std::uint64_t bytes = 0;
};

States states_of(const ModelFingerprint& model) {
  States out;
  for (const std::uint32_t bytes : model.states) {
    out.n += bytes > 0 ? 1 : 0;
    out.bytes += bytes;
  }
  return out;
}

std::string describe_sizes(const PackHeader& header, std::uint64_t header_size, std::uint64_t file_size) {
  const std::uint64_t region = header.block_region_bytes();
  const auto [n_states, state_bytes] = states_of(header.identity.model);
  const auto values = 2.0 * header.identity.n_rows() * (header.identity.model.n_layers - n_states) *
                      header.identity.model.n_kv_heads * header.identity.model.head_dim;
  std::string out = line("header", fmt::format("{} bytes", header_size));
  if (header.identity.opaque())
    return out + line("blocks", fmt::format("{} parts of a state of {} bytes", header.blocks.size(), region));
  out += line("blocks",
              fmt::format("{} of up to {} rows, {} bytes, {:.2f} bits per value", header.blocks.size(),
                          header.identity.block_tokens(), region, static_cast<double>(region - state_bytes) * 8 / values));
  if (n_states > 0)
    out += line("states", fmt::format("{} of recurrent layers, {} bytes of the above", n_states, state_bytes));
  out += line("per layer", fmt::format("{} bytes", region / header.identity.model.n_layers));
  out += line("file", file_size == header_size + region
                          ? fmt::format("{} bytes", file_size)
                          : fmt::format("{} bytes; the header describes a file of {}", file_size, header_size + region));
  return out;
}

std::string describe_signature(ByteView header_bytes, const PackHeader& header, const std::optional<PublicKey>& signer) {
  std::string out = line("signed by", header.signer.hex());
  const bool genuine = parse_header(header_bytes, header.signer).has_value();
  std::string verdict =
      genuine ? "valid, but no trusted key was given to compare the signer with" : "BAD: not made by the signer's key";
  if (signer && genuine) {
    verdict = *signer == header.signer ? "valid, by the trusted key"
                                       : "NOT TRUSTED: valid, but the trusted key is " + signer->hex();
  }
  return out + line("signature", verdict);
}

Status check(const PackHeader& header, int index, Bytes bytes) {
  const BlockRef ref = block_ref(header.identity, index);
  const auto block = VerifiedBlock::check(index, header.blocks[static_cast<std::size_t>(index)], std::move(bytes));
  if (!block) return wrap(block.error(), describe(ref));
  if (ref.kind == BlockKind::kState) return {};  // only its library can read it
  if (ref.kind == BlockKind::kLayerState) return decode_layer_state(header.identity, *block).transform([](const auto&) {});
  if (ref.kind == BlockKind::kPlaces) return decode_places(header.identity, *block).transform([](const auto&) {});
  std::vector<float> values(header.identity.shape(ref.kind, ref.chunk).values());
  return decode_block(header.identity, *block, values);
}

std::string problem_with(const PackHeader& header, int index, std::uint64_t region_offset, const InputFile& file) {
  const BlockEntry& entry = header.blocks[static_cast<std::size_t>(index)];
  if (region_offset + entry.offset + entry.bytes > file.size()) return "missing: the file ends before it";
  auto bytes = file.read(region_offset + entry.offset, entry.bytes);
  if (!bytes) return bytes.error().message;
  const Status checked = check(header, index, *std::move(bytes));
  return checked ? "" : checked.error().message;
}

std::string describe_blocks(const PackHeader& header, std::uint64_t region_offset, const InputFile& file) {
  constexpr int kShown = 10;
  int bad = 0;
  std::string problems;
  for (int i = 0; i < static_cast<int>(header.blocks.size()); ++i) {
    const std::string problem = problem_with(header, i, region_offset, file);
    if (!problem.empty() && bad++ < kShown) problems += line("", fmt::format("block {}: {}", i, problem));
  }
  if (bad == 0)
    return line("contents", header.identity.opaque() ? "every block matches its hash; what it holds is libllama's to read"
                                                     : "every block matches its hash and decodes");
  return line("contents", fmt::format("BAD: {} of {} blocks", bad, header.blocks.size())) + problems;
}

}  // namespace

Result<std::string> describe_pack(const fs::path& path, std::optional<PublicKey> signer) {
  CELSLM_TRY(const auto file, InputFile::open(path));
  CELSLM_TRY(const Bytes head, read_pack_header(*file));
  const auto header = parse_header_unverified(head);
  if (!header) return wrap(header.error(), path.string());
  return describe_identity(header->identity) + describe_sizes(*header, head.size(), file->size()) +
         describe_signature(head, *header, signer) + describe_blocks(*header, head.size(), *file);
}

}  // namespace celslm
