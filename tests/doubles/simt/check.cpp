// simt/check.cpp -- what kernels that are compiled with -fsanitize=thread touch: data races within a block
// and between blocks, accesses out of bounds, and vectors that do not begin at a multiple of their size. The
// compiler calls __tsan_read4(address) before it reads four bytes, and so on; libtsan is not linked, these
// functions are here instead.
//
// Each four bytes have a shadow: who wrote them last, and two of those who read them since. Two are enough: a
// later writer races with one of them if it races with any. Bytes of a word that are used apart get a shadow
// each.
#include "check.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <unordered_map>

#include <dlfcn.h>

// Of this library, as linked: its image holds constants, and addresses in it are told apart by their
// distance.
extern "C" const char __ehdr_start __attribute__((visibility("hidden")));
extern "C" const char _end __attribute__((visibility("hidden")));

namespace simt {

namespace {

enum class Kind : uint8_t { read, write, atomic };

// One access: when (0: none), by whom, and by which code.
struct Stamp {
  uint32_t interval, code;
  uint16_t thread, warp_interval;
  Kind kind;
};
struct Cell {
  Stamp writer, last, other;  // the last two are reads, or atomic operations, since that write
};
struct Word {
  Cell cell;
  uint32_t launch, split;  // the last launch that came here, and which four cells it uses instead; 0: none
};

constexpr size_t page_bytes = 4096, most_pages = 4096;  // that are kept from launch to launch
using Page = std::array<Word, page_bytes / 4>;

// Of the first access that is wrong.
struct Fault {
  enum What { none, race, out_of_bounds, foreign_stack, misaligned } what = none;
  Stamp mine, theirs;
  uint32_t block;
  uintptr_t address;
  size_t bytes;
  Range range;
} fault;

std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
struct {
  uintptr_t number;
  Page *page;
} recent_pages[64];
std::vector<std::array<Cell, 4>> splits(1);
Range recent_ranges[8];
unsigned next_range;
Range (*find_range)(uintptr_t) = [](uintptr_t) { return Range{0, UINTPTR_MAX, Owner::device}; };

uintptr_t number(const void *address) {
  return reinterpret_cast<uintptr_t>(address);
}
bool within(uintptr_t address, uintptr_t begin, uintptr_t bytes) {
  return address - begin < bytes;
}

Word *word_at(uintptr_t address) {
  const uintptr_t page = address / page_bytes;
  auto &recent = recent_pages[page % 64];
  if (recent.page == nullptr || recent.number != page) {
    auto &made = pages[page];
    if (made == nullptr) made.reset(new Page());
    recent = {page, made.get()};
  }
  return &(*recent.page)[address % page_bytes / 4];
}

Range range_of(uintptr_t address) {
  for (const Range &range : recent_ranges)
    if (address >= range.begin && address < range.end) return range;
  const Range found = find_range(address);
  return recent_ranges[next_range++ % 8] = found;
}

void stop_with(Fault::What what, const Stamp &mine, const Stamp &theirs, uintptr_t address, size_t bytes,
               const Range &range = {}) {
  fault = {what, mine, theirs, now.block, address, bytes, range};
  stop_block();
}

// Is nothing between an access and what the running thread does now? Intervals before `first` do not count:
// an earlier launch's, and, of the memory of a block, an earlier block's.
bool unordered(const Stamp &stamp, uint32_t first) {
  if (stamp.interval < first) return false;
  if (stamp.interval < now.block) return true;  // another block of this launch
  if (stamp.interval < now.interval || stamp.thread == now.thread) return false;
  return stamp.thread / now.width != now.warp || stamp.warp_interval == now.warp_intervals[now.warp];
}

// Remember a read or an atomic operation, so that one of both stamps is unordered with a later access if any
// is.
void join(Cell &cell, const Stamp &mine, uint32_t first) {
  Stamp &last = cell.last, &other = cell.other;
  const auto elsewhere = [&](const Stamp &stamp) {  // in another block, or another warp of this interval
    return stamp.interval >= first && (stamp.interval < now.block || (stamp.interval == now.interval &&
                                                                      stamp.thread / now.width != now.warp));
  };
  const bool together = last.interval == now.interval && last.warp_interval == mine.warp_interval &&
                        last.thread / now.width == now.warp;
  if (together && last.thread == mine.thread && last.kind == Kind::atomic) return;  // says more than a read
  if (elsewhere(last) || (together && last.thread != mine.thread && !elsewhere(other)))
    other = last;
  else if (!together && !elsewhere(other))
    other.interval = 0;
  last = mine;
}

// An access to what a cell stands for. The stamp that it races with, or NULL.
const Stamp *judge(Cell &cell, const Stamp &mine, uint32_t first) {
  if (unordered(cell.writer, first)) return &cell.writer;
  for (const Stamp *stamp : {&cell.last, &cell.other}) {
    const bool harmless = mine.kind != Kind::write && stamp->kind == mine.kind;
    if (!harmless && unordered(*stamp, first)) return stamp;
  }
  if (mine.kind == Kind::write) {
    cell.writer = mine;
    cell.last.interval = cell.other.interval = 0;
  } else {
    join(cell, mine, first);
  }
  return nullptr;
}

// `bytes` of a word from `begin` on.
const Stamp *judge_word(Word &word, unsigned begin, unsigned bytes, const Stamp &mine, uint32_t first) {
  if (word.launch != now.launch) {
    word.launch = now.launch;
    word.split = 0;
  }
  if (word.split == 0) {
    if (bytes == 4) return judge(word.cell, mine, first);
    word.split = static_cast<uint32_t>(splits.size());
    splits.push_back({word.cell, word.cell, word.cell, word.cell});
  }
  for (unsigned i = begin; i < begin + bytes; ++i)
    if (const Stamp *stamp = judge(splits[word.split][i], mine, first)) return stamp;
  if (bytes == 4 && mine.kind == Kind::write) {  // all bytes are alike again
    word.cell = splits[word.split][0];
    word.split = 0;
  }
  return nullptr;
}

// A number of bytes that one instruction moves begins at a multiple of that number, or a device stops.
void access(const void *memory, size_t bytes, size_t alignment, Kind kind, const void *frame,
            const void *code) {
  if (!within(number(frame), stack_area.begin, stack_area.bytes)) return;  // the host's code
  if (!now.watched || bytes == 0) return;
  const uintptr_t address = number(memory);
  const Stamp mine = {now.interval, static_cast<uint32_t>(number(code) - number(&__ehdr_start)),
                      static_cast<uint16_t>(now.thread), now.warp_intervals[now.warp], kind};
  if (within(address, stack_area.begin, stack_area.bytes)) {
    if (!within(address, own_stack(), stack_bytes)) stop_with(Fault::foreign_stack, mine, {}, address, bytes);
    return;
  }
  if (address % alignment != 0) stop_with(Fault::misaligned, mine, {}, address, bytes);
  uint32_t first = now.launch;
  if (within(address, number(shared_area), shared_area_bytes)) {
    const size_t offset = address - number(shared_area);
    const Placed *array = placed_at(offset);
    if (array == nullptr || offset + bytes > array->begin + array->bytes)
      return stop_with(Fault::out_of_bounds, mine, {}, address, bytes, {0, 0, Owner::nobody});
    first = now.block;
  } else if (kind == Kind::read &&
             (within(address, number(&__ehdr_start), number(&_end) - number(&__ehdr_start)) ||
              now.kernel->holds(address))) {
    return;  // constants
  } else {
    const Range range = range_of(address);
    if (range.owner != Owner::device || address + bytes > range.end)
      return stop_with(Fault::out_of_bounds, mine, {}, address, bytes, range);
  }
  for (uintptr_t at = address; at < address + bytes;) {
    const uintptr_t next = std::min((at | 3) + 1, address + bytes);
    if (const Stamp *theirs = judge_word(*word_at(at), at % 4, static_cast<unsigned>(next - at), mine, first))
      return stop_with(Fault::race, mine, *theirs, at, bytes);
    at = next;
  }
}

// What addr2line says of an address in this library: the function, or where it is in its source.
std::string symbol(uintptr_t offset, bool function) {
  Dl_info library{};
  if (dladdr(&__ehdr_start, &library) == 0) return "?";
  char number[32];
  std::snprintf(number, sizeof(number), "0x%zx", static_cast<size_t>(offset));
  const std::string command =
      std::string("addr2line -Cse '") + library.dli_fname + "' " + (function ? "-f " : "") + number;
  std::string text;
  if (FILE *output = popen(command.c_str(), "r")) {
    char line[1024];
    if (std::fgets(line, sizeof(line), output) != nullptr) text = line;
    pclose(output);
  }
  text.erase(std::min({text.find('\n'), text.find(" (discriminator"), text.size()}));
  return text.empty() || text[0] == '?' ? std::string(library.dli_fname) + "+" + number : text;
}

std::string place_of(const Stamp &stamp) {
  return symbol(stamp.code - 1, false);  // a return address: the call is before it
}

std::string count(size_t bytes) {
  return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
}

std::string memory_of(const Fault &found) {
  if (within(found.address, number(shared_area), shared_area_bytes)) {
    const size_t offset = found.address - number(shared_area);
    for (size_t before = offset + 1; before-- > 0;)  // what lies there, or before it
      if (const Placed *array = placed_at(before))
        return std::string("shared memory, at byte ") + std::to_string(offset - array->begin) + " of " +
               array->name + ", which has " + count(array->bytes);
    return "shared memory";
  }
  const Range range = range_of(found.address);
  char text[64];
  std::snprintf(text, sizeof(text), "0x%zx", static_cast<size_t>(found.address));
  if (range.owner == Owner::host) return std::string("memory of the host, at ") + text;
  if (range.owner == Owner::nobody) return std::string("memory that is in no allocation, at ") + text;
  if (range.begin == 0) return std::string("global memory, at ") + text;
  return "global memory, at byte " + std::to_string(found.address - range.begin) + " of an allocation of " +
         count(range.end - range.begin);
}

const char *verb(Kind kind) {
  return kind == Kind::read ? "reads" : kind == Kind::write ? "writes" : "atomically changes";
}

}  // namespace

void set_device_memory(Range (*find)(uintptr_t)) {
  find_range = find;
}

void check_launch() {
  for (Range &range : recent_ranges) range = {};
  splits.resize(1);
  fault.what = Fault::none;
  if (pages.size() > most_pages) {
    pages.clear();
    for (auto &recent : recent_pages) recent = {};
  }
}

std::string fault_text() {
  if (fault.what == Fault::none) return "";
  const std::string kernel = symbol(number(now.kernel->function) - number(&__ehdr_start), true);
  const std::string thread = "thread " + thread_name(fault.mine.thread) + " " + verb(fault.mine.kind) + " " +
                             count(fault.bytes) + " of ";
  const std::string where = " (" + place_of(fault.mine) + ")";
  if (fault.what == Fault::foreign_stack)
    return "out of bounds in " + kernel + ": " + thread + "another thread's local memory" + where;
  if (fault.what == Fault::misaligned)
    return "misaligned in " + kernel + ": " + thread + memory_of(fault) + where;
  if (fault.what == Fault::out_of_bounds)
    return "out of bounds in " + kernel + ": " + thread + memory_of(fault) + where;
  const Stamp &theirs = fault.theirs;
  const bool far = theirs.interval < fault.block;
  const char *kinds =
      fault.mine.kind == Kind::read || theirs.kind == Kind::read ? "read/write" : "write/write";
  return std::string("race (") + kinds + ") in " + kernel + ": " + thread + memory_of(fault) + where +
         ", which thread " + thread_name(theirs.thread) +
         (far ? " of block " + block_name(theirs.interval) : "") + " " + verb(theirs.kind) + " (" +
         place_of(theirs) + ") with no " + (far ? "order between blocks" : "barrier between them");
}

void note_atomic(const void *memory, size_t bytes, const void *code) {
  access(memory, bytes, bytes, Kind::atomic, __builtin_frame_address(0), code);
}

}  // namespace simt

// ---- what the compiler calls -----------------------------------------------------------------------------

extern "C" {

#define ACCESS(name, parameters, bytes, alignment, kind)                                 \
  void name parameters;                                                                  \
  void name parameters {                                                                 \
    simt::access(memory, bytes, alignment, simt::Kind::kind, __builtin_frame_address(0), \
                 __builtin_return_address(0));                                           \
  }
ACCESS(__tsan_read1, (void *memory), 1, 1, read)
ACCESS(__tsan_read2, (void *memory), 2, 2, read)
ACCESS(__tsan_read4, (void *memory), 4, 4, read)
ACCESS(__tsan_read8, (void *memory), 8, 8, read)
ACCESS(__tsan_read16, (void *memory), 16, 16, read)
ACCESS(__tsan_read_range, (void *memory, size_t bytes), bytes, 1, read)
ACCESS(__tsan_write1, (void *memory), 1, 1, write)
ACCESS(__tsan_write2, (void *memory), 2, 2, write)
ACCESS(__tsan_write4, (void *memory), 4, 4, write)
ACCESS(__tsan_write8, (void *memory), 8, 8, write)
ACCESS(__tsan_write16, (void *memory), 16, 16, write)
ACCESS(__tsan_write_range, (void *memory, size_t bytes), bytes, 1, write)
#undef ACCESS

void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *);
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void);
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **, void *);
void __tsan_vptr_update(void **, void *) {}
// Is a static variable of a function initialised?
char __tsan_atomic8_load(const volatile char *memory, int);
char __tsan_atomic8_load(const volatile char *memory, int) {
  return __atomic_load_n(memory, __ATOMIC_ACQUIRE);
}
}
