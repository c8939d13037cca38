#include "serve/edge/context_memory.h"

#include "model/text/context_room.h"
#include "serve/batch/batch_options.h"

namespace celslm {

ContextMemory::ContextMemory(std::shared_ptr<const Model> model, std::unique_ptr<ContextLoader> loader, KvType type,
                             const ContextLimits& limits, std::function<void()> on_change, FindStudy find_study)
    : model_(std::move(model)),
      type_(type),
      on_change_(std::move(on_change)),
      find_study_(std::move(find_study)),
      limits_(limits),
      table_(limits.budget_bytes, limits.most),
      reclaimer_(limits.memory->add_reclaimer(kReclaimContexts, [this](std::uint64_t bytes) { table_.free(bytes); })),
      loader_(std::move(loader)) {}

Result<std::shared_ptr<ResidentContext>> ContextMemory::create(const ContextHandle& handle, const std::string& text,
                                                               const std::string& tenant) const {
  CELSLM_TRY(std::vector<Token> tokens, context_with_room(model_->text(), text, model_->config().n_ctx_train));
  const Hash256 id = context_id(model_->fingerprint().tokenizer, tokens, tenant);
  const auto study = study_of(handle, static_cast<int>(tokens.size()));
  CELSLM_TRY(auto out, ResidentContext::create(handle, model_->config(), id, std::move(tokens), type_, study, tenant));
  CELSLM_CHECK_OK(take_memory(*out));
  return out;
}

Status ContextMemory::take_memory(ResidentContext& context) const {
  const std::uint64_t bytes = context.segment->size_bytes();
  MemoryLedger& memory = *limits_.memory;
  memory.make_room(bytes + limits_.headroom_bytes);
  // All of it at once, or two contexts could each take the other's headroom.
  CELSLM_TRY(auto lease, memory.take("contexts", bytes + limits_.headroom_bytes));
  CELSLM_CHECK_OK(lease.resize(bytes));
  context.hold(std::move(lease));
  return {};
}

// What a cloud lists of rows is not signed: more than there are tokens would be memory for nothing.
std::optional<ContextStudy> ContextMemory::study_of(const ContextHandle& handle, int n_tokens) const {
  const auto study = find_study_ ? find_study_(handle) : std::nullopt;
  return study && study->n_rows <= n_tokens ? study : std::nullopt;
}

Result<ContextMemory::Acquired> ContextMemory::acquire(const std::string& text, const std::string& tenant) {
  const ContextHandle handle = context_handle(text, tenant);
  bool created = false;
  std::shared_ptr<ResidentContext> context;
  {
    // Not within the table: tokenizing takes time, and making room takes contexts out of it.
    const MutexLock lock(creating_);
    const auto known = table_.find(handle);
    context = known;
    if (!known) {
      CELSLM_TRY(context, create(handle, text, tenant));
    }
    CELSLM_TRY(context, table_.acquire(handle, [&] { return Result<std::shared_ptr<ResidentContext>>(context); }, &created));
    created = created && !known;
  }
  const bool was_complete = context->complete();
  if (created) {
    context->on_change(on_change_);
    if (Status begun = loader_->load(context); !begun) {
      table_.drop_unless([&](const ContextHandle& known) { return known != handle; });  // the next request tries again
      return std::unexpected(std::move(begun).error());
    }
  }
  return Acquired{.context = std::move(context), .was_complete = was_complete, .began_load = created};
}

bool ContextMemory::fits(const std::string& text, const std::string& tenant) const {
  const auto tokens = model_->text().context(text);
  if (!tokens) return false;
  const auto n_tokens = static_cast<int>(tokens->size());
  const auto study = study_of(context_handle(text, tenant), n_tokens);
  const std::size_t bytes = KvSegment::resident_bytes(model_->config(), type_, study ? study->n_rows : n_tokens);
  if (limits_.memory->available_bytes() < bytes + limits_.headroom_bytes) return false;
  return table_.bytes() + bytes <= table_.budget_bytes();
}

bool ContextMemory::reload(const std::shared_ptr<ResidentContext>& known, const CodecChoice& choice,
                           std::function<void()> replaced) {
  auto better =
      ResidentContext::create(known->handle, model_->config(), known->id, known->tokens, type_, known->study, known->tenant);
  if (!better || !take_memory(**better)) return false;
  return loader_
      ->load(*better, choice,
             [this, known, better = *better, replaced = std::move(replaced)] {
               if (better->complete() && table_.replace(known, better)) replaced();
             })
      .has_value();
}

}  // namespace celslm
