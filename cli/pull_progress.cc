#include "cli/pull_progress.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/base/size_text.h"
#include "cli/render.h"

namespace ctr::cli {
namespace {

constexpr int kBarWidth = 30;
constexpr int kMaxBars = 16;  // of a small terminal's lines
constexpr size_t kShownDigits = 12;

// "sha256:0123…" -> "0123456789ab".
std::string ShortDigest(const std::string& digest) {
  return digest.substr(digest.find(':') + 1, kShownDigits);
}

bool IsDone(const v1::PulledLayer& layer) { return layer.done_bytes() >= layer.size_bytes(); }

std::string Bar(const v1::PulledLayer& layer) {
  const double part = layer.size_bytes() == 0 ? 1
                                              : static_cast<double>(layer.done_bytes()) /
                                                    static_cast<double>(layer.size_bytes());
  const int filled = std::clamp(static_cast<int>(part * kBarWidth), 0, kBarWidth);
  return absl::StrCat(ShortDigest(layer.digest()), " [", std::string(filled, '='),
                      std::string(kBarWidth - filled, ' '), "] ", FormatSize(layer.done_bytes()),
                      " of ", FormatSize(layer.size_bytes()), "\n");
}

}  // namespace

std::string PullProgressText::Update(const v1::PullImageResponse& progress) {
  if (progress.layers().empty()) return "";
  return on_terminal_ ? Bars(progress) : Lines(progress);
}

std::string PullProgressText::End() {
  const int drawn = std::exchange(drawn_, 0);
  return drawn == 0 ? "" : absl::StrCat("\x1b[", drawn, "A\r\x1b[J");
}

// What is done comes off the screen first where there are more layers than fit.
std::string PullProgressText::Bars(const v1::PullImageResponse& progress) {
  std::string text = End();
  const int layers = progress.layers_size();
  const auto done =
      static_cast<int>(std::count_if(progress.layers().begin(), progress.layers().end(), IsDone));
  int skip = std::min(std::max(layers - kMaxBars, 0), done);
  if (skip > 0) {
    absl::StrAppend(&text, skip, " more layers are here\n");
    ++drawn_;
  }
  int left_out = 0;
  for (const v1::PulledLayer& layer : progress.layers()) {
    if (skip > 0 && IsDone(layer)) {
      --skip;
    } else if (drawn_ > kMaxBars) {
      ++left_out;
    } else {
      text += Bar(layer);
      ++drawn_;
    }
  }
  if (left_out > 0) {
    absl::StrAppend(&text, left_out, " more layers wait\n");
    ++drawn_;
  }
  if (progress.unpacking()) {
    absl::StrAppend(&text, "unpacking\n");
    ++drawn_;
  }
  return text;
}

std::string PullProgressText::Lines(const v1::PullImageResponse& progress) {
  std::string text;
  for (const v1::PulledLayer& layer : progress.layers()) {
    const auto [known, is_new] = layers_.emplace(layer.digest(), false);
    if (is_new && !IsDone(layer)) {
      absl::StrAppend(&text, ShortDigest(layer.digest()), ": ", FormatSize(layer.size_bytes()),
                      " to get\n");
    }
    if (IsDone(layer) && !std::exchange(known->second, true)) {
      absl::StrAppend(&text, ShortDigest(layer.digest()), ": here\n");
    }
  }
  if (progress.unpacking() && !std::exchange(unpacking_, true)) text += "unpacking\n";
  return text;
}

}  // namespace ctr::cli
