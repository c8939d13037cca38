// From a registered text and a hosted model to the identity of the pack that a request asks for.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/lru.h"
#include "core/mutex.h"
#include "core/result.h"
#include "serve/cloud/context_registry.h"
#include "serve/cloud/kv_producer.h"

namespace celslm {

// A context's tokens for one model.
struct TokenizedContext {
  Hash256 context_id;
  bool of_tenant = false;
  std::vector<Token> tokens;
};

// Tokenizing a long text takes a second, and every block request needs its result: texts are tokenized once per model and
// the tokens kept; the least recently used are evicted. Thread-safe.
class PackCatalog {
 public:
  using Tokenized = std::shared_ptr<const TokenizedContext>;

  // The registry must outlive this.
  PackCatalog(const ContextRegistry& registry, std::vector<std::shared_ptr<KvProducer>> models);

  std::span<const std::shared_ptr<KvProducer>> models() const { return models_; }
  // kNotFound; the message lists the models there are, with their maps and tunings.
  Result<KvProducer*> find_model(const Hash256& id, const MadeWith& wanted) const;

  // A text's tokens, whether it is registered or not. kInvalid: the model cannot use it (too long, no chat template).
  // tenant: whose it is, or would be; nobody's time tells whether another tenant has the same text.
  Result<Tokenized> tokenize(std::string_view text, const std::string& tenant, KvProducer& model);
  // The identity of a registered context's pack. kNotFound: not registered; errors of tokenize().
  Result<PackIdentity> identity(const ContextHandle& handle, KvProducer& model, CodecId codec);
  // The text whose identity() has this context; nullopt where none was asked for, or not lately.
  std::optional<ContextHandle> handle_of(const Hash256& context) const CELSLM_EXCLUDES(mutex_);

 private:
  using Key = std::pair<ContextHandle, Hash256>;  // text, model
  void remember(const Hash256& context, const ContextHandle& handle) CELSLM_EXCLUDES(mutex_);
  std::optional<Result<Tokenized>> kept(const Key& key) CELSLM_EXCLUDES(mutex_);
  void keep(const Key& key, const Result<Tokenized>& tokens) CELSLM_EXCLUDES(mutex_);

  const ContextRegistry& registry_;
  const std::vector<std::shared_ptr<KvProducer>> models_;
  Mutex tokenizing_;  // held while a text is tokenized, so that many requests for a new one tokenize it once
  mutable Mutex mutex_ CELSLM_ACQUIRED_AFTER(tokenizing_);
  std::unordered_map<Hash256, ContextHandle> handles_ CELSLM_GUARDED_BY(mutex_);  // by ContextId
  Lru<Key, Result<Tokenized>> kept_ CELSLM_GUARDED_BY(mutex_);                    // errors are kept, too
  std::size_t kept_tokens_ CELSLM_GUARDED_BY(mutex_) = 0;
};

}  // namespace celslm
