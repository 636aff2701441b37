#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <openssl/evp.h>

namespace ctr {

// A SHA-256 over text that comes in pieces, as OCI writes digests: "sha256:<64 hex digits>".
class Sha256 {
 public:
  Sha256();

  void Update(std::string_view data);
  // Once, at the end.
  std::string Digest();

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

std::string Sha256Digest(std::string_view data);

// Whether `text` is a digest of the one form that we can check: "sha256:" and 64 lower-case digits.
bool IsSha256Digest(std::string_view text);

}  // namespace ctr
