// ctr-logger, driven as containerd's shim drives it, and read as the agent reads it.
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include <doctest/doctest.h>

#include "tests/integration/logger/logger_process.h"

namespace ctr {
namespace {

constexpr int64_t kSize = 65536;

std::string RandomBytes(size_t size) {
  std::mt19937 random(7);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string Lines(int first, int last) {
  std::string text;
  for (int i = first; i <= last; ++i) text += "line " + std::to_string(i) + "\n";
  return text;
}

TEST_CASE("binary output comes back byte for byte, each stream apart") {
  LogFolderFixture log;
  const std::string out = RandomBytes(1 << 20);
  const std::string err = std::string(100000, 'x') + "\n\n\0\0 \nlast line without an end";
  LoggerProcess logger(log.folder(), 7, 10 << 20, 2);
  std::thread other([&] { logger.Write(LogStream::kStderr, err); });
  logger.Write(LogStream::kStdout, out);
  other.join();
  logger.Finish();
  CHECK(log.Bytes(LogStream::kStdout) == out);
  CHECK(log.Bytes(LogStream::kStderr) == err);
  for (const LogRecord& record : log.Records()) {
    CHECK(record.generation == 7);
    CHECK(record.text.size() <= size_t{16} << 10);
  }
}

TEST_CASE("files are bounded in size and number, and the newest lines are kept") {
  LogFolderFixture log;
  LoggerProcess logger(log.folder(), 1, kSize, 3);
  logger.Write(LogStream::kStdout, Lines(1, 50000));
  logger.Finish();
  CHECK(ListLogFiles(log.folder()).size() == 3);
  CHECK(log.TotalBytes() <= 3 * kSize);
  std::vector<LogRecord> records = log.Records();
  int number = 50000 - static_cast<int>(records.size());
  for (const LogRecord& record : records) CHECK(record.text == "line " + std::to_string(++number));
  CHECK(number == 50000);
}

TEST_CASE("loggers of two starts lose, double and mix no line") {
  LogFolderFixture log;
  LoggerProcess first(log.folder(), 1, kSize, 100);
  LoggerProcess second(log.folder(), 2, kSize, 100);
  std::thread other([&] { first.Write(LogStream::kStdout, Lines(1, 20000)); });
  second.Write(LogStream::kStdout, Lines(1, 20000));
  other.join();
  first.Finish();
  second.Finish();
  CHECK(log.Bytes(LogStream::kStdout, 1) == Lines(1, 20000));
  CHECK(log.Bytes(LogStream::kStdout, 2) == Lines(1, 20000));
}

TEST_CASE("a start is being written until both streams have ended, whatever signal comes") {
  LogFolderFixture log;
  LoggerProcess logger(log.folder(), 3, kSize, 2);
  CHECK(IsLogBeingWritten(log.folder(), 3));
  CHECK_FALSE(IsLogBeingWritten(log.folder(), 4));
  ::kill(logger.pid(), SIGTERM);
  logger.Write(LogStream::kStdout, "after the signal\n");
  logger.Finish();
  CHECK_FALSE(IsLogBeingWritten(log.folder(), 3));
  CHECK(log.Bytes(LogStream::kStdout) == "after the signal\n");
}

TEST_CASE("a logger that is killed no longer counts as writing") {
  LogFolderFixture log;
  {
    LoggerProcess logger(log.folder(), 3, kSize, 2);
  }
  CHECK_FALSE(IsLogBeingWritten(log.folder(), 3));
}

TEST_CASE("a prompt without a newline is written before anything follows it") {
  LogFolderFixture log;
  LoggerProcess logger(log.folder(), 1, kSize, 2);
  logger.Write(LogStream::kStdout, "Password: ");
  while (log.Bytes(LogStream::kStdout) != "Password: ") std::this_thread::yield();
  logger.Write(LogStream::kStdout, "thanks\n");
  logger.Finish();
  CHECK(log.Bytes(LogStream::kStdout) == "Password: thanks\n");
}

TEST_CASE("nothing is rotated away that somebody has to read") {
  LogFolderFixture log;
  REQUIRE(PrepareLogFolder(log.folder()).ok());
  LogCursor cursor(log.folder(), EndOfLog(log.folder()), std::nullopt, LogHold::kUntilRead);
  REQUIRE(cursor.Read()->at_end);
  LoggerProcess logger(log.folder(), 1, kSize, 1);
  const std::string text = Lines(1, 50000);
  std::thread writer([&] { logger.Write(LogStream::kStdout, text); });
  std::string read;
  while (read.size() < text.size()) {
    StatusOr<LogBatch> batch = cursor.Read();
    REQUIRE(batch.ok());
    for (const LogRecord& record : batch->records) read += record.text + "\n";
  }
  writer.join();
  logger.Finish();
  CHECK(read == text);
}

TEST_CASE("a folder that is gone, or none, blocks no container") {
  LoggerProcess logger("/no/such/folder", 1, kSize, 2);
  logger.Write(LogStream::kStdout, Lines(1, 50000));
  logger.Finish();
}

TEST_CASE("a full disk blocks no container, and what was lost is said once there is room") {
  LogFolderFixture log;
  if (::mount("tmpfs", log.folder().c_str(), "tmpfs", 0, "size=256k") != 0) {
    MESSAGE("no tmpfs can be mounted here");
    return;
  }
  {
    LoggerProcess logger(log.folder(), 1, 10 << 20, 2);
    const std::string text = Lines(1, 50000);
    logger.Write(LogStream::kStderr, text);
    std::string kept;
    while ((kept = log.Bytes(LogStream::kStderr)).size() < 20000) std::this_thread::yield();
    struct stat status = {};
    REQUIRE(::stat(log.folder().c_str(), &status) == 0);
    // All was taken when a single byte more is: then there is room.
    logger.Write(LogStream::kStdout, "x");
    CHECK(::mount("tmpfs", log.folder().c_str(), "tmpfs", MS_REMOUNT, "size=4m") == 0);
    logger.Write(LogStream::kStdout, "room\n");
    logger.Finish();
    int64_t lost = 0;
    size_t written = 0;
    for (const LogRecord& record : log.Records()) {
      if (record.stream != LogStream::kStderr) continue;
      lost += record.lost_bytes;
      if (record.lost_bytes == 0) written += record.text.size() + 1;
    }
    CHECK(lost > 0);
    CHECK(written + static_cast<size_t>(lost) == text.size());
    CHECK(text.starts_with(log.Bytes(LogStream::kStderr).substr(0, 20000)));
  }
  ::umount2(log.folder().c_str(), MNT_DETACH);
}

TEST_CASE("a torn record of a machine that stopped spoils nothing after it") {
  LogFolderFixture log;
  std::ofstream(log.folder() + "/0000000004.log")
      << "2026-11-25T09:00:00.123456789Z stdout F:1 whole\n2026-11-25T09:00:00.12345";
  LoggerProcess logger(log.folder(), 2, kSize, 2);
  logger.Write(LogStream::kStdout, "next\n");
  logger.Finish();
  CHECK(log.Bytes(LogStream::kStdout) == "whole\nnext\n");
  CHECK(ListLogFiles(log.folder()) == std::vector<uint64_t>{4});
}

TEST_CASE("the last lines are found over files and pieces") {
  LogFolderFixture log;
  LoggerProcess logger(log.folder(), 1, kSize, 100);
  const std::string text = Lines(1, 10000) + std::string(50000, 'y') + "\n" + "end";
  logger.Write(LogStream::kStdout, text);
  logger.Finish();
  for (int lines : {0, 1, 2, 3, 5000}) {
    CAPTURE(lines);
    LogCursor cursor(log.folder(), TailOfLog(log.folder(), lines), std::nullopt, LogHold::kNone);
    std::string tail;
    for (bool at_end = false; !at_end;) {
      StatusOr<LogBatch> batch = cursor.Read();
      REQUIRE(batch.ok());
      for (const auto& record : batch->records) tail += record.text + (record.partial ? "" : "\n");
      at_end = batch->at_end;
    }
    std::string wanted = lines == 0 ? ""
                         : lines == 1
                             ? "end"
                             : Lines(10003 - lines, 10000) + std::string(50000, 'y') + "\nend";
    CHECK(tail == wanted);
  }
}

}  // namespace
}  // namespace ctr
