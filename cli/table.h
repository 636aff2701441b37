#pragma once

#include <string>
#include <vector>

namespace ctr::cli {

enum class Colour { kNone, kGreen, kYellow, kRed, kCyan, kDim };

struct Cell {
  std::string text;  // "" is shown as "-", so that every line has every column
  Colour colour = Colour::kNone;
};

// Whether to use the escape sequences of a terminal.
enum class Style { kPlain, kColoured };

// `text` with the escape sequences of a colour around it.
std::string Coloured(const std::string& text, Colour colour);

// Lines with columns, each as wide as its widest cell, two spaces apart, below a line with their
// names. Nothing is cut off. Control characters are shown as '?'.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}

  // `row` has as many cells as the header.
  void Add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }

  std::string Render(Style style) const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<Cell>> rows_;
};

// `text` with every control character replaced: what a container or a file says is no command to
// the terminal, and a message stays on its line.
std::string Printable(std::string text);

}  // namespace ctr::cli
