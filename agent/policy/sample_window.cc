#include "agent/policy/sample_window.h"

#include <algorithm>
#include <cmath>

namespace ctr::policy {
namespace {

// The number of whole steps that cover it, one at least.
int64_t StepsIn(Duration duration, Duration step) {
  return std::max<int64_t>(1, (duration + step - Duration(1)) / step);
}

int64_t StepOf(MonoTime time, Duration step) {
  const Duration since = time.time_since_epoch();
  const int64_t steps = since / step;
  return since < steps * step ? steps - 1 : steps;  // rounds down before the epoch, too
}

// Sums that went up and down again leave a rest that must not count as load.
double WithoutRest(double value) { return std::round(value * 1e6) / 1e6; }

}  // namespace

int64_t SecondOf(MonoTime time) { return StepOf(time, std::chrono::seconds(1)); }

WindowAverage::WindowAverage(Duration window)
    : buckets_(StepsIn(window, std::chrono::seconds(1))) {}

double& WindowAverage::At(int64_t second) {
  const int64_t index = second % Size();
  return buckets_[index < 0 ? index + Size() : index];
}

double WindowAverage::At(int64_t second) const {
  return const_cast<WindowAverage*>(this)->At(second);
}

void WindowAverage::Record(MonoTime at, double value) {
  const int64_t second = SecondOf(at);
  if (last_ && second <= *last_ - Size()) return;
  if (!first_ || second < *first_) first_ = second;
  if (!last_ || second - *last_ >= Size()) {
    first_ = last_ = second;
    std::fill(buckets_.begin(), buckets_.end(), 0.0);
    total_ = 0;
  }
  for (; *last_ < second; ++*last_) {
    total_ -= At(*last_ + 1);
    At(*last_ + 1) = 0;
  }
  At(second) += value;
  total_ += value;
}

double WindowAverage::Average(MonoTime now) const {
  if (!last_) return 0;
  const int64_t silent = std::max<int64_t>(0, SecondOf(now) - *last_);
  if (silent >= Size()) return 0;
  double total = total_;
  for (int64_t i = 1; i <= silent; ++i) total -= At(*last_ + i);
  const int64_t seconds = std::min(*last_ - *first_ + 1, Size() - silent);
  return WithoutRest(total / static_cast<double>(seconds));
}

bool WindowAverage::IsEmpty(MonoTime now) const {
  return !last_ || SecondOf(now) - *last_ > Size();
}

void WindowAverage::Resize(Duration window, MonoTime now) {
  const int64_t old_size = Size();
  WindowAverage resized(window);
  if (resized.Size() == old_size) return;
  if (last_ && !IsEmpty(now)) {
    for (int64_t i = 0; i < std::min(old_size, resized.Size()); ++i) {
      resized.At(*last_ - i) = At(*last_ - i);
      resized.total_ += At(*last_ - i);
    }
    resized.last_ = last_;
    resized.first_ = std::max(*first_, *last_ - old_size + 1);
  }
  *this = std::move(resized);
}

WindowMax::WindowMax(Duration window, Duration granularity)
    : granularity_(granularity), size_(StepsIn(window, granularity)) {}

int WindowMax::Record(MonoTime at, int value) {
  int64_t step = StepOf(at, granularity_);
  if (!maxima_.empty()) step = std::max(step, maxima_.back().first);
  while (!maxima_.empty() && maxima_.back().second <= value) maxima_.pop_back();
  while (!maxima_.empty() && step - maxima_.front().first >= size_) maxima_.pop_front();
  // Of the values of one step the greatest stands.
  if (maxima_.empty() || maxima_.back().first != step) maxima_.emplace_back(step, value);
  return maxima_.front().second;
}

}  // namespace ctr::policy
