// Rows of a KV segment in a device's memory. The segment in host memory stays what counts: whatever is written there by
// others (a pack's blocks, a copied prefix) is uploaded before it is read here, and what the device computes is written
// there, too, so that packs, prefixes and truncation need not know of devices.
#pragma once

#include <memory>
#include <vector>

#include "model/device/open_device.h"
#include "model/kv/kv_segment.h"

namespace celslm {

ggml_type ggml_type_of(KvType type);

// Rows come in multiples of this, and products take as many; masks hide what is not there. Kernels are made for that, and
// ggml's for Vulkan computed other numbers of keys wrongly on Mesa's software device.
inline constexpr int kRowsPadding = 256;
constexpr int padded_rows(int rows) {
  return (rows + kRowsPadding - 1) / kRowsPadding * kRowsPadding;
}

// How a segment is read: a context is read by all its rows and never grows; own rows are read and written.
enum class SegmentUse { kContext, kOwn };

// Used by one thread at a time.
class DeviceSegment {
 public:
  // A context gets room for the rows that its layers have now, own rows for `rows` tokens or more. kOverloaded as
  // OpenDevice::allocate().
  static Result<std::unique_ptr<DeviceSegment>> create(OpenDevice& device, const std::shared_ptr<const KvSegment>& segment,
                                                       SegmentUse use, int rows);

  // Own rows of one layer, which all layers take in turn: for a prefill that goes through the context layer by layer and
  // reads each layer's rows only while it computes it.
  static Result<std::unique_ptr<DeviceSegment>> create_layer(OpenDevice& device,
                                                             const std::shared_ptr<const KvSegment>& segment, int rows);

  // Null when the segment is gone.
  std::shared_ptr<const KvSegment> segment() const { return segment_.lock(); }
  SegmentUse use() const { return use_; }
  int rows(int layer) const { return layers_[static_cast<std::size_t>(layer)].rows; }
  std::uint64_t size_bytes() const { return buffer_.size_bytes(); }

  // K is [head_dim, rows, n_kv_heads] of the segment's type. V is the same for own rows; for a context
  // [rows, head_dim, n_kv_heads], as the product with the attention's weights wants it, in f16 if that is the segment's
  // type, else in f32.
  ggml_tensor* k(int layer) const { return layers_[static_cast<std::size_t>(layer)].k; }
  ggml_tensor* v(int layer) const { return layers_[static_cast<std::size_t>(layer)].v; }

  // Brings the first `length` rows of a layer up to what the segment holds.
  void upload(int layer, int length);
  // The device has computed rows up to `length` and the segment has them, too.
  void computed(int layer, int length);

 private:
  struct Layer {
    ggml_tensor* k = nullptr;
    ggml_tensor* v = nullptr;
    int rows = 0;
    int valid = 0;             // of them are as in the segment
    std::uint32_t writes = 0;  // KvSegment::writes() when they were
  };
  DeviceSegment() = default;
  void set_rows(ggml_tensor* to, const void* from, const KvSegment& segment, int capacity, int first, int last);
  void set_transposed(const Layer& layer, const KvView& view);

  std::weak_ptr<const KvSegment> segment_;
  SegmentUse use_ = SegmentUse::kOwn;
  ggml_context_ptr context_;
  DeviceBuffer buffer_;
  std::vector<Layer> layers_;
};

// The segments that an engine has used on its device. Those of segments that are gone give their memory back at the next
// call; those that have not been used for longest make room where there is none. Used by one thread at a time.
class DeviceSegments {
 public:
  explicit DeviceSegments(std::shared_ptr<OpenDevice> device) : device_(std::move(device)) {}

  // Before a batch: what it asks for stays until the next one.
  void begin();
  // With room for `rows` tokens, if it is for own rows; valid until the next begin(). kOverloaded where there is no memory.
  Result<DeviceSegment*> get(const std::shared_ptr<const KvSegment>& segment, SegmentUse use, int rows);

 private:
  struct Entry {
    const KvSegment* key = nullptr;
    std::unique_ptr<DeviceSegment> held;
    std::uint64_t used = 0;  // number of the last batch
  };
  bool fits(const Entry& entry, SegmentUse use, int rows) const;
  bool evict_one();

  std::shared_ptr<OpenDevice> device_;
  std::vector<Entry> entries_;
  std::uint64_t batch_ = 0;
};

}  // namespace celslm
