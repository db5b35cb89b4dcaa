// simt.cpp -- the scheduler behind simt.hpp: fibers on pooled stacks, barriers, warps, and who waits for
// what. A thread starts on the stack of one that has returned, so that a kernel without barriers needs one
// stack and no switch; a thread that waits hands over directly to the next that can run.
#include "check.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

// ---- switching stacks -------------------------------------------------------------------------------------

#if defined(__x86_64__)
asm(R"(
.text
.type simt_switch,@function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch,.-simt_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.type simt_switch,%function
simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size simt_switch,.-simt_switch
)");
#else
#include <ucontext.h>
#endif

namespace simt {

Index current;
Now now;
StackArea stack_area;
alignas(256) char shared_area[shared_area_bytes];

namespace {

#if defined(__x86_64__) || defined(__aarch64__)
// Saves the callee-saved registers on this stack, its pointer in *save, and goes on where `load` was saved.
extern "C" void simt_switch(void **save, void *load);

using Context = void *;
void switch_to(Context &from, Context &to) {
  simt_switch(&from, to);
}
// A context that begins with entry() at the top of a stack.
void prepare(Context &context, char *stack, void (*entry)()) {
#if defined(__x86_64__)
  // Six registers, the address to return to, and the one that entry() never returns to: as after a call.
  auto top = reinterpret_cast<void **>(stack + stack_bytes) - 8;
  std::memset(top, 0, 8 * sizeof(void *));
  top[6] = reinterpret_cast<void *>(entry);
#else
  auto top = reinterpret_cast<void **>(stack + stack_bytes) - 20;
  std::memset(top, 0, 20 * sizeof(void *));
  top[11] = reinterpret_cast<void *>(entry);  // x30
#endif
  context = top;
}
#else
using Context = ucontext_t;
void switch_to(Context &from, Context &to) {
  swapcontext(&from, &to);
}
void prepare(Context &context, char *stack, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = stack_bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
#endif

// Stacks lie side by side, and are kept for ever: the next block needs as many. The lowest page of each
// faults when it overflows.
class Stacks {
 public:
  char *take() {
    if (unused.empty()) return make();
    char *stack = unused.back();
    unused.pop_back();
    return stack;
  }
  void give_back(char *stack) { unused.push_back(stack); }

 private:
  char *make() {
    if (next == nullptr) {
      constexpr size_t bytes = max_threads * stack_bytes;
      void *memory =
          mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) throw Error("simt: no memory for the stacks of a block's threads");
      next = static_cast<char *>(memory);
      stack_area = {reinterpret_cast<uintptr_t>(memory), bytes};
    }
    if (mprotect(next, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE) != 0)
      throw Error("simt: no memory for the stacks of a block's threads");
    return std::exchange(next, next + stack_bytes);
  }

  std::vector<char *> unused;
  char *next = nullptr;
};

enum class State : uint8_t { fresh, ready, waiting, done };

struct Thread {
  State state;
  bool in_warp_operation;
  const char *file;  // where it waits
  int line;
  bool (*ready)(void *);  // what it waits for, where that is no meeting
  void *what;
  char *stack;  // NULL until it first waits
  Context context;
};

// Who has come to a barrier or a warp operation.
struct Rendezvous {
  unsigned arrived = 0;
  const char *file = nullptr;
  int line = 0;
};

struct Warp {
  Rendezvous meeting;
  unsigned generation = 0;
  // What lanes give, of this generation and of the one before it, which slower lanes may still read.
  uint64_t lanes[2][max_lanes];
};

std::mutex one_launch;
Stacks stacks;
Thread threads[max_threads];
Warp warps[max_threads];
std::vector<unsigned> sequence;  // position -> linear thread index
Order wanted_order = [] {
  const char *text = std::getenv("SIMT_ORDER");
  const std::string name = text == nullptr ? "" : text;
  return name == "reverse" ? Order::reverse : name == "shuffled" ? Order::shuffled : Order::forward;
}();
std::mt19937 random_numbers(20240229);

Context scheduler;
char *running_stack;
unsigned position, started, finished, total;  // of the running block
Rendezvous block_meeting;
std::string failure;
uint32_t intervals;  // that have begun, of all launches

// The memory of the running block.
constexpr size_t between_arrays = 64, before_arrays = 256;
std::vector<Placed> arrays;
std::mutex asked_for;
std::map<const void *, size_t> shared_bytes_of;  // kernels that asked for more than any has
size_t allowed_shared_bytes;                     // of the running one
size_t shared_bytes, shared_end;                 // without and with the room between arrays
uint8_t array_of[shared_area_bytes / 4];         // of each four bytes, its number in `arrays` from 1 on

std::string place(const char *file, int line) {
  const std::string path = file;
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(line);
}

std::string name_of(const dim3 &at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

uint64_t threads_of(const dim3 &block) {
  return uint64_t(block.x) * block.y * block.z;
}

size_t shared_bytes_for(const Launch &launch) {
  const std::lock_guard<std::mutex> lock(asked_for);
  const auto found = shared_bytes_of.find(launch.kernel.function);
  return found == shared_bytes_of.end() ? max_shared_bytes : std::max(found->second, max_shared_bytes);
}

void enter(unsigned thread) {
  now.thread = thread;
  now.warp = thread / now.width;
  const dim3 &size = current.block_dim;
  current.thread = dim3(thread % size.x, thread / size.x % size.y, thread / (size.x * size.y));
}

// The next suspended thread, in cyclic order, that may go on; total when there is none.
unsigned next_ready() {
  for (unsigned step = 0; step < total; ++step) {
    if (++position >= total) position = 0;
    const Thread &thread = threads[sequence[position]];
    if (thread.state == State::ready ||
        (thread.state == State::waiting && thread.ready != nullptr && thread.ready(thread.what)))
      return sequence[position];
  }
  return total;
}

void fiber() {
  for (;;) {
    (*now.kernel)();
    threads[now.thread].state = State::done;
    ++finished;
    if (started < total) {  // the next thread takes over this stack
      position = started;
      enter(sequence[started++]);
      continue;
    }
    stacks.give_back(running_stack);  // nobody takes it before the switch below
    Context forgotten;
    const unsigned next = next_ready();
    if (next == total) switch_to(forgotten, scheduler);
    enter(next);
    running_stack = threads[next].stack;
    switch_to(forgotten, threads[next].context);
  }
}

// Begin the next fresh thread on a stack of its own, from the context `from`.
void start_fresh(Context &from) {
  running_stack = stacks.take();
  Context context;
  prepare(context, running_stack, fiber);
  position = started;
  enter(sequence[started++]);
  switch_to(from, context);
}

// Let others run until somebody makes this thread ready again.
void suspend(bool in_warp_operation, const char *file, int line) {
  Thread &mine = threads[now.thread];
  mine.state = State::waiting;
  mine.in_warp_operation = in_warp_operation;
  mine.file = file;
  mine.line = line;
  mine.stack = running_stack;
  if (started < total) return start_fresh(mine.context);
  const unsigned next = next_ready();
  if (next == total) return switch_to(mine.context, scheduler);  // which never comes back
  enter(next);
  running_stack = threads[next].stack;
  switch_to(mine.context, threads[next].context);
}

// Count this thread in; true when it is the last of `members`.
bool arrive(Rendezvous &meeting, unsigned members, const char *what, const char *file, int line) {
  if (meeting.arrived == 0) {
    meeting.file = file;
    meeting.line = line;
  } else if (meeting.line != line || std::strcmp(meeting.file, file) != 0) {
    fail(std::string("threads meet at different ") + what + ": at " + place(meeting.file, meeting.line) +
         " and, thread " + name_of(current.thread) + ", at " + place(file, line));
  }
  if (++meeting.arrived < members) return false;
  meeting.arrived = 0;
  return true;
}

// Make the threads first .. first + count - 1 ready, those of them that wait for this kind of meeting.
void release(unsigned first, unsigned count, bool of_warp) {
  for (unsigned i = first; i < first + count; ++i)
    if (threads[i].state == State::waiting && threads[i].ready == nullptr &&
        threads[i].in_warp_operation == of_warp)
      threads[i].state = State::ready;
}

// Wait for all lanes of this warp, and return what one of them gave.
uint64_t meet(uint64_t mine, unsigned source, bool orders_memory, const char *file, int line) {
  const unsigned width = now.width, index = now.warp;
  if (total % width != 0)
    fail("a warp operation at " + place(file, line) + " in a block of " + std::to_string(total) +
         " threads, which is no whole number of warps of " + std::to_string(width));
  if (source >= width)
    fail("a shuffle from lane " + std::to_string(source) + " of a warp of " + std::to_string(width) +
         ", at " + place(file, line));
  Warp &warp = warps[index];
  uint64_t *all = warp.lanes[warp.generation & 1];
  all[now.thread % width] = mine;
  if (arrive(warp.meeting, width, "warp operations", file, line)) {
    ++warp.generation;
    if (orders_memory) ++now.warp_intervals[index];
    release(index * width, width, true);
  } else {
    suspend(true, file, line);
  }
  return all[source];
}

// Who waits where, of a block in which nobody can go on.
std::string deadlock() {
  struct Waiting {
    unsigned count, first;
    bool in_warp_operation;
  };
  std::map<std::string, Waiting> places;
  for (unsigned i = 0; i < total; ++i) {
    const Thread &thread = threads[i];
    if (thread.state != State::waiting) continue;
    const Waiting found{0, i, thread.in_warp_operation};
    ++places.emplace(place(thread.file, thread.line), found).first->second.count;
  }
  std::string text = "deadlock";
  const char *separator = ": ";
  for (const auto &[where, waiting] : places) {
    text += separator + std::to_string(waiting.count) +
            (waiting.count == 1 ? " thread waits at " : " threads wait at ") + where + " for " +
            (threads[waiting.first].ready != nullptr ? "what nobody does"
             : waiting.in_warp_operation ? "all " + std::to_string(now.width) + " lanes of the warp"
                                         : "all " + std::to_string(total) + " threads of the block") +
            (waiting.count == 1 ? ": " : ", the first ") + thread_name(waiting.first);
    separator = "; ";
  }
  return text + "; " + std::to_string(finished) + " of " + std::to_string(total) + " returned";
}

// Put an array into the block's memory, which a block begins as what no kernel may rely on: NaNs, and
// integers out of any range.
char *place_array(const char *name, size_t bytes) {
  shared_bytes = (shared_bytes + 15) / 16 * 16 + bytes;
  const size_t begin = shared_end, words = (bytes + 3) / 4;
  if (shared_bytes > allowed_shared_bytes || begin + bytes > shared_area_bytes || arrays.size() == 255)
    return nullptr;
  arrays.push_back({name, begin, bytes});
  std::memset(array_of + begin / 4, static_cast<int>(arrays.size()), words);
  std::memset(shared_area + begin, 0xff, bytes);
  shared_end = (begin + bytes + 2 * between_arrays - 1) / between_arrays * between_arrays;
  return shared_area + begin;
}

void begin_memory(size_t dynamic_bytes) {
  std::memset(array_of, 0, shared_end / 4);
  arrays.clear();
  shared_bytes = 0;
  shared_end = before_arrays;
  place_array("dynamic shared memory", dynamic_bytes);
}

std::vector<uint32_t> block_begins;  // of the running launch: the first interval of each block

// Of a large grid the blocks at both ends are watched: those between differ from them in nothing but their
// number.
constexpr uint64_t watched_blocks = 512;
bool is_watched(uint64_t block) {
  const uint64_t count = uint64_t(current.grid_dim.x) * current.grid_dim.y * current.grid_dim.z;
  return block < watched_blocks || block + watched_blocks >= count;
}

void run_block(size_t dynamic_bytes) {
  now.block = now.interval = ++intervals;
  now.watched = is_watched(block_begins.size());
  block_begins.push_back(now.block);
  begin_memory(dynamic_bytes);
  for (unsigned i = 0; i < total; ++i) {
    threads[i].state = State::fresh;
    threads[i].ready = nullptr;
  }
  for (unsigned i = 0; i * now.width < total; ++i) warps[i].meeting.arrived = 0;
  if (wanted_order == Order::shuffled) std::shuffle(sequence.begin(), sequence.end(), random_numbers);
  block_meeting.arrived = 0;
  started = finished = 0;
  failure.clear();
  start_fresh(scheduler);
  if (finished == total) return;
  for (unsigned i = 0; i < total; ++i)
    if (threads[i].state == State::waiting || threads[i].state == State::ready)
      stacks.give_back(threads[i].stack);
  if (failure.empty()) failure = fault_text();
  throw Error("simt: block " + block_name(now.block) + " of " + name_of(current.grid_dim) + ": " +
              (failure.empty() ? deadlock() : failure));
}

}  // namespace

// ---- what the check asks ---------------------------------------------------------------------------------

uintptr_t own_stack() {
  return reinterpret_cast<uintptr_t>(running_stack);
}

const Placed *placed_at(size_t offset) {
  const uint8_t number = array_of[offset / 4];
  return number == 0 ? nullptr : &arrays[number - 1];
}

void stop_block() {
  Thread &mine = threads[now.thread];
  if (mine.state != State::done) {
    mine.stack = running_stack;
    mine.state = State::waiting;
  }
  switch_to(mine.context, scheduler);
  std::abort();  // a stopped thread is not resumed
}

std::string thread_name(unsigned thread) {
  const dim3 &size = current.block_dim;
  return name_of(dim3(thread % size.x, thread / size.x % size.y, thread / (size.x * size.y)));
}

std::string block_name(uint32_t interval) {
  const auto after = std::upper_bound(block_begins.begin(), block_begins.end(), interval);
  const unsigned block = static_cast<unsigned>(after - block_begins.begin() - 1);
  const dim3 &size = current.grid_dim;
  return name_of(dim3(block % size.x, block / size.x % size.y, block / size.x / size.y));
}

// ---- what a kernel calls ---------------------------------------------------------------------------------

void *SharedArray::place() {
  if (block == now.block) return at;
  block = now.block;
  at = place_array(name, bytes);
  if (at == nullptr)
    fail("with " + std::string(name) + " the block uses " + std::to_string(shared_bytes) +
         " bytes of shared memory, but a block has " + std::to_string(allowed_shared_bytes));
  return at;
}

[[noreturn]] void fail(const std::string &message) {
  failure = message;
  stop_block();
}

void order_memory() {
  now.interval = ++intervals;
}

uint32_t block_number() {
  return now.block;
}

void wait_until(bool (*ready)(void *), void *what, const char *file, int line) {
  if (ready(what)) return;
  Thread &mine = threads[now.thread];
  mine.ready = ready;
  mine.what = what;
  suspend(false, file, line);
  mine.ready = nullptr;
}

void allow_shared(const void *function, size_t bytes) {
  const std::lock_guard<std::mutex> lock(asked_for);
  shared_bytes_of[function] = std::min(bytes, most_shared_bytes);
}

void set_order(Order order) {
  const std::lock_guard<std::mutex> lock(one_launch);
  wanted_order = order;
}

unsigned linear_thread() {
  return now.thread;
}

void *dynamic_shared() {
  return shared_area + before_arrays;
}

void block_barrier(const char *file, int line) {
  if (!arrive(block_meeting, total, "barriers", file, line)) return suspend(false, file, line);
  order_memory();
  release(0, total, false);
}

uint64_t exchange(uint64_t mine, unsigned source, const char *file, int line) {
  return meet(mine, source, false, file, line);
}

void warp_barrier(const char *file, int line) {
  meet(0, 0, true, file, line);
}

void check(const Launch &launch) {
  const dim3 grid = launch.grid, block = launch.block;
  const uint64_t per_block = threads_of(block);
  if (per_block == 0 || per_block > max_threads || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || block.z > 64)
    throw Error("simt: a grid of " + name_of(grid) + " blocks of " + name_of(block) +
                " threads is outside what devices run");
  const uintptr_t address = reinterpret_cast<uintptr_t>(launch.kernel.function);
  if (const uintptr_t bounds = address & (0 - address); per_block > bounds)
    throw Error("simt: blocks of " + std::to_string(per_block) +
                " threads, but no __launch_bounds__ of the kernel keep registers for so many");
  if (launch.dynamic_shared_bytes > shared_bytes_for(launch))
    throw Error("simt: " + std::to_string(launch.dynamic_shared_bytes) +
                " bytes of shared memory, but a block has " + std::to_string(shared_bytes_for(launch)));
  if (launch.warp_width < 1 || launch.warp_width > max_lanes)
    throw Error("simt: warps of " + std::to_string(launch.warp_width) + " lanes");
}

void run(const Launch &launch) {
  check(launch);
  const dim3 grid = launch.grid, block = launch.block;
  const size_t dynamic_shared_bytes = launch.dynamic_shared_bytes;
  const uint64_t per_block = threads_of(block);
  const std::lock_guard<std::mutex> lock(one_launch);
  allowed_shared_bytes = shared_bytes_for(launch);
  now.kernel = &launch.kernel;
  now.launch = intervals + 1;
  now.width = launch.warp_width;
  total = static_cast<unsigned>(per_block);
  block_begins.clear();
  check_launch();
  sequence.resize(total);
  std::iota(sequence.begin(), sequence.end(), 0u);
  if (wanted_order == Order::reverse) std::reverse(sequence.begin(), sequence.end());
  current.block_dim = block;
  current.grid_dim = grid;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        current.block = dim3(x, y, z);
        run_block(dynamic_shared_bytes);
      }
}

}  // namespace simt
