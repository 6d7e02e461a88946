// Memory for many small arrays that are given back all at once: what a record is made of, in one
// piece.
//
// THREADS: not synchronised. OWNS: its blocks; what is in them must need no destructor.
// COST: one allocation where it is filled as much as the last time, by which its first block goes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace penstock {

class Arena {
 public:
  Arena() = default;
  // The other one is empty afterwards, and expects to be filled like that again.
  Arena(Arena&& other) noexcept { *this = std::move(other); }
  Arena& operator=(Arena&& other) noexcept {
    if (this == &other) return *this;
    const size_t expected = other.used();
    block_ = std::move(other.block_);
    full_ = std::move(other.full_);
    next_ = std::exchange(other.next_, nullptr);
    end_ = std::exchange(other.end_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    if (expected > 0) other.expected_ = expected;
    return *this;
  }

  // `count` elements as their default constructor leaves them.
  template <class T>
  std::span<T> New(size_t count) {
    T* const first = Take<T>(count);
    std::uninitialized_value_construct_n(first, count);
    return {first, count};
  }
  template <class T>
  std::span<T> Copy(std::span<const T> from) {
    T* const first = Take<T>(from.size());
    std::uninitialized_copy(from.begin(), from.end(), first);
    return {first, from.size()};
  }
  template <class T>
  std::span<T> Copy(const std::vector<T>& from) {
    return Copy(std::span<const T>(from));
  }

  // Ends all arrays. The memory is kept when it is one block.
  void Clear() {
    expected_ = std::max(expected_, used());
    if (full_.empty()) {
      next_ = block_.get();
      return;
    }
    full_.clear();
    block_.reset();
    next_ = end_ = nullptr;
    bytes_ = 0;
  }

  // Of memory, taken or not.
  size_t bytes() const { return bytes_; }
  size_t used() const { return bytes_ - static_cast<size_t>(end_ - next_); }

 private:
  static constexpr size_t kAlign = 8;
  static constexpr size_t kFirstBytes = 256;

  template <class T>
  T* Take(size_t count) {
    static_assert(alignof(T) <= kAlign && std::is_trivially_destructible_v<T>);
    const size_t size = (count * sizeof(T) + kAlign - 1) / kAlign * kAlign;
    if (size > static_cast<size_t>(end_ - next_)) Grow(size);
    return reinterpret_cast<T*>(std::exchange(next_, next_ + size));
  }

  void Grow(size_t least) {
    const size_t size = std::max({least, bytes_ == 0 ? expected_ : bytes_, kFirstBytes});
    if (block_ != nullptr) full_.push_back(std::move(block_));
    block_ = std::make_unique_for_overwrite<std::byte[]>(size);
    next_ = block_.get();
    end_ = next_ + size;
    bytes_ += size;
  }

  std::unique_ptr<std::byte[]> block_;  // that is being filled
  std::vector<std::unique_ptr<std::byte[]>> full_;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  size_t bytes_ = 0;
  size_t expected_ = 0;
};

}  // namespace penstock
