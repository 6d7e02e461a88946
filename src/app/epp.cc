#include "app/epp.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "app/epp_flags.h"
#include "app/picker.h"
#include "net/loop.h"
#include "telemetry/log.h"

namespace penstock::app {
namespace {

int Complain(const Error& error, int status) {
  std::string_view rest = error.message;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    std::fprintf(stderr, "penstock epp: %.*s\n", static_cast<int>(line.size()), line.data());
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
  }
  return status;
}

}  // namespace

int RunEpp(int argc, char** argv) {
  const Result<EppFlags> flags = ParseEppFlags(argc, argv);
  if (!flags) return Complain(flags.error(), 2);
  if (flags->wants_help) {
    std::fputs(EppHelp().c_str(), stdout);
    return 0;
  }
  const auto format = telemetry::log::ParseFormat(flags->log_format);
  if (!format) {
    return Complain({Code::kInvalidArgument, "--log-format: is neither text nor json"}, 2);
  }
  telemetry::log::Configure(flags->verbosity >= 4  ? telemetry::log::Level::kDebug
                            : flags->verbosity > 0 ? telemetry::log::Level::kInfo
                                                   : telemetry::log::Level::kWarn,
                            *format);
  net::Loop main_loop;
  std::unique_ptr<Picker> picker;
  bool is_draining = false;
  net::SignalWatch signals(main_loop, [&](int) {
    if (picker == nullptr || std::exchange(is_draining, true)) return main_loop.Stop();
    telemetry::log::Info("draining: streams may end; a second signal ends at once");
    picker->Drain([&main_loop] { main_loop.Stop(); });
  });
  auto started = Picker::Start(*flags);
  if (!started) return Complain(started.error(), 1);
  picker = std::move(*started);
  for (const std::string& line : picker->Summary()) telemetry::log::Info(line);
  std::printf("ext_proc on %s:%u, health on port %u, metrics on port %u\n", flags->host.c_str(),
              picker->port(), picker->health_port(), picker->metrics_port());
  std::fflush(stdout);
  main_loop.Run();
  picker.reset();
  return 0;
}

}  // namespace penstock::app
