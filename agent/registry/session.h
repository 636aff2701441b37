#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/model/image_settings.h"
#include "agent/registry/challenge.h"
#include "agent/registry/docker_config.h"
#include "agent/registry/http.h"
#include "agent/registry/manifest.h"
#include "agent/registry/reference.h"

namespace ctr {

// Reads one repository of a registry, or of its mirrors (Distribution API, version 2): logs in when
// it is asked to, tries again what may go better the next time, follows redirects, and gives a
// token to nobody but whom it is for. A value that one thread uses at a time; a copy has the
// original's login. All its calls block.
//
// Errors: NOT_FOUND (unknown_image), PERMISSION_DENIED (with how to log in), UNAVAILABLE after
// several attempts, CANCELLED once it is abandoned, FAILED_PRECONDITION for what can't be right.
class RegistrySession {
 public:
  RegistrySession(RegistryReference reference, std::shared_ptr<const ImageSettings> settings,
                  std::shared_ptr<const std::atomic<bool>> abandoned);

  struct Document {
    std::string text;
    std::string media_type;
    std::string digest;  // of the text
  };
  // By tag or by digest, which is verified. 4 MiB at most. What follows asks the one of registry
  // and mirrors that answered.
  StatusOr<Document> FetchManifest(const std::string& wanted);

  // Gives the blob to `sink` in order and without gaps, however often the connection breaks, and
  // never more than its size; its digest is for the caller to verify. An error of `sink` ends it.
  using Sink = std::function<Status(std::string_view piece)>;
  Status FetchBlob(const BlobDescriptor& blob, const Sink& sink);
  // After a blob whose digest was another, or a manifest that is none: whether it may yet be had,
  // from the next of registry and mirrors, or all of it from one.
  bool MayTryElsewhere();

 private:
  // The registry, or a mirror of it.
  struct Endpoint {
    std::string base;  // "https://host" and what stands before "/v2/"
    std::string host;  // whose login it takes
    std::string ca_file;
    bool is_mirror = false;
    bool may_be_tls = false;  // on this machine: HTTPS, if it turns out not to speak HTTP
    std::string authorization = {};
    std::optional<Login> login = {};
  };
  struct Question {
    std::string path;  // below /v2/REPOSITORY/
    std::string accept = {};
    int64_t offset = 0;
    Duration time_limit = Duration::zero();
  };
  class BlobTransfer;

  Endpoint& endpoint() { return endpoints_[current_]; }
  const Endpoint& endpoint() const { return endpoints_[current_]; }
  // Another one that may have it; false if there is none.
  bool NextEndpoint();
  // What the current endpoint answers, be it what it may, after logins and redirects.
  StatusOr<HttpResponse> Ask(const Question& question, const HttpSink& sink);
  StatusOr<HttpResponse> AskThrough(const Question& question, const HttpSink& sink,
                                    const std::string& url);
  // The same by TLS, if that is what the other side speaks; else what it answered by HTTP.
  StatusOr<HttpResponse> AskByTls(const Question& question, const HttpSink& sink,
                                  StatusOr<HttpResponse> by_http);
  std::string UrlOf(const Question& question) const;
  // A 2xx, or what the answer means.
  StatusOr<HttpResponse> AskForSuccess(const Question& question, const HttpSink& sink);
  Status MeaningOf(const HttpResponse& response);
  StatusOr<Document> AskForManifest(const std::string& wanted);
  // Answers the challenge of a 401.
  Status Authorize(const HttpResponse& response);
  StatusOr<std::string> FetchToken(const Challenge& challenge, const Login& login);
  StatusOr<Login> LoginOf(Endpoint& endpoint);
  // A 401 or a 403.
  Status Denied(const HttpResponse& response);
  std::string CaFileFor(const std::string& url);
  Status Sleep(int failures, const Status& failure);
  const std::string& DockerConfig();

  RegistryReference reference_;
  std::shared_ptr<const ImageSettings> settings_;
  std::shared_ptr<const std::atomic<bool>> abandoned_;
  std::vector<Endpoint> endpoints_;
  size_t current_ = 0;
  bool is_mixed_ = false;  // the last blob came from several of them
  std::string docker_config_;
  std::minstd_rand random_{std::random_device()()};
};

}  // namespace ctr
