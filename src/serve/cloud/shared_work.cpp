#include "serve/cloud/shared_work.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "core/json.h"
#include "core/printable.h"

namespace celslm {
namespace {

constexpr Duration kKept = std::chrono::hours(1);  // a stream that nobody appends to
constexpr const char* kGroup = "clouds";
constexpr JsonLimits kLimits{.depth = 2, .values = 16};
constexpr std::size_t kMaxCodecBytes = 16;

std::string random_name() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

}  // namespace

std::string to_json_text(const WorkItem& item) {
  return dump_json({{"context", item.pack.context.hex()}, {"model", item.pack.model.hex()}, {"codec", item.codec}});
}

Result<WorkItem> parse_work_item(std::string_view text) {
  CELSLM_TRY(const nlohmann::json object, parse_object(text, kLimits));
  const JsonFields fields(object);
  WorkItem out;
  CELSLM_TRY(out.pack.context, fields.required_hash("context"));
  CELSLM_TRY(out.pack.model, fields.required_hash("model"));
  CELSLM_TRY(out.codec, fields.required_text("codec", kMaxCodecBytes));
  return out;
}

SharedWork::SharedWork(std::unique_ptr<Store> store, SharedWorkParts parts, const Clock& clock, Log log)
    : store_(std::move(store)), parts_(std::move(parts)), log_(std::move(log)), consumer_(random_name()), thread_(clock) {}

// Tells nobody of errors: the member, which uses the same server, does.
void SharedWork::start() {
  const Duration longest = std::max(parts_.beat, Duration(std::chrono::seconds(30)));
  thread_.start([this, pause = Backoff(parts_.beat / 5, longest)](const std::stop_token&) mutable {
    return pause.after(step().has_value());
  });
}

void SharedWork::offer(WorkItem item) {
  const MutexLock lock(mutex_);
  if (offers_.size() < kMaxOffers) offers_.push_back(std::move(item));
}

Status SharedWork::step() {
  CELSLM_CHECK_OK(write_offers());
  if (taken_) return look_after(*taken_);
  return parts_.jobs.idle() ? take_one() : Status();
}

Status SharedWork::write_offers() {
  for (;;) {
    std::optional<WorkItem> item;
    {
      const MutexLock lock(mutex_);
      if (offers_.empty()) return {};
      item = std::move(offers_.front());
      offers_.pop_front();
    }
    CELSLM_CHECK_OK(store_->append(parts_.keys.work(), to_json_text(*item), kMaxEntries, kKept));
  }
}

Status SharedWork::look_after(const Taken& taken) {
  const auto access = parts_.jobs.lookup(taken.pack_id);
  if (access && std::holds_alternative<std::shared_ptr<PackJob>>(*access))
    return store_->keep(parts_.keys.work(), kGroup, consumer_, taken.id);
  // It is here, or could not be computed here: then others would fail, too.
  CELSLM_CHECK_OK(store_->done(parts_.keys.work(), kGroup, taken.id));
  taken_.reset();
  return {};
}

// Abandoned work first: it has waited longest.
Result<std::optional<Store::Entry>> SharedWork::next() {
  CELSLM_TRY(auto abandoned, store_->take_over(parts_.keys.work(), kGroup, consumer_, silence()));
  if (abandoned) return abandoned;
  return store_->take(parts_.keys.work(), kGroup, consumer_);
}

Status SharedWork::take_one() {
  CELSLM_TRY(const auto entry, next());
  if (!entry) return {};
  const auto item = parse_work_item(entry->value);
  if (!item || entry->deliveries > kMaxDeliveries) {
    log_->warn("work of the fleet is given up: {}", item ? "nobody has finished it" : printable(item.error().message));
    return store_->done(parts_.keys.work(), kGroup, entry->id);
  }
  const auto pack_id = begin(*item);
  if (pack_id) {
    log_->info("taken from another cloud's queue: context {}", item->pack.context.hex().substr(0, 12));
    taken_ = {.id = entry->id, .pack_id = *pack_id};
    return look_after(*taken_);
  }
  log_->debug("left to others: {}", pack_id.error().message);
  return {};  // it is taken over after a while
}

Result<Hash256> SharedWork::begin(const WorkItem& item) {
  CELSLM_TRY(KvProducer* const model, parts_.catalog.find_model(item.pack.model, {}));
  CELSLM_TRY(const Codec* codec, find_codec(item.codec));
  if (!std::ranges::contains(parts_.codecs, codec->id()))
    return fail(ErrorKind::kNotFound, "the codec '{}' is not offered here", codec->name());
  CELSLM_TRY(const PackIdentity identity, parts_.catalog.identity(item.pack.context, *model, codec->id()));
  return parts_.jobs.request(identity).transform([&](const PackAccess&) { return identity.id(); });
}

}  // namespace celslm
