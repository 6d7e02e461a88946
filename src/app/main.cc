// penstock: one program, one command per file.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>

#include "app/check.h"
#include "app/demo.h"
#include "app/docs.h"
#include "app/epp.h"
#include "app/lab.h"
#include "app/render.h"
#include "app/serve.h"
#include "app/sim.h"
#include "app/tokenize.h"
#include "app/traffic.h"
#include "core/text.h"

namespace {

struct Command {
  std::string_view name;
  std::string_view text;
  int (*run)(int argc, char** argv);
};

constexpr Command kCommands[] = {
    {"serve", "the gateway: HTTP in, the right engine picked, streams out",
     penstock::app::RunServe},
    {"epp", "the endpoint picker behind Envoy; llm-d's flags and configuration",
     penstock::app::RunEpp},
    {"demo", "gateway, simulated engines, traffic and live page in one process",
     penstock::app::RunDemo},
    {"sim", "simulated engines that speak vLLM's HTTP API", penstock::app::RunSim},
    {"traffic", "realistic chat traffic against a gateway on this machine",
     penstock::app::RunTraffic},
    {"check", "what a configuration will do, and what is wrong with it", penstock::app::RunCheck},
    {"lab", "policies and engines in virtual time", penstock::app::RunLab},
    {"tokenize", "the tokens of a text, as a model's tokenizer makes them",
     penstock::app::RunTokenize},
    {"render", "a conversation as a model's chat template writes it", penstock::app::RunRender},
    {"docs", "write the generated reference into a folder", penstock::app::RunDocs},
};

void PrintHelp(std::FILE* out) {
  std::fprintf(out,
               "penstock %s: an inference router for fleets of LLM engines\n\nUsage: penstock "
               "COMMAND [flags]\n\n",
               PENSTOCK_VERSION);
  for (const Command& command : kCommands) {
    std::fprintf(out, "  %-9.*s %.*s\n", static_cast<int>(command.name.size()), command.name.data(),
                 static_cast<int>(command.text.size()), command.text.data());
  }
  std::fprintf(out,
               "\nExamples:\n"
               "  penstock demo\n"
               "  penstock serve --engine http://10.0.0.1:8000 --engine http://10.0.0.2:8000\n"
               "  penstock serve --config penstock.yaml\n"
               "  penstock check epp-config.yaml\n"
               "  penstock sim --engines 4 --profile h100-qwen3-32b-tp2\n"
               "\n'penstock COMMAND --help' explains a command.\n");
}

}  // namespace

int main(int argc, char** argv) {
  // Whoever reads the log may go: writing to it fails then, and nothing else does.
  std::signal(SIGPIPE, SIG_IGN);
  if (argc < 2) {
    PrintHelp(stderr);
    return 2;
  }
  const std::string_view name = argv[1];
  if (name == "--help" || name == "-h" || name == "help") {
    PrintHelp(stdout);
    return 0;
  }
  if (name == "--version" || name == "version") {
    std::printf("penstock %s\n", PENSTOCK_VERSION);
    return 0;
  }
  for (const Command& command : kCommands) {
    if (command.name == name) return command.run(argc - 1, argv + 1);
  }
  std::string_view names[std::size(kCommands)];
  for (size_t i = 0; i < std::size(kCommands); ++i) names[i] = kCommands[i].name;
  std::fprintf(stderr, "penstock: unknown command '%s'%s\n", argv[1],
               penstock::DidYouMean(name, names).c_str());
  return 2;
}
