#include "serve/edge/context_memory.h"

#include "model/text/context_room.h"

namespace celslm {

ContextMemory::ContextMemory(std::shared_ptr<const Model> model, std::unique_ptr<ContextLoader> loader, KvType type,
                             std::uint64_t budget_bytes, std::function<void()> on_change, FindStudy find_study)
    : model_(std::move(model)),
      type_(type),
      on_change_(std::move(on_change)),
      find_study_(std::move(find_study)),
      table_(budget_bytes),
      loader_(std::move(loader)) {}

Result<std::shared_ptr<ResidentContext>> ContextMemory::create(const ContextHandle& handle, const std::string& text) const {
  CELSLM_TRY(std::vector<Token> tokens, context_with_room(model_->text(), text, model_->config().n_ctx_train));
  const Hash256 id = context_id(model_->fingerprint().tokenizer, tokens);
  const auto study = study_of(handle, static_cast<int>(tokens.size()));
  return ResidentContext::create(handle, model_->config(), id, std::move(tokens), type_, study);
}

// What a cloud lists of rows is not signed: more than there are tokens would be memory for nothing.
std::optional<ContextStudy> ContextMemory::study_of(const ContextHandle& handle, int n_tokens) const {
  const auto study = find_study_ ? find_study_(handle) : std::nullopt;
  return study && study->n_rows <= n_tokens ? study : std::nullopt;
}

Result<ContextMemory::Acquired> ContextMemory::acquire(const std::string& text) {
  const ContextHandle handle = context_handle(text);
  bool created = false;
  CELSLM_TRY(auto context, table_.acquire(handle, [&] { return create(handle, text); }, &created));
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

bool ContextMemory::fits(const std::string& text) const {
  const auto tokens = model_->text().context(text);
  if (!tokens) return false;
  const auto n_tokens = static_cast<int>(tokens->size());
  const auto study = study_of(context_handle(text), n_tokens);
  const std::size_t bytes = KvSegment::resident_bytes(model_->config(), type_, study ? study->n_rows : n_tokens);
  return table_.bytes() + bytes <= table_.budget_bytes();
}

bool ContextMemory::reload(const std::shared_ptr<ResidentContext>& known, const CodecChoice& choice,
                           std::function<void()> replaced) {
  auto better = ResidentContext::create(known->handle, model_->config(), known->id, known->tokens, type_, known->study);
  if (!better) return false;
  return loader_
      ->load(*better, choice,
             [this, known, better = *better, replaced = std::move(replaced)] {
               if (better->complete() && table_.replace(known, better)) replaced();
             })
      .has_value();
}

}  // namespace celslm
