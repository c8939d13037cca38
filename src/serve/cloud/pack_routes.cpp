#include "serve/cloud/pack_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>
#include <utility>

#include "serve/cloud/refusals.h"
#include "serve/wire/audited.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

std::unexpected<HttpResponse> refuse(HttpResponse response) {
  return std::unexpected(std::move(response));
}

}  // namespace

void PackRoutes::add_to(HttpServer& server) {
  const std::string pack = "/v1/packs/:context/:model/:codec/";
  server.route("GET", pack + "header",
               audited(parts_.audit, "fetch",
                       counted(parts_.metrics, "header", [this](const HttpRequest& r) { return get_header(r); })));
  server.route("GET", pack + "entries",
               counted(parts_.metrics, "entries", [this](const HttpRequest& r) { return get_entries(r); }));
  server.route("GET", pack + "blocks",
               counted(parts_.metrics, "blocks", [this](const HttpRequest& r) { return get_blocks(r); }));
  server.route(
      "GET", pack + "pack",
      audited(parts_.audit, "fetch", counted(parts_.metrics, "pack", [this](const HttpRequest& r) { return get_pack(r); })));
}

PackRoutes::Answer<PackIdentity> PackRoutes::wanted(const HttpRequest& request) {
  const std::string context = request.parameter("context");
  const std::string model_name = request.parameter("model");
  const auto handle = Hash256::from_hex(context);
  if (!handle || !parts_.contexts.contains(*handle, request.caller)) return refuse(unknown_context(context));
  const auto model_id = Hash256::from_hex(model_name);
  if (!model_id)
    return refuse(error_response(ApiError::kUnknownModel,
                                 fmt::format("'{}' is not a model id: it must have 64 hex digits", model_name)));
  MadeWith made_with;
  ApiError unknown = ApiError::kUnknownModel;
  for (const auto& [name, id, error] : {std::tuple("map", &made_with.map, ApiError::kUnknownMap),
                                        std::tuple("tuning", &made_with.tuning, ApiError::kUnknownTuning),
                                        std::tuple("study", &made_with.study, ApiError::kUnknownStudy)}) {
    const std::string digits = request.parameter(name);
    if (digits.empty()) continue;
    unknown = error;
    if (!from_hex(digits, id->bytes))
      return refuse(
          error_response(unknown, fmt::format("'{}' is not the id of a {}: it must have 64 hex digits", digits, name)));
  }
  const Hash256 study = std::exchange(made_with.study, Hash256{});  // of the model's own KV
  const auto model = parts_.catalog.find_model(*model_id, made_with);
  if (!model) return refuse(error_response(unknown, model.error().message));
  const auto codec = offered_codec(request.parameter("codec"), (*model)->model().fingerprint);
  if (!codec) return refuse(error_response(ApiError::kUnknownCodec, codec.error().message));
  auto identity = parts_.catalog.identity(*handle, **model, *codec);
  if (!identity && identity.error().kind == ErrorKind::kNotFound) return refuse(unknown_context(context));
  if (!identity) return refuse(context_refused(identity.error()));
  if (study == Hash256{}) return *std::move(identity);
  const auto studied = parts_.studied.find(*handle, *model_id, study);
  if (!studied || studied->n_rows > identity->n_tokens() || !made_with.none())
    return refuse(
        error_response(ApiError::kUnknownStudy, studied ? "the study is not one of this context" : studied.error().message));
  set_study(*identity, *studied);
  return *std::move(identity);
}

PackRoutes::Answer<PackAccess> PackRoutes::existing(const HttpRequest& request) {
  const auto identity = wanted(request);
  if (!identity) return refuse(identity.error());
  auto access = parts_.jobs.lookup(identity->id());
  if (!access) return refuse(error_response(ApiError::kUnknownPack, access.error().message));
  return *std::move(access);
}

HttpResponse PackRoutes::get_header(const HttpRequest& request) {
  const auto identity = wanted(request);
  if (!identity) return identity.error();
  const auto access = identity->studied()
                          ? parts_.studied.pack(*identity, parts_.storage, parts_.key).transform([](StoredPack p) {
                              return PackAccess(std::move(p));
                            })
                          : parts_.jobs.request(*identity);
  if (!access) return context_refused(access.error());
  return header_response(*access, request.parameter("blocks"), meter("header"));
}

HttpResponse PackRoutes::get_entries(const HttpRequest& request) {
  const std::string text = request.parameter("from");
  int from = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), from);
  if (!text.empty() && (error != std::errc() || end != text.data() + text.size() || from < 0)) {
    return error_response(ApiError::kInvalidRequest, "'from' must be the number of an entry: an integer from 0");
  }
  const auto access = existing(request);
  if (!access) return access.error();
  return entries_response(*access, from, parts_.key, parts_.followers, meter("entries"));
}

HttpResponse PackRoutes::get_blocks(const HttpRequest& request) {
  const auto access = existing(request);
  if (!access) return access.error();
  return blocks_response(*access, request.header("range"), meter("blocks"));
}

HttpResponse PackRoutes::get_pack(const HttpRequest& request) {
  const auto access = existing(request);
  if (!access) return access.error();
  const auto* stored = std::get_if<StoredPack>(&*access);
  if (stored == nullptr)
    return error_response(ApiError::kUnknownPack, "the pack is still being computed: follow its entries");
  return file_response(*stored, request.header("range"), meter("pack"));
}

Result<CodecId> PackRoutes::offered_codec(const std::string& name, const ModelFingerprint& model) const {
  CELSLM_TRY(const Codec* codec, find_codec(name));
  if (has_states(model)) {
    if (codec->id() == CodecId::kOpaque) return codec->id();
    return fail(ErrorKind::kNotFound,
                "libllama runs this model: its KV is offered as a state only, with the codec 'opaque'");
  }
  if (std::ranges::contains(parts_.codecs, codec->id())) return codec->id();
  std::string names;
  for (const CodecId id : parts_.codecs) names += (names.empty() ? "" : ", ") + std::string((*find_codec(id))->name());
  return fail(ErrorKind::kNotFound, "the codec '{}' is not offered here; the codecs are {}", name, names);
}

OnSent PackRoutes::meter(const char* part) {
  return [this, part](std::size_t bytes) { parts_.metrics.sent(part, bytes); };
}

}  // namespace celslm
