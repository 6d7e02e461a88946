// Tells when a file may have changed: by inotify on its folder, because editors replace files by
// renaming and Kubernetes swaps the symbolic link that a mounted ConfigMap's files go through; and
// by looking at the file's status now and then, which also works where inotify does not (network
// file systems, links into other folders, exhausted watches).
//
// THREADS: the callback runs on the watcher's own thread. The destructor stops and joins it and
// must not run on it.
// OWNS: the thread, its inotify and event descriptors.
// COST: nothing until the folder changes, but one stat() each poll interval.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/time.h"

namespace penstock::discovery {

struct WatchOptions {
  bool is_on = true;  // else the file is read once
  enum class Inotify { kUse, kAvoid };
  Inotify inotify = Inotify::kUse;
  // Events are told together when none has come for `quiet`, and after `patience` at the latest.
  Duration quiet = milliseconds(50);
  Duration patience = milliseconds(500);
  Duration poll = seconds(5);        // with inotify
  Duration poll_alone = seconds(1);  // without
  // Names of files beside the one that is watched, whose changes are told as its own are.
  std::vector<std::string> siblings;
};

class FileWatcher {
 public:
  // `on_change` may also be called when nothing changed, and is called once at the start, so that
  // what happened before is not missed. Fails when the system gives no descriptor or thread;
  // without inotify it polls.
  static Result<std::unique_ptr<FileWatcher>> Start(std::string path, const WatchOptions& options,
                                                    std::function<void()> on_change);
  ~FileWatcher();
  FileWatcher(const FileWatcher&) = delete;
  FileWatcher& operator=(const FileWatcher&) = delete;

 private:
  struct Impl;
  explicit FileWatcher(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::discovery
