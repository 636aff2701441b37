// The files of an instance's output, which ctr-logger writes and the agent reads. Below one folder:
//
//   0000000007.log  records, one a line; the highest number is the newest. None is ever renamed.
//   writers         empty; a logger holds an open-file-description lock on the byte whose offset is
//                   its generation until it has seen the end of both streams.
//
// A record: "2026-11-25T09:00:00.123456789Z stdout F:7 text\n", the CRI log format with the
// generation as a second tag. Tag F: a line, whose newline is that of the record; P: a piece that
// no newline follows; D: `text` is how many bytes of the stream were lost here. So the bytes of a
// stream can be had back exactly.
//
// Who appends holds flock(LOCK_EX) on the folder. Who reads a file and must not lose it holds
// flock(LOCK_SH) on it: it is not deleted before, and the container waits meanwhile.
#pragma once

#include <cstddef>

namespace ctr::log_layout {

inline constexpr char kWriters[] = "writers";
inline constexpr char kSuffix[] = ".log";
inline constexpr size_t kNumberDigits = 10;
inline constexpr size_t kMaxTextBytes = size_t{16} << 10;
// Time, stream, tag and a generation of 20 digits, with a space after each.
inline constexpr size_t kMaxHeaderBytes = 30 + 1 + 6 + 1 + 22 + 1;
inline constexpr size_t kMaxRecordBytes = kMaxHeaderBytes + kMaxTextBytes + 1;

}  // namespace ctr::log_layout
