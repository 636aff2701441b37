#include "agent/api/api_server.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

namespace ctr {

StatusOr<std::unique_ptr<ApiServer>> ApiServer::Listen(const std::string& socket_path,
                                                       grpc::Service& service) {
  ::unlink(socket_path.c_str());
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket_path, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const mode_t before = ::umask(0117);  // never open to others, not for a moment
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ::umask(before);
  if (!server) return absl::InternalError(absl::StrCat("cannot listen on ", socket_path));
  const group* ctr_group = ::getgrnam("ctr");
  if (ctr_group == nullptr) {
    spdlog::warn("there is no group \"ctr\": only root can use {}", socket_path);
  } else if (::chown(socket_path.c_str(), 0, ctr_group->gr_gid) != 0) {
    return ErrnoError(errno, absl::StrCat("cannot give ", socket_path, " to the group ctr"));
  }
  return std::unique_ptr<ApiServer>(new ApiServer(std::move(server)));
}

ApiServer::ApiServer(std::unique_ptr<grpc::Server> server) : server_(std::move(server)) {}

ApiServer::~ApiServer() = default;

void ApiServer::Shutdown(Duration patience) {
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(patience));
}

}  // namespace ctr
