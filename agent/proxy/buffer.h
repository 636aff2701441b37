#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace ctr {

// Bytes that were read and are not used yet. Small while a connection is idle; grows for a big head
// and, up to kLarge, while reads fill it. Whoever fills it bounds it.
class Buffer {
 public:
  static constexpr size_t kSmall = 4 * 1024;
  static constexpr size_t kLarge = 64 * 1024;

  std::string_view view() const { return {data_.get() + begin_, end_ - begin_}; }
  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }

  void Consume(size_t bytes) {
    begin_ += bytes;
    if (begin_ == end_) begin_ = end_ = 0;
  }

  // Room to read into, at least one byte. Invalidates views.
  std::span<char> Prepare() {
    if (empty() && filled_ && capacity_ < kLarge) {
      Move(4 * capacity_);
    } else if (end_ == capacity_) {
      Move(begin_ > 0 ? capacity_ : std::max(kSmall, 2 * capacity_));
    }
    return {data_.get() + end_, capacity_ - end_};
  }
  void Commit(size_t bytes) {
    end_ += bytes;
    filled_ = end_ == capacity_;
  }

  // Drops what is in it, and its memory.
  void Clear() {
    data_.reset();
    capacity_ = begin_ = end_ = 0;
    filled_ = false;
  }

  // Gives back what a big body took, if nothing is in it.
  void Shrink() {
    if (!empty() || capacity_ <= kSmall) return;
    data_.reset();
    capacity_ = 0;
    filled_ = false;
  }

 private:
  // What is unused moves to the front, of other memory if the capacity changes.
  void Move(size_t capacity) {
    const std::string_view unused = view();
    if (capacity == capacity_) {
      std::memmove(data_.get(), unused.data(), unused.size());
    } else {
      auto data = std::make_unique_for_overwrite<char[]>(capacity);
      if (!unused.empty()) std::memcpy(data.get(), unused.data(), unused.size());
      data_ = std::move(data);
      capacity_ = capacity;
    }
    end_ = unused.size();
    begin_ = 0;
  }

  std::unique_ptr<char[]> data_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool filled_ = false;
};

}  // namespace ctr
