// doctest itself is precompiled, without this half of it.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <spdlog/cfg/env.h>

int main(int argc, char** argv) {
  // What the code under test logs would bury what failed; SPDLOG_LEVEL=info shows it.
  spdlog::set_level(spdlog::level::off);
  spdlog::cfg::load_env_levels();
  return doctest::Context(argc, argv).run();
}
