// simt/hopper.cpp -- Hopper's barriers, copies and products on the host executor, from the bits that the
// device reads: matrix descriptors, swizzles, registers of fragments. Chapters named are those of the PTX
// ISA.
//
// What is asynchronous happens as late as a device may let it: a product when somebody waits for it, a copy
// either at once or when somebody waits for its barrier. A tile that is given back or read too early so
// gives wrong numbers.
#include <hopper/primitives.hpp>  // which includes simt/hopper.hpp

#include <deque>
#include <utility>
#include <vector>

namespace simt::hopper {

namespace {

constexpr unsigned warpgroup = 128;
constexpr uint32_t system_bytes = 1024;  // of shared memory, before a block's own

// ---- state of a block ------------------------------------------------------------------------------------

struct Copy {
  char *shared;
  TensorMapImage map;
  uint64_t *barrier;
  int at[5];
};

struct Multiplication {
  Type type;
  int n;
  bool add;
  uint64_t a, b;
  float *d[warpgroup];
  const uint32_t *a_registers[warpgroup];  // NULL where A is in shared memory
  unsigned arrived = 0;
};

struct Warpgroup {
  std::deque<Multiplication> issued;  // all of them; the first `done` have been carried out
  size_t done = 0;
};

struct ProductThread {
  size_t issued = 0;
  std::vector<size_t> groups;  // how much was issued when each group was committed
  bool fenced = false;
};

struct NamedBarrier {
  int arrived = 0, threads = 0;
  unsigned generation = 0;
};

struct Block {
  uint32_t number = 0;
  std::vector<Copy> copies;  // that nobody waited for yet
  Warpgroup warpgroups[max_threads / warpgroup];
  ProductThread threads[max_threads];
  NamedBarrier named[16];
  uint32_t random = 1;
};

Block &block() {
  static Block state;
  if (state.number != block_number()) {
    state = Block();
    state.number = block_number();
    state.random = state.number * 2654435761u | 1;
  }
  return state;
}

// ---- "mbarrier": the object is opaque, and 64 bits -------------------------------------------------------

struct Barrier {
  static constexpr uint64_t most = (1 << 20) - 1;
  static constexpr int64_t zero_bytes = 1 << 22;

  uint64_t pending, arrivals;
  int64_t bytes;  // that are still to come; may be negative for a while
  unsigned phase;

  explicit Barrier(const uint64_t *object)
      : pending(*object & most),
        arrivals(*object >> 20 & most),
        bytes(int64_t(*object >> 40 & (2 * zero_bytes - 1)) - zero_bytes),
        phase(unsigned(*object >> 63)) {
    if (arrivals == 0 || arrivals == most || pending > arrivals) fail("a barrier that was not initialised");
  }
  Barrier(unsigned arrivals) : pending(arrivals), arrivals(arrivals), bytes(0), phase(0) {}

  void put(uint64_t *object) {
    if (pending == 0 && bytes == 0) {
      pending = arrivals;
      phase ^= 1;
    }
    *object = pending | arrivals << 20 | uint64_t(bytes + zero_bytes) << 40 | uint64_t(phase) << 63;
  }
};

// ---- "cp.async.bulk.tensor" ------------------------------------------------------------------------------

// Swizzle<3, 4, 3>: of an address in shared memory, bits 4-6 change with bits 7-9.
uint32_t swizzled(uint32_t address) {
  return address ^ (address >> 7 & 7) << 4;
}

char *in_shared(uint32_t address, uint32_t bytes) {
  if (address < system_bytes || address - system_bytes + bytes > most_shared_bytes)
    fail("shared memory at " + std::to_string(address) + ", which no block has");
  return static_cast<char *>(dynamic_shared()) + (address - system_bytes);
}

void carry_out(const Copy &copy) {
  const TensorMapImage &map = copy.map;
  const uint32_t begin = shared_address(copy.shared);
  uint32_t offset = 0;
  uint32_t i[5];
  for (i[4] = 0; i[4] < map.box[4]; ++i[4])
    for (i[3] = 0; i[3] < map.box[3]; ++i[3])
      for (i[2] = 0; i[2] < map.box[2]; ++i[2])
        for (i[1] = 0; i[1] < map.box[1]; ++i[1])
          for (i[0] = 0; i[0] < map.box[0]; ++i[0], offset += map.element_bytes) {
            const char *element = map.address;
            bool inside = true;
            for (int d = 0; d < 5; ++d) {
              const int64_t place = int64_t(copy.at[d]) + i[d];
              inside = inside && place >= 0 && place <= int64_t(map.sizes[d]);
              element += place * int64_t(d == 0 ? map.element_bytes : map.strides[d - 1]);
            }
            const uint32_t address = map.swizzle_bytes == 128 ? swizzled(begin + offset) : begin + offset;
            char *target = in_shared(address, map.element_bytes);
            if (inside)
              std::memcpy(target, element, map.element_bytes);
            else
              std::memset(target, 0, map.element_bytes);
          }
  Barrier barrier(copy.barrier);
  barrier.bytes -= offset;
  barrier.put(copy.barrier);
}

// ---- "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions" ------------------------------

float number(Type type, uint16_t bits) {
  uint32_t wide = uint32_t(bits) << 16;
  float value;
  if (type == Type::f16) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    value = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
            : exponent == 0 ? std::ldexp(float(fraction), -24)
                            : std::ldexp(float(1024 + fraction), exponent - 25);
    return bits >> 15 != 0 ? -value : value;
  }
  std::memcpy(&value, &wide, 4);
  return value;
}

// "Matrix Descriptor Format"
struct Descriptor {
  uint32_t start, leading, stride;

  explicit Descriptor(uint64_t bits)
      : start(uint32_t(bits & 0x3fff) << 4),
        leading(uint32_t(bits >> 16 & 0x3fff) << 4),
        stride(uint32_t(bits >> 32 & 0x3fff) << 4) {
    if (bits >> 62 != 1) fail("a matrix descriptor whose swizzle is not of 128 bytes");
    if ((bits & 0x3fffc000c000c000u) != 0) fail("a matrix descriptor with bits that must be 0");
  }

  float along_k(Type type, int row, int k) const {
    return at(type, uint32_t(row / 8) * stride + uint32_t(row % 8 * 128 + k * 2));
  }
  float along_n(Type type, int k, int n) const {
    return at(type,
              uint32_t(n / 64) * leading + uint32_t(k / 8) * stride + uint32_t(k % 8 * 128 + n % 64 * 2));
  }
  float at(Type type, uint32_t offset) const {
    uint16_t bits;
    std::memcpy(&bits, in_shared(swizzled(start + offset), 2), 2);
    return number(type, bits);
  }
};

// "Register Fragments for wgmma.mma_async.m64nNk16": the row of registers 2 r and 2 r + 1 of every four.
int row_of(unsigned thread, int r) {
  return int(thread / 32 * 16 + thread % 32 / 4) + 8 * r;
}
int column_of(unsigned thread) {
  return int(thread % 4 * 2);
}

void carry_out(const Multiplication &product) {
  const int n = product.n;
  std::vector<float> a(64 * 16), b(size_t(16 * n)), d(size_t(64 * n));
  const Descriptor second(product.b);
  if (product.a_registers[0] != nullptr) {
    for (unsigned t = 0; t < warpgroup; ++t)
      for (int i = 0; i < 4; ++i)
        for (int c = 0; c < 2; ++c)
          a[size_t(row_of(t, i % 2) * 16 + column_of(t) + i / 2 * 8 + c)] =
              number(product.type, uint16_t(product.a_registers[t][i] >> 16 * c));
    for (int k = 0; k < 16; ++k)
      for (int j = 0; j < n; ++j) b[size_t(k * n + j)] = second.along_n(product.type, k, j);
  } else {
    const Descriptor first(product.a);
    for (int k = 0; k < 16; ++k) {
      for (int i = 0; i < 64; ++i) a[size_t(i * 16 + k)] = first.along_k(product.type, i, k);
      for (int j = 0; j < n; ++j) b[size_t(k * n + j)] = second.along_k(product.type, j, k);
    }
  }
  for (int i = 0; i < 64; ++i)
    for (int k = 0; k < 16; ++k) {
      const float factor = a[size_t(i * 16 + k)];
      for (int j = 0; j < n; ++j) d[size_t(i * n + j)] += factor * b[size_t(k * n + j)];
    }
  for (unsigned t = 0; t < warpgroup; ++t)
    for (int i = 0; i < n / 2; ++i) {
      const float sum = d[size_t(row_of(t, i / 2 % 2) * n + i / 4 * 8 + column_of(t) + i % 2)];
      product.d[t][i] = product.add ? product.d[t][i] + sum : sum;
    }
}

}  // namespace

uint32_t shared_address(const void *shared) {
  return uint32_t(static_cast<const char *>(shared) - static_cast<const char *>(dynamic_shared())) +
         system_bytes;
}

void barrier_init(uint64_t *barrier, unsigned arrivals) {
  Barrier(arrivals).put(barrier);
}

void barrier_arrive(uint64_t *object, int64_t expected_bytes) {
  Barrier barrier(object);
  if (barrier.pending == 0) fail("more threads arrive at a barrier than it was initialised for");
  --barrier.pending;
  barrier.bytes += expected_bytes;
  barrier.put(object);
}

void barrier_wait(uint64_t *barrier, unsigned parity, const char *file, int line) {
  struct Wanted {
    uint64_t *barrier;
    unsigned parity;
  } wanted{barrier, parity};
  const auto ended = [](void *what) {
    const Wanted &wanted = *static_cast<Wanted *>(what);
    if (Barrier(wanted.barrier).phase != wanted.parity) return true;
    std::vector<Copy> &copies = block().copies;
    for (size_t i = 0; i < copies.size(); ++i)
      if (copies[i].barrier == wanted.barrier) {
        const Copy copy = copies[i];
        copies.erase(copies.begin() + std::ptrdiff_t(i--));
        carry_out(copy);
      }
    return Barrier(wanted.barrier).phase != wanted.parity;
  };
  wait_until(ended, &wanted, file, line);
}

void copy_box(void *shared, const TensorMapImage &map, uint64_t *barrier, const int (&at)[5]) {
  if (map.magic != TensorMapImage::magic_value || map.rank != 5) fail("a copy by what is no map of a tensor");
  if (shared_address(shared) % 128 != 0) fail("a copy to shared memory that is not aligned to 128 bytes");
  Copy copy{static_cast<char *>(shared), map, barrier, {at[0], at[1], at[2], at[3], at[4]}};
  uint32_t &random = block().random;
  random = random * 1664525u + 1013904223u;
  if (random >> 31 != 0)
    carry_out(copy);
  else
    block().copies.push_back(copy);
}

void named_arrive(int number, int threads, bool waits, const char *file, int line) {
  if (number < 1 || number > 15 || threads % 32 != 0) fail("a barrier by number that no device has");
  NamedBarrier &barrier = block().named[number];
  if (barrier.arrived > 0 && barrier.threads != threads)
    fail("threads come to barrier " + std::to_string(number) + " for different numbers of them");
  barrier.threads = threads;
  struct Wanted {
    NamedBarrier *barrier;
    unsigned generation;
  } wanted{&barrier, barrier.generation};
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
    order_memory();
  } else if (waits) {
    const auto ended = [](void *what) {
      return static_cast<Wanted *>(what)->barrier->generation != static_cast<Wanted *>(what)->generation;
    };
    wait_until(ended, &wanted, file, line);
  }
}

void product_fence() {
  block().threads[linear_thread()].fenced = true;
}

void product_commit() {
  ProductThread &mine = block().threads[linear_thread()];
  mine.groups.push_back(mine.issued);
}

void product(Type type, int n, float *d, const uint32_t *a_registers, uint64_t a, uint64_t b, bool add) {
  ProductThread &mine = block().threads[linear_thread()];
  if (!mine.fenced) fail("a product of registers that no fence was executed for");
  std::deque<Multiplication> &issued = block().warpgroups[linear_thread() / warpgroup].issued;
  const size_t index = mine.issued++;
  if (index == issued.size()) issued.push_back({type, n, add, a, b, {}, {}, 0});
  Multiplication &product = issued[index];
  if (product.type != type || product.n != n || product.add != add || product.a != a || product.b != b)
    fail("threads of a warpgroup issue different products");
  product.d[linear_thread() % warpgroup] = d;
  product.a_registers[linear_thread() % warpgroup] = a_registers;
  ++product.arrived;
  if (!add)
    for (int i = 0; i < n / 2; ++i) d[i] = NAN;  // until somebody waits
}

void product_wait(unsigned pending, const char *file, int line) {
  ProductThread &mine = block().threads[linear_thread()];
  mine.fenced = false;
  if (mine.groups.size() <= pending) return;
  struct Wanted {
    Warpgroup *warpgroup;
    size_t target;
    bool others_ran;
  } wanted{&block().warpgroups[linear_thread() / warpgroup], mine.groups[mine.groups.size() - 1 - pending],
           false};
  const auto issued = [](void *what) {
    Wanted &wanted = *static_cast<Wanted *>(what);
    if (!std::exchange(wanted.others_ran, true)) return false;  // who was given a tile may write to it first
    return wanted.target == 0 || wanted.warpgroup->issued[wanted.target - 1].arrived == warpgroup;
  };
  wait_until(issued, &wanted, file, line);
  for (; wanted.warpgroup->done < wanted.target; ++wanted.warpgroup->done)
    carry_out(wanted.warpgroup->issued[wanted.warpgroup->done]);
}

}  // namespace simt::hopper
