// The slots that hold one block: up to six in place, more as a bitmap.
//
// COST: 16 bytes, and a bitmap of 8 bytes per 64 slots beyond six holders.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

namespace penstock::kvcache {

class HolderSet {
 public:
  static constexpr size_t kInline = 6;

  HolderSet() = default;
  HolderSet(HolderSet&& other) noexcept { Swap(other); }
  HolderSet& operator=(HolderSet&& other) noexcept {
    Swap(other);
    return *this;
  }
  HolderSet(const HolderSet&) = delete;
  HolderSet& operator=(const HolderSet&) = delete;
  ~HolderSet() {
    if (words_ != 0) delete[] bitmap();
  }

  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  bool is_bitmap() const { return words_ != 0; }
  // REQUIRES: !is_bitmap().
  std::span<const uint16_t> slots() const { return {inline_, count_}; }
  // REQUIRES: is_bitmap(). Bit k of word w is slot 64 w + k.
  std::span<const uint64_t> words() const { return {bitmap(), words_}; }

  // No effect when the slot is in the set already.
  void Add(uint16_t slot) {
    if (!is_bitmap()) {
      if (std::find(inline_, inline_ + count_, slot) != inline_ + count_) return;
      if (count_ < kInline) {
        inline_[count_++] = slot;
        return;
      }
    }
    if (slot / 64 >= words_) Widen(slot / 64 + 1);
    uint64_t& word = bitmap()[slot / 64];
    const uint64_t bit = uint64_t{1} << (slot % 64);
    count_ += (word & bit) == 0 ? 1 : 0;
    word |= bit;
  }

  // No effect when the slot is not in the set.
  void Remove(uint16_t slot) {
    if (is_bitmap()) {
      if (slot / 64 >= words_) return;
      uint64_t& word = bitmap()[slot / 64];
      const uint64_t bit = uint64_t{1} << (slot % 64);
      count_ -= (word & bit) != 0 ? 1 : 0;
      word &= ~bit;
      if (count_ <= kInline / 2) Shrink();
      return;
    }
    uint16_t* const end = inline_ + count_;
    uint16_t* const found = std::find(inline_, end, slot);
    if (found == end) return;
    *found = end[-1];
    --count_;
  }

 private:
  uint64_t* bitmap() const {
    uint64_t* pointer;
    std::memcpy(&pointer, inline_ + 2, sizeof pointer);
    return pointer;
  }
  void set_bitmap(uint64_t* pointer) { std::memcpy(inline_ + 2, &pointer, sizeof pointer); }

  // Becomes a bitmap, or a longer one.
  void Widen(size_t words) {
    if (!is_bitmap()) {
      for (size_t i = 0; i < count_; ++i) words = std::max<size_t>(words, inline_[i] / 64 + 1);
    }
    auto* const wider = new uint64_t[words]();
    if (is_bitmap()) {
      std::copy(bitmap(), bitmap() + words_, wider);
      delete[] bitmap();
    } else {
      for (size_t i = 0; i < count_; ++i)
        wider[inline_[i] / 64] |= uint64_t{1} << (inline_[i] % 64);
    }
    set_bitmap(wider);
    words_ = static_cast<uint16_t>(words);
  }

  // Back in place, when a few are left.
  void Shrink() {
    uint64_t* const old = bitmap();
    const size_t words = words_;
    words_ = 0;
    size_t n = 0;
    for (size_t w = 0; w < words; ++w) {
      for (uint64_t bits = old[w]; bits != 0; bits &= bits - 1) {
        inline_[n++] = static_cast<uint16_t>(w * 64 + static_cast<size_t>(std::countr_zero(bits)));
      }
    }
    delete[] old;
  }

  void Swap(HolderSet& other) {
    std::swap(count_, other.count_);
    std::swap(words_, other.words_);
    std::swap(inline_, other.inline_);
  }

  uint16_t count_ = 0;
  uint16_t words_ = 0;          // of the bitmap; 0: in place
  uint16_t inline_[kInline]{};  // or, from the third element on, the pointer to the bitmap
};
static_assert(sizeof(HolderSet) == 16);

}  // namespace penstock::kvcache
