#include "serve/cloud/pack_catalog.h"

#include <fmt/format.h>

#include <algorithm>

namespace celslm {
namespace {

constexpr std::size_t kMaxKept = 4096;             // tokenized texts
constexpr std::size_t kMaxKeptTokens = 16U << 20;  // 64 MiB of them

Result<PackCatalog::Tokenized> tokens_of(std::string_view text, const std::string& tenant, const KvProducer& model) {
  const HostedModel& hosted = model.model();
  auto tokens = model.tokens(text);
  if (!tokens) return wrap(std::move(tokens).error(), hosted.name);
  if (tokens->empty())
    return fail(ErrorKind::kInvalid, "{}: the text has no tokens, but a context needs at least one", hosted.name);
  // One place at least must be left for the user's own tokens.
  const auto limit = std::min<std::size_t>(kMaxPackTokens, static_cast<std::size_t>(std::max(hosted.n_ctx - 1, 0)));
  if (tokens->size() > limit) {
    return fail(ErrorKind::kInvalid, "{}: the text has {} tokens; the model's context of {} has room for {}", hosted.name,
                tokens->size(), hosted.n_ctx, limit);
  }
  TokenizedContext out{
      .context_id = context_id(hosted.fingerprint.tokenizer, *tokens, tenant), .of_tenant = !tenant.empty(), .tokens = {}};
  out.tokens = *std::move(tokens);
  return std::make_shared<const TokenizedContext>(std::move(out));
}

std::size_t size_of(const Result<PackCatalog::Tokenized>& tokens) {
  return tokens ? (*tokens)->tokens.size() : 0;
}

}  // namespace

PackCatalog::PackCatalog(const ContextRegistry& registry, std::vector<std::shared_ptr<KvProducer>> models)
    : registry_(registry), models_(std::move(models)) {}

Result<KvProducer*> PackCatalog::find_model(const Hash256& id, const MadeWith& wanted) const {
  std::string names;
  for (const auto& model : models_) {
    const HostedModel& hosted = model->model();
    if (hosted.fingerprint.id() == id && made_with(hosted) == wanted) return model.get();
    const std::string with = describe(made_with(hosted));
    names += fmt::format("{}{} ({}{}{})", names.empty() ? "" : ", ", hosted.name, hosted.fingerprint.id().hex(),
                         with.empty() ? "" : ", ", with);
  }
  if (!wanted.none())
    return fail(ErrorKind::kNotFound, "no {} for model {} here; the models, maps and tunings are {}", describe(wanted),
                id.hex(), names);
  return fail(ErrorKind::kNotFound,
              "no model {} is hosted here; the models are {} (GET /v1/models shows their fingerprints)", id.hex(), names);
}

Result<PackCatalog::Tokenized> PackCatalog::tokenize(std::string_view text, const std::string& tenant, KvProducer& model) {
  const Key key{context_handle(text, tenant), model.model().fingerprint.id()};
  if (auto known = kept(key)) return *std::move(known);
  const MutexLock lock(tokenizing_);
  if (auto known = kept(key)) return *std::move(known);
  auto tokens = tokens_of(text, tenant, model);
  if (tokens || tokens.error().kind == ErrorKind::kInvalid) keep(key, tokens);
  return tokens;
}

Result<PackIdentity> PackCatalog::identity(const ContextHandle& handle, KvProducer& model, CodecId codec) {
  // Asked each time, because a removed text must not be served from here.
  if (!registry_.contains(handle)) return fail(ErrorKind::kNotFound, "no context {} is registered here", handle.hex());
  auto tokens = kept({handle, model.model().fingerprint.id()});
  if (!tokens) {
    CELSLM_TRY(const RegisteredContext context, registry_.find(handle));
    tokens = tokenize(context.text, context.info.tenant, model);
  }
  if (!*tokens) return std::unexpected(tokens->error());
  PackIdentity out{
      .context = (**tokens)->context_id, .tokens = (**tokens)->tokens, .model = model.model().fingerprint, .codec = codec};
  out.of_tenant = (**tokens)->of_tenant;
  remember(out.context, handle);
  if (model.model().map) set_map(out, *model.model().map);
  if (model.model().tuning) set_tuning(out, model.model().tuning->id);
  return out;
}

void PackCatalog::remember(const Hash256& context, const ContextHandle& handle) {
  constexpr std::size_t kMaxHandles = 10'000;
  const MutexLock lock(mutex_);
  if (handles_.size() >= kMaxHandles && !handles_.contains(context)) handles_.clear();
  handles_[context] = handle;
}

std::optional<ContextHandle> PackCatalog::handle_of(const Hash256& context) const {
  const MutexLock lock(mutex_);
  const auto it = handles_.find(context);
  return it == handles_.end() ? std::nullopt : std::optional(it->second);
}

std::optional<Result<PackCatalog::Tokenized>> PackCatalog::kept(const Key& key) {
  const MutexLock lock(mutex_);
  const Result<Tokenized>* tokens = kept_.find(key);
  return tokens == nullptr ? std::nullopt : std::optional(*tokens);
}

void PackCatalog::keep(const Key& key, const Result<Tokenized>& tokens) {
  const MutexLock lock(mutex_);
  if (const auto before = kept_.put(key, tokens)) kept_tokens_ -= size_of(*before);
  kept_tokens_ += size_of(tokens);
  while (kept_.size() > 1 && (kept_.size() > kMaxKept || kept_tokens_ > kMaxKeptTokens))
    kept_tokens_ -= size_of(*kept_.evict());
}

}  // namespace celslm
