// capi/registry.hpp -- the registry as the sources of libinfinirt.so see it.
#pragma once
#include "registry.h"

#include <array>
#include <string>

namespace infini::capi {

// Store a message for this thread and return `code`.
infiniStatus_t fail(infiniStatus_t code, const std::string &text);

// This thread's message.
const char *last_message();

// Make a device of an open backend this thread's current one.
infiniStatus_t choose(infini_entry *entry, int32_t device);

// This thread's device (cpu:0 where none was chosen), active on it.
infiniStatus_t current(infini_entry **entry, int32_t *device);

int32_t number(const infini_entry *entry);
int32_t device_count(const infini_entry *entry);
const std::string &name(const infini_entry *entry);
const infini_runtime &runtime(const infini_entry *entry);

}  // namespace infini::capi
