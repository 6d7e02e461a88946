#include "engine/kv_log.h"

#include <utility>

#include "wire/msgpack.h"

namespace penstock::engine {

using wire::MsgpackWriter;

void KvLog::Begin(std::shared_ptr<const KvContent> content) {
  for (uint32_t i = 0; i < content->hashes.size(); ++i) {
    ++places_.try_emplace(content->hashes[i], Place{content, i, 0}).first->second.users;
  }
}

void KvLog::End(const KvContent& content) {
  for (const uint64_t hash : content.hashes) {
    const auto it = places_.find(hash);
    if (it != places_.end() && --it->second.users == 0) places_.erase(it);
  }
}

KvLog::Event& KvLog::Open(Event::Type type, Memory memory) {
  if (events_.empty() || events_.back().type != type || events_.back().memory != memory) {
    events_.push_back({type, memory, {}, nullptr, 0});
  }
  return events_.back();
}

void KvLog::OnStored(uint64_t hash, Memory memory) {
  if (memory == Memory::kHost) {
    Open(Event::Type::kStored, memory).hashes.push_back(hash);
    return;
  }
  const auto it = places_.find(hash);
  if (it == places_.end()) return;  // nobody can say what is in it
  const Place& place = it->second;
  if (!events_.empty()) {
    Event& last = events_.back();
    if (last.type == Event::Type::kStored && last.content == place.content &&
        last.first + last.hashes.size() == place.block) {
      last.hashes.push_back(hash);
      return;
    }
  }
  events_.push_back({Event::Type::kStored, memory, {hash}, place.content, place.block});
}

void KvLog::OnRemoved(uint64_t hash, Memory memory) {
  Open(Event::Type::kRemoved, memory).hashes.push_back(hash);
}

void KvLog::OnCleared() {
  events_.clear();  // whatever they say of single blocks is over
  events_.push_back({Event::Type::kCleared, Memory::kGpu, {}, nullptr, 0});
}

std::string KvLog::Take(double timestamp) {
  std::string out;
  MsgpackWriter writer(&out);
  writer.Array(3);
  writer.Float(timestamp);
  writer.Array(static_cast<uint32_t>(events_.size()));
  for (const Event& event : events_) Append(event, &out);
  writer.Nil();  // no data-parallel rank
  events_.clear();
  return out;
}

void KvLog::Append(const Event& event, std::string* out) const {
  if (event.type == Event::Type::kStored) return AppendStored(event, out);
  MsgpackWriter writer(out);
  const bool is_map = encoding_ == KvEncoding::kMap;
  const bool is_removal = event.type == Event::Type::kRemoved;
  is_map ? writer.Map(is_removal ? 3 : 1) : writer.Array(is_removal ? 3 : 1);
  if (is_map) writer.String("type");
  writer.String(is_removal ? "BlockRemoved" : "AllBlocksCleared");
  if (!is_removal) return;
  if (is_map) writer.String("block_hashes");
  writer.Array(static_cast<uint32_t>(event.hashes.size()));
  for (const uint64_t hash : event.hashes) writer.Uint(hash);
  if (is_map) writer.String("medium");
  writer.String(event.memory == Memory::kGpu ? "GPU" : "CPU");
}

void KvLog::AppendStored(const Event& event, std::string* out) const {
  MsgpackWriter writer(out);
  const bool is_map = encoding_ == KvEncoding::kMap;
  const KvContent* const content = event.content.get();
  const bool has_adapter = content != nullptr && !content->adapter.empty();
  // The salt stands among the first block's keys.
  const bool has_keys =
      content != nullptr && (has_adapter || (event.first == 0 && !content->salt.empty()));
  const uint32_t fields = has_keys ? 9 : 8;
  is_map ? writer.Map(fields) : writer.Array(fields);
  const auto key = [&](std::string_view name) {
    if (is_map) writer.String(name);
  };
  key("type");
  writer.String("BlockStored");
  key("block_hashes");
  writer.Array(static_cast<uint32_t>(event.hashes.size()));
  for (const uint64_t hash : event.hashes) writer.Uint(hash);
  key("parent_block_hash");
  if (content == nullptr || event.first == 0) {
    writer.Nil();
  } else {
    writer.Uint(content->hashes[event.first - 1]);
  }
  key("token_ids");
  const size_t begin = size_t{event.first} * block_size_;
  const size_t count = content == nullptr ? 0 : event.hashes.size() * block_size_;
  writer.Array(static_cast<uint32_t>(count));
  for (size_t i = 0; i < count; ++i) writer.Uint(content->tokens[begin + i]);
  key("block_size");
  writer.Uint(block_size_);
  key("lora_id");
  has_adapter ? writer.Uint(1) : writer.Nil();
  key("medium");
  writer.String(event.memory == Memory::kGpu ? "GPU" : "CPU");
  key("lora_name");
  has_adapter ? writer.String(content->adapter) : writer.Nil();
  if (!has_keys) return;
  key("extra_keys");
  writer.Array(static_cast<uint32_t>(event.hashes.size()));
  for (size_t i = 0; i < event.hashes.size(); ++i) {
    const bool has_salt = i == 0 && event.first == 0 && !content->salt.empty();
    if (!has_adapter && !has_salt) {
      writer.Nil();
      continue;
    }
    writer.Array((has_adapter ? 1u : 0u) + (has_salt ? 1u : 0u));
    if (has_adapter) writer.String(content->adapter);
    if (has_salt) writer.String(content->salt);
  }
}

}  // namespace penstock::engine
