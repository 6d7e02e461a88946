#include "engine/profile.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

#include "config/parse.h"
#include "core/file.h"
#include "core/text.h"
#include "embedded/profiles.h"
#include "wire/yaml.h"

namespace penstock::engine {
namespace {

constexpr std::string_view kSuffix = ".yaml";
constexpr size_t kMaxFileBytes = 1 << 20;

std::string_view Stem(std::string_view file) {
  return file.substr(0, file.size() - kSuffix.size());
}

// A file of the profile's folder.
using Neighbour = std::function<Result<std::string>(const std::string& name)>;

Result<std::string> EmbeddedNeighbour(const std::string& name) {
  for (const EmbeddedFile& file : ProfileFiles()) {
    if (file.name == name) return std::string(file.bytes);
  }
  return Fail(Code::kNotFound, name + ": no such built-in file");
}

Result<Profile> Parse(std::string_view yaml, std::string_view file_name, const Neighbour& read) {
  auto tree = wire::ParseYaml(yaml, file_name);
  if (!tree) return std::unexpected(std::move(tree.error()));
  Profile profile;
  config::Diagnostics diagnostics;
  diagnostics.file = std::string(file_name);
  if (!config::ParseInto(*tree, "", &profile, &diagnostics)) {
    std::string message;
    for (const std::string& error : diagnostics.errors) {
      if (!message.empty()) message += '\n';
      message += error;
    }
    return Fail(Code::kInvalidArgument, std::move(message));
  }
  if (!profile.kernel_times_file.empty()) {
    auto csv = read(profile.kernel_times_file);
    if (!csv) {
      return Fail(csv.error().code,
                  std::string(file_name) + ": kernelTimes: " + csv.error().message);
    }
    auto times = KernelTimes::Parse(*csv, profile.kernel_times_file);
    if (!times) return std::unexpected(std::move(times.error()));
    profile.kernel_times = std::move(*times);
  }
  if (auto engine = Engine::Create(profile.Options()); !engine) {
    return Fail(engine.error().code, std::string(file_name) + ": " + engine.error().message);
  }
  return profile;
}

}  // namespace

EngineOptions Profile::Options() const {
  EngineOptions options;
  options.block_size = kv_cache.block_size;
  options.num_blocks = kv_cache.blocks;
  options.max_num_seqs = scheduler.max_num_seqs;
  options.max_num_batched_tokens = scheduler.max_num_batched_tokens;
  options.long_prefill_tokens = scheduler.long_prefill_tokens;
  options.max_model_len = scheduler.max_model_len;
  options.max_loras = scheduler.max_loras;
  options.max_waiting = scheduler.max_waiting;
  options.async_scheduling = scheduler.async_scheduling;
  options.cpu_blocks = kv_offload.cpu_blocks;
  options.kv_bytes_per_token = kv_cache.bytes_per_token;
  options.tier_link = kv_offload.link;
  options.peer_link = kv_transfer;
  options.costs = step_time;
  options.kernel_times = kernel_times;
  return options;
}

Result<Profile> ParseProfile(std::string_view yaml, std::string_view file_name) {
  const std::string folder(file_name.substr(0, file_name.rfind('/') + 1));  // npos + 1 is 0
  return Parse(yaml, file_name, [&](const std::string& name) {
    return ReadFile(name.starts_with('/') ? name : folder + name, kMaxFileBytes);
  });
}

Result<Profile> LoadProfile(std::string_view name_or_path) {
  if (name_or_path.find('/') != std::string_view::npos || name_or_path.ends_with(kSuffix)) {
    auto text = ReadFile(std::string(name_or_path), kMaxFileBytes);
    if (!text) return std::unexpected(std::move(text.error()));
    return ParseProfile(*text, name_or_path);
  }
  for (const EmbeddedFile& file : ProfileFiles()) {
    if (file.name.ends_with(kSuffix) && Stem(file.name) == name_or_path) {
      return Parse(file.bytes, file.name, EmbeddedNeighbour);
    }
  }
  const std::vector<std::string> names = BuiltinProfileNames();
  const std::vector<std::string_view> views(names.begin(), names.end());
  std::string message = "no profile '" + std::string(name_or_path) + "'" +
                        DidYouMean(name_or_path, views) + "; there are";
  for (const std::string& name : names) message += " " + name;
  return Fail(Code::kNotFound, std::move(message));
}

std::vector<std::string> BuiltinProfileNames() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : ProfileFiles()) {
    if (file.name.ends_with(kSuffix)) names.emplace_back(Stem(file.name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace penstock::engine
