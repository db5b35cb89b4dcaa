// capi/registry.cpp -- finds plug-in libraries without Python, opens each once, and holds the operator tables
// that C and Python share.
#include "graph.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <vector>

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

struct infini_entry {
  struct Kernel {
    std::string name;
    const infini_operator *own;
    std::atomic<const infini_operator *> current;
  };
  enum class State { found, ready, refused };

  std::string name, source;
  int32_t number = 0;
  infini_backend table{};  // with every member of this minor, whatever minor the plug-in is of
  const infini_backend *origin = nullptr;
  infini_runtime runtime{};
  infini_ccl ccl{};
  std::deque<Kernel> kernels;  // sorted by name; a deque, since an atomic cannot be moved
  std::vector<const infini_operator *> pointers;
  std::vector<std::array<std::string, 3>> trail;
  // Written under the registry's lock; `state` last, so that a reader who sees it sees the others.
  std::atomic<State> state{State::found};
  infiniStatus_t status = INFINI_STATUS_SUCCESS;
  std::string reason;
  int32_t device_count = 0;
};

namespace infini::capi {
namespace {

// ---- messages
// ----------------------------------------------------------------------------------------------

// One message per thread, in static storage: storing one allocates nothing, so it works when memory ran out.
thread_local char message[4096];
thread_local int32_t message_code = 0;

void store(infiniStatus_t code, const char *text) {
  message_code = code;
  size_t size = text ? std::strlen(text) : 0;
  if (size >= sizeof message) {
    // Cut before the first byte of the character that no longer fits (UTF-8 continues with 10xxxxxx).
    size = sizeof message - sizeof "...";
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
    std::memmove(message, text, size);
    std::memcpy(message + size, "...", sizeof "...");
    return;
  }
  if (size) std::memmove(message, text, size);  // text may be the stored message itself
  message[size] = 0;
}

}  // namespace

infiniStatus_t fail(infiniStatus_t code, const std::string &text) {
  store(code, text.c_str());
  return code;
}

namespace {

std::atomic<const infini_listener *> listener{nullptr};

int threshold() {
  static const int level = [] {
    const char *text = std::getenv("INFINICORE_LOG_LEVEL");
    if (!text || !*text) return int(INFINI_LOG_WARNING);
    const std::pair<const char *, int> names[] = {{"trace", 10}, {"debug", 10},    {"info", 20},
                                                  {"warn", 30},  {"warning", 30},  {"err", 40},
                                                  {"error", 40}, {"critical", 50}, {"off", 1000}};
    std::string word = text;
    for (char &c : word) c = char(std::tolower(static_cast<unsigned char>(c)));
    for (const auto &[name, value] : names)
      if (word == name) return value;
    return std::isdigit(static_cast<unsigned char>(*text)) ? std::atoi(text) : int(INFINI_LOG_WARNING);
  }();
  return level;
}

void host_log(int32_t level, const char *text) {
  if (text == nullptr) return;
  const infini_listener *to = listener.load();
  if (to != nullptr && to->log != nullptr)
    to->log(level, text);
  else if (level >= threshold())
    std::fprintf(stderr, "infinicore: %s\n", text);
}

int32_t host_interrupted() {
  const infini_listener *to = listener.load();
  return to != nullptr && to->interrupted != nullptr ? to->interrupted() : 0;
}

// ---- state
// -------------------------------------------------------------------------------------------------

std::recursive_mutex &lock() {
  // Never destroyed: plug-ins' threads may still log or look up backends while the process ends.
  static auto *mutex = new std::recursive_mutex;
  return *mutex;
}

std::deque<infini_entry> &entries() {
  static auto *all = new std::deque<infini_entry>;
  return *all;
}

infini_entry *opening = nullptr;  // whose open() is running; under the lock

void host_trail(const char *what, const char *where, const char *result) {
  std::lock_guard guard(lock());
  if (opening != nullptr)
    opening->trail.push_back({what ? what : "", where ? where : "", result ? result : ""});
}

const infini_backend *host_backend(const char *name);

const infini_host services = {INFINI_HEADER(infini_host),
                              [](infiniStatus_t code, const char *text) {
                                store(code, text);
                                return code;
                              },
                              host_log,
                              host_trail,
                              host_backend,
                              []() -> const char * { return message; },
                              host_interrupted};

// ---- names and numbers
// -------------------------------------------------------------------------------------

// Device strings of infiniDevice_t, and other names for them; as infinicore.discovery has them.
const char *const public_names[] = {"cpu",   "cuda",     "bang",   "ascend", "metax",
                                    "moore", "iluvatar", "kunlun", "hygon",  "qy"};
static_assert(std::size(public_names) == INFINI_DEVICE_TYPE_COUNT);
const char *const aliases[][2] = {
    {"nvidia", "cuda"}, {"npu", "ascend"}, {"mlu", "bang"}, {"cambricon", "bang"}, {"musa", "moore"}};

std::string canonical(const std::string &name) {
  for (const auto &[alias, device] : aliases)
    if (name == alias) return device;
  return name;
}

uint32_t crc32(const std::string &text) {
  uint32_t value = ~0u;
  for (unsigned char byte : text) {
    value ^= byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (0xEDB88320u & (0u - (value & 1)));
  }
  return ~value;
}

// infiniDevice_t of a backend; outside the public enumeration a number that depends on the name alone.
int32_t number_of(const std::string &name) {
  for (int i = 0; i < INFINI_DEVICE_TYPE_COUNT; ++i)
    if (name == public_names[i]) return i;
  return int32_t(1000 + crc32(name) % (1u << 30));
}

// The allow and deny list of INFINICORE_BACKENDS: "cpu,cuda", "-ascend", "!bang".
bool allowed(const std::string &name) {
  static const auto lists = [] {
    std::pair<std::set<std::string>, std::set<std::string>> found;
    const char *text = std::getenv("INFINICORE_BACKENDS");
    std::string word;
    for (const char *c = text ? text : "";; ++c) {
      if (*c && *c != ',' && *c != ';') {
        if (!std::isspace(static_cast<unsigned char>(*c)))
          word += char(std::tolower(static_cast<unsigned char>(*c)));
        continue;
      }
      const bool denied = !word.empty() && (word[0] == '-' || word[0] == '!');
      if (word.size() > size_t(denied))
        (denied ? found.second : found.first).insert(canonical(word.substr(denied)));
      word.clear();
      if (!*c) return found;
    }
  }();
  if (name == "cpu") return true;
  return !lists.second.count(name) && (lists.first.empty() || lists.first.count(name));
}

// ---- tables
// ------------------------------------------------------------------------------------------------

template <class Table> bool take(Table &target, const Table *given, const char *what, std::string &why) {
  if (given->header.abi_major != INFINI_ABI_MAJOR) {
    why = "its " + std::string(what) + " table is of plug-in ABI " + std::to_string(given->header.abi_major) +
          ", this infinicore has " + std::to_string(INFINI_ABI_MAJOR) + ": upgrade the older of the two";
    return false;
  }
  if (given->header.struct_size < sizeof(infini_header)) {
    why = "its " + std::string(what) + " table says it is " + std::to_string(given->header.struct_size) +
          " bytes long";
    return false;
  }
  // A plug-in of an older minor has shorter tables; what they lack is NULL here.
  target = Table{};
  std::memcpy(&target, given, std::min<size_t>(given->header.struct_size, sizeof(Table)));
  return true;
}

// The members of infini_runtime that no plug-in may leave out: all before the first optional ones.
bool complete(const infini_runtime &runtime, std::string &why) {
  const std::pair<const char *, bool> required[] = {
#define M(member) {#member, runtime.member != nullptr}
      M(device_info),   M(set_device),    M(synchronize),    M(memory_info),        M(malloc_device),
      M(free_device),   M(malloc_host),   M(free_host),      M(memcpy_sync),        M(memcpy_async),
      M(memset_async),  M(stream_create), M(stream_destroy), M(stream_synchronize), M(stream_wait_event),
      M(event_create),  M(event_destroy), M(event_record),   M(event_query),        M(event_synchronize),
      M(event_elapsed),
#undef M
  };
  for (const auto &[name, there] : required)
    if (!there) {
      why = "runtime member '" + std::string(name) + "' is NULL";
      return false;
    }
  return true;
}

bool fill(infini_entry &entry, const infini_backend *table, std::string &why) {
  if (!take(entry.table, table, "backend", why)) return false;
  if (!entry.table.name || !entry.table.open || !entry.table.runtime) {
    why = std::string("backend member '") +
          (!entry.table.name   ? "name"
           : !entry.table.open ? "open"
                               : "runtime") +
          "' is NULL";
    return false;
  }
  entry.origin = table;
  entry.name = entry.table.name;
  entry.number = number_of(entry.name);
  if (!take(entry.runtime, table->runtime, "runtime", why) || !complete(entry.runtime, why)) return false;
  entry.table.runtime = &entry.runtime;
  if (entry.table.ccl) {
    if (!take(entry.ccl, table->ccl, "collectives", why)) return false;
    entry.table.ccl = &entry.ccl;
  }
  for (uint64_t i = 0; i < entry.table.operator_count; ++i) {
    const infini_operator *kernel = entry.table.operators ? entry.table.operators[i] : nullptr;
    // An operator that cannot be used is lost alone; Python's report says why.
    if (!kernel || !kernel->name || kernel->header.abi_major != INFINI_ABI_MAJOR || !kernel->create ||
        !kernel->workspace || !kernel->execute || !kernel->destroy)
      continue;
    auto &slot = entry.kernels.emplace_back();
    slot.name = kernel->name;
    slot.own = kernel;
    slot.current = kernel;
  }
  return true;
}

infini_entry::Kernel *kernel_of(infini_entry &entry, const char *name) {
  for (auto &kernel : entry.kernels)
    if (kernel.name == name) return &kernel;
  return nullptr;
}

// Must hold the lock.
infini_entry *adopt(const infini_backend *table, const char *source, std::string &why) {
  if (table == nullptr) {
    why = std::string(source) + ": infinicore_backend() returned NULL";
    return nullptr;
  }
  for (auto &entry : entries())
    if (entry.origin == table) {
      // Whoever brings a plug-in again that did not open asks for another try.
      if (entry.state == infini_entry::State::refused) {
        entry.trail.clear();
        entry.state = infini_entry::State::found;
      }
      return &entry;
    }
  auto &entry = entries().emplace_back();
  entry.source = source;
  if (fill(entry, table, why)) return &entry;
  why = entry.source + ": " + why;
  entries().pop_back();
  return nullptr;
}

// Must hold the lock.
void open_entry(infini_entry &entry) {
  if (entry.state != infini_entry::State::found) return;
  infini_entry *outer = opening;  // a plug-in may use the cpu backend while it opens
  opening = &entry;
  store(INFINI_STATUS_SUCCESS, nullptr);
  int32_t count = 0;
  infiniStatus_t status = entry.table.open(&services, &count);
  opening = outer;
  if (status == INFINI_STATUS_SUCCESS && count <= 0) {
    status = INFINI_STATUS_UNAVAILABLE;
    store(status, "there is no device");
  }
  entry.status = status;
  entry.reason = status == INFINI_STATUS_SUCCESS ? "" : message;
  entry.device_count = status == INFINI_STATUS_SUCCESS ? count : 0;
  entry.state = status == INFINI_STATUS_SUCCESS ? infini_entry::State::ready : infini_entry::State::refused;
}

// ---- discovery
// ---------------------------------------------------------------------------------------------

std::string own_folder() {
  Dl_info self;
  if (!dladdr(reinterpret_cast<const void *>(&own_folder), &self) || !self.dli_fname) return ".";
  std::unique_ptr<char, decltype(&std::free)> real(realpath(self.dli_fname, nullptr), std::free);
  const std::string path = real ? real.get() : self.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// The backend that a library file is called after: "libinfinicore_sim.so.1" holds "sim"; "" for other files.
std::string library_name(const std::string &file, bool strict) {
  const size_t dot = file.find('.');
  if (dot == std::string::npos || file.compare(dot, 3, ".so") != 0) return "";
  std::string name = file.substr(0, dot);
  const std::string prefix = "libinfinicore_";
  if (strict && name.rfind(prefix, 0) != 0) return "";
  for (const char *part : {"lib", "infinicore_", "infinicore-"})
    if (name.rfind(part, 0) == 0) name.erase(0, std::strlen(part));
  return name;
}

std::vector<std::string> listing(const std::string &folder) {
  std::vector<std::string> names;
  if (DIR *directory = opendir(folder.c_str())) {
    while (const dirent *item = readdir(directory)) names.push_back(item->d_name);
    closedir(directory);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Device string -> library files that offer it. Nothing is opened.
std::multimap<std::string, std::string> candidates() {
  std::multimap<std::string, std::string> found;
  const auto search = [&](const std::string &folder, bool strict) {
    for (const auto &file : listing(folder))
      if (const std::string name = library_name(file, strict); !name.empty() && name != "onednn")
        found.emplace(name, folder + "/" + file);
  };
  const std::string here = own_folder();
  search(here, true);
  // Wheels of vendors lie beside ours: site-packages/infinicore_cuda/libinfinicore_cuda.so.
  const std::string packages = here + "/../..";
  for (const auto &package : listing(packages))
    if (package.rfind("infinicore_", 0) == 0) search(packages + "/" + package, true);
  const char *path = std::getenv("INFINICORE_BACKEND_PATH");
  std::string folder;
  for (const char *c = path ? path : "";; ++c) {
    if (*c && *c != ':') {
      folder += *c;
      continue;
    }
    if (!folder.empty()) search(folder, false);
    folder.clear();
    if (!*c) return found;
  }
}

struct Found {
  infini_entry *entry = nullptr;
  bool seen = false;    // a library of this name is there
  std::string problem;  // why there is no entry
};

// Must hold the lock. The entry of the backend `name`: adopted before, else from its library.
Found find_name(const std::string &name) {
  Found result;
  if (!allowed(name)) {
    result.problem = name + ": INFINICORE_BACKENDS=" + std::getenv("INFINICORE_BACKENDS") + " excludes it";
    return result;
  }
  for (auto &entry : entries())
    if (entry.name == name && (!result.entry || entry.state == infini_entry::State::ready))
      result.entry = &entry;
  if (result.entry) return result;
  // Where two libraries offer one name the first wins: beside us, other wheels, INFINICORE_BACKEND_PATH.
  const auto all = candidates();
  for (auto [at, end] = all.equal_range(name); at != end; ++at) {
    const std::string &file = at->second;
    void *handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      result.seen = true;
      result.problem = name + ": " + dlerror();
      continue;
    }
    auto function = reinterpret_cast<const infini_backend *(*)()>(dlsym(handle, "infinicore_backend"));
    if (!function) continue;  // a library that a plug-in needs may lie beside it
    result.seen = true;
    result.entry = adopt(function(), file.c_str(), result.problem);
    if (result.entry && result.entry->name == name) return result;
    if (result.entry) result.problem = file + " calls itself '" + result.entry->name + "'";
    result.entry = nullptr;
  }
  if (!result.seen) result.problem = name + ": no plug-in for it is installed";
  return result;
}

const infini_backend *host_backend(const char *name) {
  if (name == nullptr) return nullptr;
  std::lock_guard guard(lock());
  Found found = find_name(name);
  // Only cpu is opened for the asking: it is always there.
  if (found.entry && found.entry->name == "cpu") open_entry(*found.entry);
  return found.entry && found.entry->state == infini_entry::State::ready ? &found.entry->table : nullptr;
}

std::string name_of(int32_t number) {
  if (number >= 0 && number < INFINI_DEVICE_TYPE_COUNT) return public_names[number];
  for (auto &entry : entries())
    if (entry.number == number) return entry.name;
  for (const auto &[name, file] : candidates())
    if (number_of(name) == number) return name;
  return "";
}

// ---- fork
// --------------------------------------------------------------------------------------------------

// No driver survives fork(); our own cpu backend does.
void after_fork() {
  for (auto &entry : entries())
    if (entry.name != "cpu" && entry.state == infini_entry::State::ready) {
      entry.status = INFINI_STATUS_UNAVAILABLE;
      entry.reason =
          "it was opened before fork(), and its driver does not work in the child: "
          "start the process anew, or fork before the first use";
      entry.state = infini_entry::State::refused;
    }
  // A recursive mutex knows its owner by a thread number, which the one thread of the child does not have.
  new (&lock()) std::recursive_mutex;
}

[[maybe_unused]] const int watched =
    pthread_atfork([] { lock().lock(); }, [] { lock().unlock(); }, after_fork);

// ---- this thread's device
// ----------------------------------------------------------------------------------

struct Current {
  infini_entry *entry;
  int32_t device;
};
thread_local Current chosen{nullptr, 0};

infiniStatus_t registry_open(infini_entry *entry, int32_t *count) {
  if (entry->state != infini_entry::State::ready) {
    std::lock_guard guard(lock());
    open_entry(*entry);
  }
  *count = entry->device_count;
  if (entry->state == infini_entry::State::ready) return INFINI_STATUS_SUCCESS;
  return fail(entry->status, entry->reason);
}

infini_entry *registry_by_device(int32_t number, infiniStatus_t *status) {
  std::lock_guard guard(lock());
  const std::string name = name_of(number);
  Found found;
  if (!name.empty())
    found = find_name(name);
  else
    found.problem = "no backend has device number " + std::to_string(number);
  if (!found.entry) {
    *status =
        fail(found.seen ? INFINI_STATUS_UNAVAILABLE : INFINI_STATUS_DEVICE_TYPE_NOT_SUPPORTED, found.problem);
    return nullptr;
  }
  open_entry(*found.entry);
  *status = found.entry->status;
  if (found.entry->state == infini_entry::State::ready) return found.entry;
  fail(*status, name + ": " + found.entry->reason);
  return nullptr;
}

infiniStatus_t registry_activate(infini_entry *entry, int32_t device) {
  if (entry->state != infini_entry::State::ready)
    return fail(entry->status, entry->name + ": " + entry->reason);
  if (device < 0 || device >= entry->device_count)
    return fail(INFINI_STATUS_DEVICE_NOT_FOUND, entry->name + ": device " + std::to_string(device) +
                                                    " does not exist, there are " +
                                                    std::to_string(entry->device_count));
  const infiniStatus_t status = entry->runtime.set_device(device);
  const infini_listener *to = listener.load();
  if (to != nullptr && to->activated != nullptr)
    to->activated(entry, status == INFINI_STATUS_SUCCESS ? device : -1);
  return status;
}

}  // namespace

const char *last_message() {
  return message;
}

infiniStatus_t choose(infini_entry *entry, int32_t device) {
  const infiniStatus_t status = registry_activate(entry, device);
  if (status == INFINI_STATUS_SUCCESS) chosen = {entry, device};
  return status;
}

infiniStatus_t current(infini_entry **entry, int32_t *device) {
  if (chosen.entry == nullptr) {
    infiniStatus_t status = INFINI_STATUS_SUCCESS;
    infini_entry *cpu = registry_by_device(INFINI_DEVICE_CPU, &status);
    if (cpu == nullptr) return status;
    chosen = {cpu, 0};
  }
  *entry = chosen.entry;
  *device = chosen.device;
  return registry_activate(chosen.entry, chosen.device);
}

int32_t number(const infini_entry *entry) {
  return entry->number;
}
int32_t device_count(const infini_entry *entry) {
  return entry->device_count;
}
const std::string &name(const infini_entry *entry) {
  return entry->name;
}
const infini_runtime &runtime(const infini_entry *entry) {
  return entry->runtime;
}

}  // namespace infini::capi

const infini_registry_api *infini_registry(void) {
  using namespace infini::capi;
  static const infini_registry_api api = {
      INFINI_HEADER(infini_registry_api),
      &services,
      [](const infini_listener *to) { listener = to; },
      [](const infini_backend *table, const char *source) {
        std::lock_guard guard(lock());
        std::string why;
        infini_entry *entry = adopt(table, source ? source : "", why);
        if (entry == nullptr) fail(INFINI_STATUS_BAD_PARAM, why);
        return entry;
      },
      registry_open,
      [](const infini_entry *entry, const char *wanted) -> const infini_operator * {
        const auto *kernel = kernel_of(const_cast<infini_entry &>(*entry), wanted);
        return kernel ? kernel->current.load() : nullptr;
      },
      [](const char *backend, const char *wanted, const infini_operator *kernel) {
        std::lock_guard guard(lock());
        for (auto &entry : entries())
          if (entry.name == backend)
            if (auto *slot = kernel_of(entry, wanted)) {
              if (kernel && kernel->fingerprint != slot->own->fingerprint)
                return fail(INFINI_STATUS_BAD_PARAM,
                            std::string(wanted) + ": the kernel was built for another signature");
              slot->current = kernel ? kernel : slot->own;
              return INFINI_STATUS_SUCCESS;
            }
        return fail(INFINI_STATUS_BAD_PARAM, std::string(backend) + " has no operator " + wanted);
      },
      [](const infini_entry *entry, uint64_t i, const char *words[3]) -> int32_t {
        std::lock_guard guard(lock());
        if (i >= entry->trail.size()) return 0;
        for (int word = 0; word < 3; ++word) words[word] = entry->trail[i][size_t(word)].c_str();
        return 1;
      },
      registry_by_device,
      [](const infini_entry *entry) -> const infini_backend * { return &entry->table; },
      number,
      current,
      registry_activate,
      [](infinirtStream_t stream, infiniStatus_t (*step)(void *, infinirtStream_t), void *context,
         void (*drop)(void *)) -> int32_t {
        if (!recording(stream)) return 0;
        std::shared_ptr<void> kept(context, drop);
        enqueue(stream, [=](infinirtStream_t on) { return step(kept.get(), on); });
        return 1;
      },
      [](infinirtStream_t stream) { return int32_t(recording(stream)); },
      [](infiniStatus_t status) -> const char * {
        const bool mine = message_code == status && status != INFINI_STATUS_SUCCESS;
        message_code = 0;
        return mine ? message : "";
      },
  };
  return &api;
}

extern "C" INFINI_EXPORT const char *infiniGetLastError(void) {
  return infini::capi::last_message();
}
