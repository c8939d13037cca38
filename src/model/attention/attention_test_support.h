// Random attention problems with known shapes, for the tests and the benchmark of the kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "hwy/base.h"
#include "model/attention/attention.h"
#include "model/kv/kv_rows.h"

namespace celslm::attention_test {

// Owns one segment's K and V. Rows at and above `length`, and below `first`, hold NaN: a kernel that lets one in shows it.
class Store {
 public:
  Store(KvType type, int n_kv_heads, int head_dim, int length, int capacity, std::mt19937& random, int first = 0)
      : type_(type),
        first_(first),
        length_(length),
        capacity_(capacity),
        k_(fill(n_kv_heads, head_dim, random)),
        v_(fill(n_kv_heads, head_dim, random)) {}

  KvView view() const {
    return {.type = type_,
            .k = k_.data(),
            .v = v_.data(),
            .capacity = capacity_,
            .length = length_,
            .log_mass = log_mass_.empty() ? nullptr : log_mass_.data()};
  }

  // Of every key; keys at and above `length` have NaN.
  void set_log_mass(int n_kv_heads, const std::function<float()>& next) {
    log_mass_.clear();
    for (int i = 0; i < n_kv_heads * capacity_; ++i)
      log_mass_.push_back(i % capacity_ < length_ ? next() : std::numeric_limits<float>::quiet_NaN());
  }

 private:
  std::vector<std::byte> fill(int n_kv_heads, int head_dim, std::mt19937& random) const {
    std::normal_distribution<float> normal;
    if (type_ == KvType::kQ8) return fill_q8(n_kv_heads, head_dim, random);
    std::vector<std::byte> out;
    for (int head = 0; head < n_kv_heads; ++head) {
      for (int token = 0; token < capacity_; ++token) {
        for (int d = 0; d < head_dim; ++d) {
          append(out, token >= first_ && token < length_ ? normal(random) : std::numeric_limits<float>::quiet_NaN());
        }
      }
    }
    return out;
  }

  std::vector<std::byte> fill_q8(int n_kv_heads, int head_dim, std::mt19937& random) const {
    std::normal_distribution<float> normal;
    const std::size_t row = row_bytes(KvType::kQ8, head_dim);
    // Bytes of 0xFF: every scale is a NaN.
    std::vector<std::byte> out(row * static_cast<std::size_t>(n_kv_heads * capacity_), std::byte{0xFF});
    std::vector<float> values(static_cast<std::size_t>(head_dim));
    for (int head = 0; head < n_kv_heads; ++head) {
      for (int token = first_; token < length_; ++token) {
        for (float& value : values) value = normal(random);
        round_to(KvType::kQ8, values, out.data() + row * static_cast<std::size_t>(head * capacity_ + token));
      }
    }
    return out;
  }

  void append(std::vector<std::byte>& out, float value) const {
    const auto put = [&out](const auto& v) {
      const auto* raw = reinterpret_cast<const std::byte*>(&v);
      out.insert(out.end(), raw, raw + sizeof v);
    };
    switch (type_) {
      case KvType::kF16: return put(hwy::F16FromF32(value));
      case KvType::kBf16: return put(hwy::BF16FromF32(value));
      case KvType::kF32: return put(value);
      case KvType::kQ8: return;  // has blocks: fill_q8()
    }
  }

  KvType type_;
  int first_;
  int length_;
  int capacity_;
  std::vector<std::byte> k_;
  std::vector<std::byte> v_;
  std::vector<float> log_mass_;
};

struct Shape {
  int n_heads = 1;
  int n_kv_heads = 1;
  int head_dim = 64;
  KvType type = KvType::kF16;
};

// A batch with its queries, segments, groups and room for the answer.
class Problem {
 public:
  Problem(Shape shape, int n_rows, unsigned seed, float q_size = 1.0F) : shape_(shape), n_rows_(n_rows), random_(seed) {
    std::normal_distribution<float> normal(0.0F, q_size);
    q_.resize(values());
    for (float& q : q_) q = normal(random_);
    out_.assign(values(), std::numeric_limits<float>::quiet_NaN());
  }

  std::shared_ptr<const Store> store(int length, int capacity, int first = 0) {
    stores_.push_back(
        std::make_shared<const Store>(shape_.type, shape_.n_kv_heads, shape_.head_dim, length, capacity, random_, first));
    return stores_.back();
  }

  // A store whose keys have random log masses.
  std::shared_ptr<const Store> weighted_store(int length, int capacity) {
    std::uniform_real_distribution<float> mass(-3.0F, 3.0F);
    return store_with_log_mass(length, capacity, [&] { return mass(random_); });
  }
  std::shared_ptr<const Store> store_with_log_mass(int length, int capacity, const std::function<float()>& next) {
    auto out = std::make_shared<Store>(shape_.type, shape_.n_kv_heads, shape_.head_dim, length, capacity, random_);
    out->set_log_mass(shape_.n_kv_heads, next);
    stores_.push_back(out);
    return out;
  }

  // Rows [first_row, first_row + n_rows) see all of a context.
  Problem& context(const Store& store, int first_row, int n_rows) {
    groups_.push_back({.kv = store.view(), .first_row = first_row, .n_rows = n_rows, .visible = store.view().length});
    return *this;
  }
  // Rows are the last n_rows tokens of a sequence of `length` own tokens.
  Problem& own(int length, int capacity, int first_row, int n_rows) {
    const auto kv = store(length, capacity);
    groups_.push_back(
        {.kv = kv->view(), .first_row = first_row, .n_rows = n_rows, .visible = length - n_rows + 1, .causal = 1});
    return *this;
  }
  // Rows are the next n_rows tokens behind a context of `context` tokens and `before` own ones; each sees the `window`
  // tokens that end with itself. What no row sees is NaN.
  Problem& windowed(int context, int before, int first_row, int n_rows, int window) {
    const int hidden = context + before + 1 - window;
    if (context > 0) {
      const auto kv = store(context, context + 3, std::max(0, hidden));
      groups_.push_back(
          {.kv = kv->view(), .first_row = first_row, .n_rows = n_rows, .visible = context, .hidden = hidden, .sliding = 1});
    }
    const auto kv = store(before + n_rows, before + n_rows + 3, std::max(0, hidden - context));
    groups_.push_back({.kv = kv->view(),
                       .first_row = first_row,
                       .n_rows = n_rows,
                       .visible = before + 1,
                       .causal = 1,
                       .hidden = hidden - context,
                       .sliding = 1});
    return *this;
  }
  Problem& sinks() {
    std::normal_distribution<float> normal;
    for (int i = 0; i < shape_.n_heads; ++i) sinks_.push_back(normal(random_));
    return *this;
  }
  Problem& group(const AttentionGroup& group) {
    groups_.push_back(group);
    return *this;
  }

  AttentionArgs args() { return args(out_.data()); }
  AttentionArgs args(float* out) const {
    return {.q = q_.data(),
            .out = out,
            .n_rows = n_rows_,
            .n_heads = shape_.n_heads,
            .n_kv_heads = shape_.n_kv_heads,
            .head_dim = shape_.head_dim,
            .scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)),
            .sinks = sinks_.empty() ? nullptr : sinks_.data(),
            .groups = groups_};
  }

  std::size_t values() const { return static_cast<std::size_t>(n_rows_) * row_values(); }
  std::size_t row_values() const { return static_cast<std::size_t>(shape_.n_heads) * shape_.head_dim; }

  // Runs all shares one after the other; the answer in a vector of its own.
  std::vector<float> run(int nth = 1) const {
    std::vector<float> out(values(), std::numeric_limits<float>::quiet_NaN());
    AttentionScratch scratch;
    for (int ith = 0; ith < nth; ++ith) attention(args(out.data()), ith, nth, scratch);
    return out;
  }
  // One row in a call of its own.
  std::vector<float> run_row(int row) const {
    std::vector<AttentionGroup> groups;
    for (AttentionGroup group : groups_) {
      const int i = row - group.first_row;
      if (i < 0 || i >= group.n_rows) continue;
      groups.push_back({.kv = group.kv,
                        .n_rows = 1,
                        .visible = group.visible + i * group.causal,
                        .hidden = group.hidden + i * group.sliding});
    }
    std::vector<float> out(row_values());
    AttentionArgs args = this->args(out.data());
    args.q += row * row_values();
    args.n_rows = 1;
    args.groups = groups;
    AttentionScratch scratch;
    attention(args, 0, 1, scratch);
    return out;
  }
  std::vector<float> reference() const {
    std::vector<float> out(values());
    attention_reference(args(out.data()));
    return out;
  }

 private:
  Shape shape_;
  int n_rows_;
  std::mt19937 random_;
  std::vector<float> q_;
  std::vector<float> out_;
  std::vector<std::shared_ptr<const Store>> stores_;
  std::vector<AttentionGroup> groups_;
  std::vector<float> sinks_;
};

inline std::vector<float> row_of(const Problem& problem, const std::vector<float>& out, int row) {
  const auto first = out.begin() + static_cast<std::ptrdiff_t>(row * problem.row_values());
  return {first, first + static_cast<std::ptrdiff_t>(problem.row_values())};
}

inline float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // a NaN is a difference too
    if (std::isnan(difference)) return std::numeric_limits<float>::infinity();
  }
  return largest;
}

}  // namespace celslm::attention_test
