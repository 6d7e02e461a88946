// A set of endpoints as bits, one per column element. Filters clear bits in it.
//
// THREADS: not synchronised; a decision owns its mask.
// COST: 64 endpoints a word; no allocation after the first Reset of that size.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace penstock {

// One that stands in somebody else's memory.
class MaskView {
 public:
  MaskView() = default;
  // REQUIRES: a word for each 64 of the bits, and clear ones behind the last.
  MaskView(std::span<const uint64_t> words, size_t size) : words_(words), size_(size) {}
  std::span<const uint64_t> words() const { return words_; }
  size_t size() const { return size_; }
  bool Test(size_t i) const { return (words_[i >> 6] >> (i & 63)) & 1; }
  size_t Count() const {
    size_t n = 0;
    for (uint64_t w : words_) n += std::popcount(w);
    return n;
  }
  bool Empty() const {
    for (uint64_t w : words_) {
      if (w != 0) return false;
    }
    return true;
  }
  // Calls f(index) for every set bit in rising order.
  template <class F>
  void ForEach(F&& f) const {
    for (size_t w = 0; w < words_.size(); ++w) {
      for (uint64_t bits = words_[w]; bits != 0; bits &= bits - 1) {
        f(w * 64 + static_cast<size_t>(std::countr_zero(bits)));
      }
    }
  }

 private:
  std::span<const uint64_t> words_;
  size_t size_ = 0;
};

class Mask {
 public:
  Mask() = default;
  Mask(MaskView view) : size_(view.size()), words_(view.words().begin(), view.words().end()) {}
  operator MaskView() const { return view(); }
  MaskView view() const { return {words_, size_}; }
  // All `size` bits clear.
  void Reset(size_t size) {
    size_ = size;
    words_.assign((size + 63) / 64, 0);
  }
  size_t size() const { return size_; }
  void Set(size_t i) { words_[i >> 6] |= uint64_t{1} << (i & 63); }
  void Clear(size_t i) { words_[i >> 6] &= ~(uint64_t{1} << (i & 63)); }
  bool Test(size_t i) const { return view().Test(i); }
  size_t Count() const { return view().Count(); }
  bool Empty() const { return view().Empty(); }
  template <class F>
  void ForEach(F&& f) const {
    view().ForEach(std::forward<F>(f));
  }
  // Keeps the bits for which f(index) is true.
  template <class F>
  void Keep(F&& f) {
    for (size_t w = 0; w < words_.size(); ++w) {
      for (uint64_t bits = words_[w]; bits != 0; bits &= bits - 1) {
        const uint64_t bit = bits & -bits;
        if (!f(w * 64 + static_cast<size_t>(std::countr_zero(bits)))) words_[w] &= ~bit;
      }
    }
  }
  bool operator==(const Mask&) const = default;

 private:
  size_t size_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace penstock
