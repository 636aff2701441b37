#pragma once

#include <memory>
#include <ostream>
#include <string>

#include "agent/base/error.h"
#include "cli/client.h"
#include "cli/render.h"
#include "cli/settings.h"

namespace ctr::cli {

// Where a command reads and writes. Referred to, not owned.
struct Io {
  std::ostream& out;  // data
  std::ostream& err;  // everything else
  int input = 0;      // the descriptor that "-" stands for
  bool out_is_terminal = false;
  bool err_is_terminal = false;
};

// Says why a command failed: a line on stderr, or JSON on stdout. Returns the exit status.
int Report(const Status& error, Output output, const Io& io);

// What one command has at hand: its settings, the agent, and its output. Lives for the command.
class Context {
 public:
  Context(Settings settings, const Environment& environment, const Io& io)
      : settings_(std::move(settings)), environment_(environment), io_(io) {}

  const Settings& settings() const { return settings_; }
  const Environment& environment() const { return environment_; }
  const Io& io() const { return io_; }
  Style style() const;
  bool json() const {
    return settings_.output == Output::kJson || settings_.output == Output::kJsonLines;
  }

  // Connects at the first call, which is not to be made by two threads at once.
  StatusOr<Client*> client();

  // One call to the agent.
  template <typename Request, typename Response>
  StatusOr<Response> Call(grpc::Status (Client::Stub::*method)(grpc::ClientContext*, const Request&,
                                                               Response*),
                          const std::type_identity_t<Request>& request) {
    CTR_ASSIGN_OR_RETURN(Client * client, this->client());
    return client->Call(method, request);
  }

  // The instance that `text` (ID or CLASS/ID) names.
  StatusOr<v1::InstanceRef> Ref(const std::string& text) const;

  // Each prints and returns the exit status.
  int Fail(const Status& error) const { return Report(error, settings_.output, io_); }
  int PrintText(const std::string& text) const;
  int PrintLine(const std::string& line) const { return PrintText(line + "\n"); }
  // An object, or with jsonl on one line.
  int PrintJson(const Json& json) const;
  // An array; with jsonl its elements, one a line.
  int PrintJsonList(const Json& array) const;
  // JSON if asked for, "class/id" for -o name, else `line`; nothing if that is empty.
  int PrintInstance(const v1::Instance& instance, const std::string& line) const;

 private:
  const Settings settings_;
  const Environment& environment_;
  const Io& io_;
  std::unique_ptr<Client> client_;
};

// What `get` and `route` print: the URL, or class/id of a job, which has none.
std::string UrlOrName(const v1::Instance& instance);

}  // namespace ctr::cli
