// Writes lines to a descriptor on a thread of its own, so that whoever reads them may be slow,
// stand still or go away without holding up the writers. Lines that find the buffer full are
// dropped and counted; the next line that is written is preceded by one that says how many are
// missing.
//
// THREADS: any. COST: a lock and a copy of the line.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace penstock::telemetry {

class LineWriter {
 public:
  // The line that stands for `dropped` missing ones, with its newline.
  using Gap = std::string (*)(uint64_t dropped);

  // Holds at most `max_bytes` of lines that wait, beside as many that are being written.
  LineWriter(int fd, size_t max_bytes, Gap gap);
  // Drops what has not been written; Flush first. Never waits for the reader.
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  // `line` ends with its newline.
  void Put(std::string_view line);
  // Waits until every line put before has been written, `patience` at most. Returns whether.
  bool Flush(std::chrono::milliseconds patience);
  // Lines that were lost: no room, or the descriptor refused them.
  uint64_t Dropped() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the thread, which may outlive this in a write
};

}  // namespace penstock::telemetry
