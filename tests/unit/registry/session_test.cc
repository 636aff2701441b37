#include "agent/registry/session.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "absl/strings/str_cat.h"
#include "agent/base/fd.h"
#include "agent/registry/refusal.h"

namespace ctr {
namespace {

// A registry on this machine that gives everybody the same answer, as it stands.
class Registry {
 public:
  explicit Registry(std::string answer) : answer_(std::move(answer)) {
    listener_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(::bind(listener_.get(), generic, size) == 0);
    REQUIRE(::listen(listener_.get(), 16) == 0);
    REQUIRE(::getsockname(listener_.get(), generic, &size) == 0);
    host_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
    thread_ = std::jthread([this] { Serve(); });
  }
  ~Registry() { ::shutdown(listener_.get(), SHUT_RDWR); }

  // What a pull of an image of it fails with.
  Status Refusal() const {
    auto settings = std::make_shared<ImageSettings>();
    settings->docker_config = "/nonexistent";
    RegistrySession session({.host = host_, .repository = "x", .tag = "1", .digest = ""}, settings,
                            std::make_shared<std::atomic<bool>>(false));
    return session.FetchManifest("1").status();
  }
  const std::string& host() const { return host_; }
  int asked() const { return asked_; }

 private:
  void Serve() {
    for (;;) {
      const UniqueFd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!peer.valid()) return;
      char request[4096];
      // One request is one packet: it is short.
      if (::read(peer.get(), request, sizeof(request)) <= 0) continue;
      ++asked_;
      [[maybe_unused]] const ssize_t sent =
          ::send(peer.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL);
    }
  }

  const std::string answer_;
  UniqueFd listener_;
  std::string host_;
  std::atomic<int> asked_ = 0;
  std::jthread thread_;
};

std::string Answer(const std::string& status, const std::string& headers, const std::string& body) {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nConnection: close\r\nContent-Length: ", body.size(),
                      "\r\n", headers, "\r\n", body);
}

bool Says(const Status& status, const std::string& part) {
  return std::string(status.message()).find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a registry that asks for a longer wait than we are ready for is not asked again") {
  const auto begun = std::chrono::steady_clock::now();
  Registry limiting(Answer("429 Too Many", "Retry-After: 3600\r\n",
                           R"({"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate"}]})"));
  Status refused = limiting.Refusal();
  CAPTURE(refused.ToString());
  CHECK(absl::IsUnavailable(refused));
  CHECK(Says(refused, "wait 1h, or log in: docker login " + limiting.host()));
  CHECK(Says(refused, R"(; it says "TOOMANYREQUESTS: pull rate")"));
  CHECK(limiting.asked() == 1);

  Registry down(Answer("503 Down", "Retry-After: 7200\r\n", ""));
  refused = down.Refusal();
  CHECK(Says(refused, "answers with 503, and asks to wait 2h"));
  CHECK(down.asked() == 1);
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(10));
}

TEST_CASE("what a registry says of its refusal is told") {
  const std::string body = R"({"errors":[{"code":"DENIED","message":"no access for you"}]})";
  for (const char* status : {"401 Unauthorized", "403 Forbidden", "404 Not Found", "418 Teapot"}) {
    CAPTURE(status);
    CHECK(Says(Registry(Answer(status, "", body)).Refusal(),
               R"(; it says "DENIED: no access for you")"));
  }
}

TEST_CASE("a registry's words are cut, and reach no terminal as they are") {
  const auto words = [](const std::string& body) {
    HttpResponse response;
    response.body = body;
    return ItsWords(response);
  };
  CHECK(words(R"({"errors":[{"message":"\u001b[31mred\nforged"}]})") ==
        "; it says \"?[31mred?forged\"");
  CHECK(words(R"({"errors":[{"code":"DENIED"}]})") == "; it says \"DENIED\"");
  const std::string umlauts = words(R"({"errors":[{"message":"x)" + [] {
    std::string many;
    for (int i = 0; i < 500; ++i) many += "ä";
    return many;
  }() + R"("}]})");
  CHECK(umlauts.size() < 230);
  CHECK(umlauts.ends_with("ä…\""));
  for (const char* nothing : {"", "busy", "[]", "3", R"({"errors":[]})", R"({"errors":{}})",
                              R"({"errors":[3]})", R"({"errors":[{"message":3}]})"}) {
    CHECK(words(nothing) == "");
  }
}

TEST_CASE("Retry-After counts in seconds or until a date, and for a day at most") {
  const auto wait = [](const std::string& value) {
    HttpResponse response;
    response.headers = {{"retry-after", value}};
    return AskedWait(response);
  };
  CHECK(wait("5") == std::chrono::seconds(5));
  CHECK(wait("99999999") == std::chrono::hours(24));
  CHECK(wait("-5") == Duration::zero());
  CHECK(AskedWait(HttpResponse()) == Duration::zero());

  const auto wait_until = [](const std::string& date) {
    HttpResponse response;
    response.headers = {{"date", "Fri, 31 Dec 1999 23:59:50 GMT"}, {"retry-after", date}};
    return AskedWait(response);
  };
  CHECK(wait_until("Sat, 01 Jan 2000 00:00:20 GMT") == std::chrono::seconds(30));
  CHECK(wait_until("Sat, 01 Jan 2050 00:00:00 GMT") == std::chrono::hours(24));
  CHECK(wait_until("Thu, 30 Dec 1999 00:00:00 GMT") == Duration::zero());
  CHECK(wait_until("tomorrow") == Duration::zero());
  CHECK(wait("Sat, 01 Jan 2000 00:00:20 GMT") == Duration::zero());
}

}  // namespace ctr
