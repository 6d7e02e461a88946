// All built-in plugin types, from the builtin_<kind>.inc lists.
#pragma once

#include "sched/registry.h"

namespace penstock::plugins {

const sched::Registry& Builtins();

}  // namespace penstock::plugins
