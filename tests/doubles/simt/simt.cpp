// simt.cpp -- the scheduler behind simt.hpp: fibers on pooled stacks, barriers, warps, and who waits for
// what. A thread starts on the stack of one that has returned, so that a kernel without barriers needs one
// stack and no switch; a thread that waits hands over directly to the next that can run.
#include "simt.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
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

namespace {

constexpr unsigned max_lanes = 128;
constexpr size_t stack_bytes = 128 << 10;

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

// Stacks are kept for ever: the next block needs as many. The lowest page of each faults when it overflows.
class Stacks {
 public:
  char *take() {
    if (unused.empty()) {
      const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
      void *memory = mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0)
        throw Error("simt: no memory for the stacks of a block's threads");
      return static_cast<char *>(memory) + page;
    }
    char *stack = unused.back();
    unused.pop_back();
    return stack;
  }
  void give_back(char *stack) { unused.push_back(stack); }

 private:
  std::vector<char *> unused;
};

enum class State : uint8_t { fresh, ready, waiting, done };

struct Thread {
  State state;
  bool in_warp_operation;
  const char *file;  // where it waits
  int line;
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
std::vector<Thread> threads(max_threads);
std::vector<Warp> warps(max_threads);
std::vector<unsigned> sequence;  // position -> linear thread index
Order wanted_order = [] {
  const char *text = std::getenv("SIMT_ORDER");
  const std::string name = text == nullptr ? "" : text;
  return name == "reverse" ? Order::reverse : name == "shuffled" ? Order::shuffled : Order::forward;
}();
std::mt19937 random_numbers(20240229);

const Kernel *body;
Context scheduler;
char *running_stack;
unsigned running, position, started, finished, total, width;  // of the current block
Rendezvous block_meeting;
std::string failure;
SharedBase *shared_list;
alignas(256) char dynamic_memory[max_shared_bytes];

std::string place(const char *file, int line) {
  const std::string path = file;
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(line);
}

std::string name_of(const dim3 &at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

void enter(unsigned thread) {
  running = thread;
  const dim3 &size = current.block_dim;
  current.thread = dim3(thread % size.x, thread / size.x % size.y, thread / (size.x * size.y));
}

// The next suspended thread, in cyclic order, that may go on; total when there is none.
unsigned next_ready() {
  for (unsigned step = 0; step < total; ++step) {
    if (++position >= total) position = 0;
    if (threads[sequence[position]].state == State::ready) return sequence[position];
  }
  return total;
}

void fiber() {
  for (;;) {
    (*body)();
    threads[running].state = State::done;
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
  Thread &mine = threads[running];
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

void fail(const std::string &message) {
  failure = message;
  threads[running].stack = running_stack;
  threads[running].state = State::waiting;
  switch_to(threads[running].context, scheduler);
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
    if (threads[i].state == State::waiting && threads[i].in_warp_operation == of_warp)
      threads[i].state = State::ready;
}

unsigned lanes_of(unsigned warp) {
  const unsigned rest = total - warp * width;
  return rest < width ? rest : width;
}

std::string deadlock() {
  if (!failure.empty()) return failure;
  for (unsigned i = 0; i < total; ++i)
    if (threads[i].state == State::waiting) {
      std::string text = "deadlock: thread " + std::to_string(i) + " waits at " +
                         place(threads[i].file, threads[i].line) + " for threads that never come there";
      if (finished > 0)
        text += "; " + std::to_string(finished) + " of " + std::to_string(total) + " returned";
      return text;
    }
  return "deadlock";
}

}  // namespace

// Fills the memory of a block with what no kernel may rely on: NaNs, and integers out of any range.
struct Poison {
  explicit Poison(size_t dynamic_bytes) {
    std::memset(dynamic_memory, 0xff, dynamic_bytes);
    for (SharedBase *shared = shared_list; shared != nullptr; shared = shared->next)
      std::memset(shared->memory, 0xff, shared->bytes);
  }
};

namespace {

void run_block(size_t dynamic_bytes) {
  const Poison poison(dynamic_bytes);
  for (unsigned i = 0; i < total; ++i) threads[i].state = State::fresh;
  for (unsigned i = 0; i * width < total; ++i) warps[i].meeting.arrived = 0;
  if (wanted_order == Order::shuffled) std::shuffle(sequence.begin(), sequence.end(), random_numbers);
  block_meeting.arrived = 0;
  started = finished = 0;
  failure.clear();
  start_fresh(scheduler);
  if (finished == total) return;
  for (unsigned i = 0; i < total; ++i)
    if (threads[i].state == State::waiting || threads[i].state == State::ready)
      stacks.give_back(threads[i].stack);
  throw Error("simt: block " + name_of(current.block) + " of " + name_of(current.grid_dim) + ": " +
              deadlock());
}

}  // namespace

SharedBase::SharedBase(void *memory, size_t bytes) : memory(memory), bytes(bytes), next(shared_list) {
  shared_list = this;
  std::memset(memory, 0xff, bytes);
}

void set_order(Order order) {
  const std::lock_guard<std::mutex> lock(one_launch);
  wanted_order = order;
}

unsigned linear_thread() {
  return running;
}

void *dynamic_shared() {
  return dynamic_memory;
}

void block_barrier(const char *file, int line) {
  if (!arrive(block_meeting, total, "barriers", file, line)) return suspend(false, file, line);
  release(0, total, false);
}

const uint64_t *exchange(uint64_t mine, unsigned *lanes, const char *file, int line) {
  const unsigned index = running / width;
  Warp &warp = warps[index];
  const uint64_t *all = warp.lanes[warp.generation & 1];
  *lanes = lanes_of(index);
  warp.lanes[warp.generation & 1][running % width] = mine;
  if (arrive(warp.meeting, *lanes, "warp operations", file, line)) {
    ++warp.generation;
    release(index * width, *lanes, true);
  } else {
    suspend(true, file, line);
  }
  return all;
}

void run(const Launch &launch) {
  const dim3 grid = launch.grid, block = launch.block;
  const size_t dynamic_shared_bytes = launch.dynamic_shared_bytes;
  const uint64_t per_block = uint64_t(block.x) * block.y * block.z;
  if (per_block == 0 || per_block > max_threads || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || block.z > 64)
    throw Error("simt: a grid of " + name_of(grid) + " blocks of " + name_of(block) +
                " threads is outside what devices run");
  if (dynamic_shared_bytes > max_shared_bytes)
    throw Error("simt: " + std::to_string(dynamic_shared_bytes) +
                " bytes of shared memory, but a block has " + std::to_string(max_shared_bytes));
  if (launch.warp_width < 1 || launch.warp_width > max_lanes)
    throw Error("simt: warps of " + std::to_string(launch.warp_width) + " lanes");
  const std::lock_guard<std::mutex> lock(one_launch);
  body = &launch.kernel;
  total = static_cast<unsigned>(per_block);
  width = launch.warp_width;
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
