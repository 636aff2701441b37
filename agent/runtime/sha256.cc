#include "agent/runtime/sha256.h"

#include <algorithm>
#include <stdexcept>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ctr {
namespace {

constexpr std::string_view kPrefix = "sha256:";

void Must(int result) {
  if (result != 1) throw std::runtime_error("OpenSSL can't compute a SHA-256");
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  Must(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

void Sha256::Update(std::string_view data) {
  Must(EVP_DigestUpdate(context_.get(), data.data(), data.size()));
}

std::string Sha256::Digest() {
  std::string bytes(32, '\0');
  Must(EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(bytes.data()), nullptr));
  return absl::StrCat("sha256:", absl::BytesToHexString(bytes));
}

std::string Sha256Digest(std::string_view data) {
  Sha256 hash;
  hash.Update(data);
  return hash.Digest();
}

bool IsSha256Digest(std::string_view text) {
  if (text.substr(0, kPrefix.size()) != kPrefix) return false;
  std::string_view digits = text.substr(kPrefix.size());
  return digits.size() == 64 && std::all_of(digits.begin(), digits.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace ctr
