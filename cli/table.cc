#include "cli/table.h"

#include <algorithm>

namespace ctr::cli {
namespace {

constexpr char kBold[] = "\x1b[1m";
constexpr char kReset[] = "\x1b[0m";

const char* Escape(Colour colour) {
  switch (colour) {
    case Colour::kNone:
      return "";
    case Colour::kGreen:
      return "\x1b[32m";
    case Colour::kYellow:
      return "\x1b[33m";
    case Colour::kRed:
      return "\x1b[31m";
    case Colour::kCyan:
      return "\x1b[36m";
    case Colour::kDim:
      return "\x1b[2m";
  }
  return "";
}

// Code points, which is what a terminal counts for the text that we show.
size_t Width(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

std::string Shown(const Cell& cell) { return cell.text.empty() ? "-" : Printable(cell.text); }

void AppendLine(std::string& out, const std::vector<std::string>& texts,
                const std::vector<const char*>& escapes, const std::vector<size_t>& widths) {
  for (size_t i = 0; i < texts.size(); ++i) {
    bool escaped = *escapes[i] != '\0';
    out += escapes[i];
    out += texts[i];
    if (escaped) out += kReset;
    bool last = i + 1 == texts.size();
    if (!last) out.append(widths[i] - Width(texts[i]) + 2, ' ');
  }
  out += '\n';
}

}  // namespace

std::string Table::Render(Style style) const {
  std::vector<size_t> widths;
  for (const std::string& name : header_) widths.push_back(Width(name));
  for (const std::vector<Cell>& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(Shown(row[i])));
  }

  bool coloured = style == Style::kColoured;
  std::string out;
  AppendLine(out, header_, std::vector<const char*>(header_.size(), coloured ? kBold : ""), widths);
  for (const std::vector<Cell>& row : rows_) {
    std::vector<std::string> texts;
    std::vector<const char*> escapes;
    for (const Cell& cell : row) {
      texts.push_back(Shown(cell));
      escapes.push_back(coloured ? Escape(cell.colour) : "");
    }
    AppendLine(out, texts, escapes, widths);
  }
  return out;
}

std::string Coloured(const std::string& text, Colour colour) {
  return colour == Colour::kNone ? text : Escape(colour) + text + kReset;
}

std::string Printable(std::string text) {
  for (char& c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || c == '\t' || c == '\r') c = ' ';
    if (byte < 0x20 && c != ' ') c = '?';
    if (byte == 0x7F) c = '?';
  }
  return text;
}

}  // namespace ctr::cli
