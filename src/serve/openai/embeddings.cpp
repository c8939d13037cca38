#include "serve/openai/embeddings.h"

#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "serve/openai/unsupported.h"

namespace celslm {
namespace {

using nlohmann::json;

std::string little_endian(std::span<const float> values) {
  std::string out;
  out.reserve(values.size() * 4);
  for (const float value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (unsigned shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(bits >> shift & 0xFFU));
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::string_view group = bytes.substr(i, 3);
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) bits = bits << 8U | (k < group.size() ? static_cast<unsigned char>(group[k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) out.push_back(k <= group.size() ? kDigits[bits >> (18 - 6 * k) & 63U] : '=');
  }
  return out;
}

}  // namespace

Result<EmbeddingRequest> parse_embedding_request(std::string_view body) {
  CELSLM_TRY(const json object, parse_object(body));
  const JsonFields fields(object);
  EmbeddingRequest out;
  CELSLM_CHECK_OK(refuse_unsupported(fields, kEmbeddingFields));
  CELSLM_TRY(const auto model, fields.text("model", 1024));
  out.model = model.value_or("");
  CELSLM_TRY(out.inputs, prompts_of(fields, "input"));
  CELSLM_TRY(const auto format, fields.text("encoding_format", 64));
  if (format && format != "float" && format != "base64") return fields.expected("encoding_format", "'float' or 'base64'");
  out.base64 = format == "base64";
  return out;
}

json embedding_response(const EmbeddingRequest& request, std::string_view model,
                        std::span<const std::vector<float>> embeddings, const Usage& usage) {
  json data = json::array();
  for (const std::vector<float>& values : embeddings) {
    data.push_back({{"object", "embedding"}, {"index", data.size()}});
    data.back()["embedding"] = request.base64 ? json(base64(little_endian(values))) : json(values);
  }
  return {{"object", "list"},
          {"model", model},
          {"data", std::move(data)},
          {"usage", {{"prompt_tokens", usage.prompt_tokens}, {"total_tokens", usage.prompt_tokens}}}};
}

}  // namespace celslm
