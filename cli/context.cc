#include "cli/context.h"

#include "cli/arguments.h"

namespace ctr::cli {

int Report(const Status& error, Output output, const Io& io) {
  if (output == Output::kJson) {
    io.out << Pretty(ToJson(error));
  } else if (output == Output::kJsonLines) {
    io.out << Compact(ToJson(error));
  } else {
    io.err << "ctr: " << Printable(std::string(error.message())) << "\n";
  }
  io.out.flush();
  io.err.flush();
  return ExitStatusOf(error);
}

Style Context::style() const {
  bool wanted = io_.out_is_terminal && !Variable(environment_, "NO_COLOR") &&
                Variable(environment_, "TERM") != "dumb";
  return wanted ? Style::kColoured : Style::kPlain;
}

StatusOr<Client*> Context::client() {
  if (!client_) {
    CTR_ASSIGN_OR_RETURN(client_, Client::Connect(settings_.socket_path, settings_.timeout));
  }
  return client_.get();
}

StatusOr<v1::InstanceRef> Context::Ref(const std::string& text) const {
  return ParseInstanceRef(text, settings_.class_name);
}

int Context::PrintText(const std::string& text) const {
  io_.out << text;
  io_.out.flush();
  return 0;
}

int Context::PrintJson(const Json& json) const {
  return PrintText(settings_.output == Output::kJsonLines ? Compact(json) : Pretty(json));
}

int Context::PrintJsonList(const Json& array) const {
  if (settings_.output != Output::kJsonLines) return PrintText(Pretty(array));
  for (const Json& element : array) PrintText(Compact(element));
  return 0;
}

int Context::PrintInstance(const v1::Instance& instance, const std::string& line) const {
  if (json()) return PrintJson(ToJson(instance));
  if (settings_.output == Output::kName) return PrintLine(NameOf(instance));
  return line.empty() ? 0 : PrintLine(line);
}

std::string UrlOrName(const v1::Instance& instance) {
  return instance.url().empty() ? NameOf(instance) : instance.url();
}

}  // namespace ctr::cli
