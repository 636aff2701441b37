#pragma once

#include "agent/registry/session.h"

namespace ctr {

// What a registry sends of one blob, over as many answers as it takes: puts it together without
// gaps, and refuses what is not that blob. It and what it refers to live for FetchBlob.
class RegistrySession::BlobTransfer {
 public:
  BlobTransfer(const BlobDescriptor& blob, const Sink& sink) : blob_(blob), sink_(sink) {}

  // Another answer is asked for, from received() on.
  void Begin() {
    asked_ = received_;
    begun_ = false;
    skip_ = 0;
  }
  // A piece of its body.
  Status Take(const HttpResponse& response, std::string_view piece);
  // UNAVAILABLE if the answer ended before the blob did.
  Status CheckWhole() const;
  // Whether much came since the last time that it was asked so.
  bool HasProgressed();

  int64_t received() const { return received_; }
  // Why the sink wanted no more.
  const Status& sink_error() const { return sink_error_; }

 private:
  Status CheckHead(const HttpResponse& response);

  const BlobDescriptor& blob_;
  const Sink& sink_;
  int64_t received_ = 0;
  int64_t marked_ = 0;
  int64_t asked_ = 0;
  int64_t skip_ = 0;  // of an answer that begins at the start although it was not asked to
  bool begun_ = false;
  Status sink_error_;
};

}  // namespace ctr
