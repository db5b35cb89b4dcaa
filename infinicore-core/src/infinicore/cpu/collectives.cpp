// collectives.cpp -- the collectives table of the CPU backend: ranks are threads of a process or processes of
// a host, and meet in one shared segment.
//
// A collective is a sequence of rounds: in each, a rank writes what others need into its slab, publishes the
// round, waits until everybody has, and reads their slabs. A rank has two slabs that take turns: when all
// have published a round, all are done reading the one before, so one wait per round is enough. Large arrays
// go through in pieces that stay in the cache; a rank reduces its slice of each piece from all slabs, and
// hands the result out with the next round. Threads of one process use each other's arrays instead of slabs.
// send and receive stream through a ring per pair of ranks.
//
// Whoever waits asks every 50 ms whether the process it waits for is alive. A failure breaks the communicator
// for all ranks, with the number of the rank at fault.
#include "collectives.hpp"

#include "fold.hpp"
#include "runtime.hpp"
#include "shared_memory.hpp"
#include "stream.hpp"

#include <infinicore/timeout.hpp>
#include <sched.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// kernels/fold.cpp, once per instruction set; weak, since the backend can be built without kernels.
#define X(isa)                                                                                               \
  namespace infini::cpu::isa {                                                                               \
  __attribute__((weak, visibility("hidden"))) void fold_ranks(const char *const *, int64_t, char *, int64_t, \
                                                              int32_t, infinicclReduceOp_t);                 \
  }
INFINI_CPU_ISAS
#undef X

namespace infini::cpu {

namespace {

using Clock = std::chrono::steady_clock;
using INFINI_ISA::dtype_name;
using INFINI_ISA::dtype_size;

constexpr uint32_t kLayout = 1;  // of a segment; another one is another version of this file
constexpr int32_t kMaxRanks = 64;
constexpr size_t kMaxName = 120;                 // a unique id, as small as the smallest vendor's
constexpr uint64_t kPiece = 64 << 10;            // bytes that a rank reduces per round, at most
constexpr uint64_t kSlabs = uint64_t(32) << 20;  // bytes of all slabs, at most
constexpr uint64_t kRing = 256 << 10;            // bytes of a ring, at most
constexpr uint64_t kRings = uint64_t(16) << 20;
constexpr uint64_t kSmall = 64 << 10;  // bytes of all ranks together that every rank reduces for itself
constexpr uint64_t kLine = 64, kPage = 4096;
constexpr int kSpins = 400, kYields = 40;
constexpr auto kPulse = std::chrono::milliseconds(50);

void fold(const char *const *sources, int64_t ranks, char *target, uint64_t count, int32_t dtype,
          infinicclReduceOp_t op) {
  using Fold = void (*)(const char *const *, int64_t, char *, int64_t, int32_t, infinicclReduceOp_t);
  static const Fold chosen = [] {
    Fold best = nullptr;
#define X(isa) \
  if (std::strcmp(instruction_set, #isa) == 0) best = infini::cpu::isa::fold_ranks;
    INFINI_CPU_ISAS
#undef X
    return best != nullptr ? best : Fold(INFINI_ISA::fold);
  }();
  if (count > 0) chosen(sources, ranks, target, int64_t(count), dtype, op);
}

std::string timeout_text() {
  char text[32];
  std::snprintf(text, sizeof(text), "%g s", std::chrono::duration<double>(ccl_timeout()).count());
  return text;
}

uint64_t round_up(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

std::string rank_text(int32_t rank) {
  return "rank " + std::to_string(rank);
}

// ---- calls --------------------------------------------------------------------------------------------

enum class Kind : int32_t {
  all_reduce,
  reduce,
  broadcast,
  all_gather,
  reduce_scatter,
  all_to_all,
  barrier,
  send,
  receive
};

constexpr const char *kNames[] = {"all_reduce", "reduce",  "broadcast", "all_gather", "reduce_scatter",
                                  "all_to_all", "barrier", "send",      "receive"};

// What a rank asks for. Counts are elements: one, or one per rank where the ranks' shares may differ.
struct Part {
  Kind kind;
  const char *send = nullptr;
  char *receive = nullptr;
  std::vector<uint64_t> counts = {};
  int32_t dtype = INFINI_DTYPE_BYTE;
  infinicclReduceOp_t op = INFINICCL_SUM;
  int32_t other = 0;  // root, or the peer of send and receive

  const char *name() const { return kNames[int32_t(kind)]; }
  bool pair() const { return kind == Kind::send || kind == Kind::receive; }
  uint64_t width() const { return uint64_t(dtype_size(dtype)); }
  uint64_t total() const { return std::accumulate(counts.begin(), counts.end(), uint64_t(0)); }
};

// The same as the other ranks see it: they compare it before they use what came with it.
struct Notice {
  int32_t kind, dtype, op, other;
  uint64_t count, shares;  // shares: a hash of the counts, where there are several
  const char *send;        // these two for threads of the same process
  char *receive;
};

Notice notice_of(const Part &part) {
  uint64_t hash = 14695981039346656037u;
  for (const uint64_t count : part.counts) hash = (hash ^ count) * 1099511628211u;
  return {int32_t(part.kind), part.dtype, int32_t(part.op), part.other,
          part.total(),       hash,       part.send,        part.receive};
}

// ---- what the ranks share -------------------------------------------------------------------------------

enum : uint32_t { FREE = 0, JOINED = 1, LEFT = 2 };

struct alignas(64) Seat {
  // Others read these two to wake the rank.
  std::atomic<uint32_t> bell;    // a futex: counts what happened that the rank may be waiting for
  std::atomic<uint32_t> asleep;  // whether anybody must ring
  std::atomic<uint32_t> state;
  int32_t process;
  uint64_t token;
  alignas(64) std::atomic<uint32_t> round;  // published so far
  Notice notices[2];                        // of the collective that began with a round, by its parity
};

// Bytes that were written to and read from the ring of a sender and a receiver; they wrap around.
struct Ring {
  alignas(64) std::atomic<uint32_t> written;
  alignas(64) std::atomic<uint32_t> read;
};

struct Header {
  uint32_t layout;
  int32_t ranks;
  std::atomic<uint32_t> joined;
  std::atomic<uint32_t> broken;  // 0: no, 1: the reason is being written, 2: yes
  int32_t culprit;
  int32_t status;
  char reason[488];
};

struct Geometry {
  uint64_t piece, slab, ring;                    // bytes
  uint64_t seats, rings, slabs, buffers, bytes;  // offsets; the size of the segment

  explicit Geometry(int32_t ranks) {
    const uint64_t n = uint64_t(ranks);
    piece = std::min(kPiece, std::max(kPage, kSlabs / (2 * n * (n + 1)) / kPage * kPage));
    slab = (n + 1) * piece;
    ring = kPage;
    while (ring < kRing && 2 * ring * n * n <= kRings) ring *= 2;  // a power of two: positions wrap around
    seats = round_up(sizeof(Header), kLine);
    rings = seats + n * sizeof(Seat);
    slabs = round_up(rings + n * n * sizeof(Ring), kPage);
    buffers = slabs + 2 * n * slab;
    bytes = buffers + n * n * ring;
  }
};

// Before the elements of a message.
struct Envelope {
  uint64_t count;
  int32_t dtype;
  int32_t unused;
};

// One send or receive on its way.
struct Transfer {
  Part part;
  uint64_t moved = 0;  // bytes, the envelope's included
  bool done = false;
};

// ---- a rank ----------------------------------------------------------------------------------------------

// What infinicclComm_t points at.
class Communicator {
 public:
  Communicator(std::shared_ptr<Segment> segment, int32_t ranks, int32_t rank)
      : ranks(ranks), rank(rank), segment(std::move(segment)), geometry(ranks) {}

  const int32_t ranks, rank;

  static void initialise(Segment &segment, int32_t ranks) {
    auto header = reinterpret_cast<Header *>(segment.data);
    header->layout = kLayout;
    header->ranks = ranks;
  }

  // Take the seat. `wait`: until all others have taken theirs.
  void join(bool wait) {
    if (header().layout != kLayout)
      throw Error(INFINI_STATUS_BAD_PARAM, "init_rank: another rank runs another version of infinicore");
    if (header().ranks != ranks)
      throw Error(INFINI_STATUS_BAD_PARAM, "init_rank: " + std::to_string(ranks) +
                                               " ranks, but another rank said " +
                                               std::to_string(header().ranks));
    Seat &seat = seat_of(rank);
    uint32_t expected = FREE;
    const bool claimed = segment->claim(rank);
    if (claimed && seat.state.load() == FREE) {
      seat.process = getpid();
      seat.token = process_token();
    }
    if (!claimed || !seat.state.compare_exchange_strong(expected, JOINED))
      throw Error(INFINI_STATUS_BAD_PARAM, "init_rank: " + rank_text(rank) + " joined twice");
    header().joined.fetch_add(1);
    ring_all();
    if (!wait) return;  // the others are threads of this process
    try {
      await("init_rank", [&] {
        for (int32_t peer = 0; peer < ranks; ++peer)
          if (seat_of(peer).state.load() == FREE) return peer;
        return -1;
      });
    } catch (...) {
      segment->unlink();
      throw;
    }
    segment->unlink();
    for (int32_t peer = 0; peer < ranks; ++peer) together &= seat_of(peer).token == process_token();
  }

  void leave() {
    if (foreign()) return;  // a forked child: the seat is its parent's
    seat_of(rank).state.store(LEFT);
    ring_all();
    segment->release(rank);
  }

  // Run calls in order; a send or receive also goes on while a later one, or a collective, waits.
  void run(std::vector<Part> parts) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (foreign())
      throw Error(INFINI_STATUS_BAD_PARAM, std::string(parts[0].name()) + ": the communicator of " +
                                               rank_text(rank) + " was made before this process was forked");
    check_broken(parts[0].name());
    transfers.clear();
    const bool single = parts.size() == 1;
    for (Part &part : parts)
      if (part.pair()) transfers.push_back({part});
    try {
      for (const Part &part : parts)
        if (!part.pair()) collect(part);
      if (!transfers.empty())
        await(single ? parts[0].name() : "group_end", [&] {
          progress();
          for (const Transfer &transfer : transfers)
            if (!transfer.done) return transfer.part.other;
          return -1;
        });
    } catch (...) {
      transfers.clear();
      throw;
    }
    transfers.clear();
  }

 private:
  // ---- the segment ----

  Header &header() const { return *reinterpret_cast<Header *>(segment->data); }
  Seat &seat_of(int32_t of) const { return reinterpret_cast<Seat *>(segment->data + geometry.seats)[of]; }
  size_t pair_index(int32_t sender, int32_t receiver) const {
    return size_t(sender) * size_t(ranks) + size_t(receiver);
  }
  Ring &ring_of(int32_t sender, int32_t receiver) const {
    return reinterpret_cast<Ring *>(segment->data + geometry.rings)[pair_index(sender, receiver)];
  }
  char *buffer_of(int32_t sender, int32_t receiver) const {
    return segment->data + geometry.buffers + pair_index(sender, receiver) * geometry.ring;
  }
  char *slab_of(int32_t of, uint32_t in_round) const {
    return segment->data + geometry.slabs + (2 * size_t(of) + in_round % 2) * geometry.slab;
  }
  bool foreign() const { return seat_of(rank).token != process_token(); }

  // ---- waiting ----

  void ring(int32_t peer) {
    Seat &seat = seat_of(peer);
    if (seat.asleep.load() == 0) return;
    seat.bell.fetch_add(1);
    futex_wake(seat.bell);
  }

  // After something was stored: everybody who sleeps looks again.
  void ring_all() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (int32_t peer = 0; peer < ranks; ++peer)
      if (peer != rank) ring(peer);
  }

  // Wait until missing() is -1; before, it is the rank that is waited for.
  template <class Missing> void await(const char *what, Missing missing) {
    for (int i = 0; i < kSpins; ++i) {
      if (missing() < 0) return;
      relax();
    }
    for (int i = 0; i < kYields; ++i) {
      if (missing() < 0) return;
      sched_yield();
    }
    Seat &own = seat_of(rank);
    uint64_t seen = moved;
    auto deadline = Clock::now() + ccl_timeout(), pulse = Clock::now() + kPulse;
    for (;;) {
      const uint32_t bell = own.bell.load();
      own.asleep.store(1);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      int32_t peer = missing();
      if (peer >= 0 && header().broken.load() == 0) futex_wait(own.bell, bell, kPulse.count());
      own.asleep.store(0);
      if (peer < 0 || (peer = missing()) < 0) return;
      check_broken(what);
      const auto now = Clock::now();
      if (now < pulse) continue;
      pulse = now + kPulse;
      if (interrupted()) break_off(what, INFINI_STATUS_PEER_FAILED, rank, "was interrupted");
      const std::string end = end_of(peer);
      if (missing() != peer) continue;  // it came just before it went
      if (!end.empty()) break_off(what, INFINI_STATUS_PEER_FAILED, peer, end);
      if (std::exchange(seen, moved) != moved) deadline = now + ccl_timeout();
      if (now > deadline)
        break_off(what, INFINI_STATUS_TIMEOUT, peer, "did not come within " + timeout_text());
    }
  }

  // How a rank ended; empty while it is there, or is yet to come.
  std::string end_of(int32_t peer) const {
    const Seat &seat = seat_of(peer);
    const uint32_t state = seat.state.load();
    if (state == LEFT) return "destroyed its communicator";
    if (state == FREE || seat.token == process_token() || segment->claimed_elsewhere(peer)) return "";
    return "ended (process " + std::to_string(seat.process) + ")";
  }

  // Tell all ranks, and this one.
  [[noreturn]] void break_off(const char *what, infiniStatus_t status, int32_t culprit,
                              const std::string &reason) {
    uint32_t expected = 0;
    if (header().broken.compare_exchange_strong(expected, 1)) {
      header().culprit = culprit;
      header().status = status;
      std::snprintf(header().reason, sizeof(header().reason), "%s", reason.c_str());
      header().broken.store(2);
      ring_all();
    }
    throw Error(status, std::string(what) + ": " + rank_text(culprit) + " " + reason);
  }

  void check_broken(const char *what) const {
    if (header().broken.load() == 0) return;
    for (int i = 0; i < 1000 && header().broken.load() != 2; ++i) sched_yield();
    if (header().broken.load() != 2)
      throw Error(INFINI_STATUS_PEER_FAILED, std::string(what) + ": another rank failed");
    const bool late = header().status == INFINI_STATUS_TIMEOUT;
    throw Error(late ? INFINI_STATUS_TIMEOUT : INFINI_STATUS_PEER_FAILED,
                std::string(what) + ": " + rank_text(header().culprit) + " " + header().reason);
  }

  // ---- rounds ----

  void publish() {
    seat_of(rank).round.store(++round, std::memory_order_release);
    ring_all();
  }

  void await_round(const char *what) {
    await(what, [&] {
      progress();
      for (int32_t peer = 0; peer < ranks; ++peer)
        if (int32_t(seat_of(peer).round.load(std::memory_order_acquire) - round) < 0) return peer;
      return -1;
    });
  }

  // `count` rounds (at least one): fill(k) writes slab_of(rank, round + 1), drain(k) reads slab_of(peer,
  // round).
  template <class Fill, class Drain> void rounds(const Part &part, uint64_t count, Fill fill, Drain drain) {
    for (uint64_t k = 0; k < std::max<uint64_t>(count, 1); ++k) {
      if (k < count) fill(k);
      if (k == 0) seat_of(rank).notices[(round + 1) % 2] = notice_of(part);
      publish();
      await_round(part.name());
      if (k == 0) compare_notices();
      if (k < count) drain(k);
    }
  }

  // All ranks come to the same verdict and none has used another's data, so the communicator stays usable.
  void compare_notices() const {
    const Notice &first = seat_of(0).notices[round % 2];
    for (int32_t peer = 1; peer < ranks; ++peer) {
      const Notice &notice = seat_of(peer).notices[round % 2];
      std::string ours, theirs;
      const char *what = nullptr;
      const auto differ = [&](const char *which, std::string a, std::string b) {
        if (what == nullptr && a != b) what = which, ours = std::move(a), theirs = std::move(b);
      };
      differ("operation", kNames[first.kind], kNames[notice.kind]);
      differ("dtype", dtype_name(first.dtype), dtype_name(notice.dtype));
      differ("count", std::to_string(first.count), std::to_string(notice.count));
      differ("hash of the counts", std::to_string(first.shares), std::to_string(notice.shares));
      static constexpr const char *ops[] = {"sum", "prod", "max", "min", "avg"};
      differ("reduction", ops[first.op], ops[notice.op]);
      differ("root", std::to_string(first.other), std::to_string(notice.other));
      if (what != nullptr)
        throw Error(INFINI_STATUS_BAD_PARAM, std::string(kNames[seat_of(rank).notices[round % 2].kind]) +
                                                 ": " + what + " is " + ours + " on rank 0 and " + theirs +
                                                 " on " + rank_text(peer));
    }
  }

  // ---- collectives ----

  struct Slice {
    uint64_t start, count;  // elements

    // Its k-th piece.
    Slice piece(uint64_t k, uint64_t most) const {
      const uint64_t from = std::min(count, k * most);
      return {start + from, std::min(most, count - from)};
    }
  };

  static uint64_t pieces(const std::vector<Slice> &slices, uint64_t most) {
    uint64_t longest = 0;
    for (const Slice &slice : slices) longest = std::max(longest, slice.count);
    return (longest + most - 1) / most;
  }

  // One slice per rank, as long as its count.
  static std::vector<Slice> slices_of(const std::vector<uint64_t> &counts) {
    std::vector<Slice> slices;
    uint64_t start = 0;
    for (const uint64_t count : counts) {
      slices.push_back({start, count});
      start += count;
    }
    return slices;
  }

  // One slice per rank, of about the same length; bounds are whole cache lines of the narrowest dtype.
  std::vector<Slice> even_slices(uint64_t count) const {
    std::vector<uint64_t> counts;
    const uint64_t share = round_up((count + uint64_t(ranks) - 1) / uint64_t(ranks), kLine);
    for (uint64_t left = count; counts.size() < size_t(ranks); left -= counts.back())
      counts.push_back(std::min(share, left));
    return slices_of(counts);
  }

  static void put(char *target, const char *source, uint64_t bytes, bool stream = false) {
    if (bytes == 0 || target == source) return;
    if (stream)
      INFINI_ISA::stream_copy(target, source, int64_t(bytes));
    else
      std::memmove(target, source, bytes);
  }

  void collect(const Part &part) {
    const bool small = part.total() * part.width() * uint64_t(ranks) <= std::min(kSmall, geometry.slab);
    switch (part.kind) {
      case Kind::all_reduce:
      case Kind::reduce:
        if (small) return reduce_small(part);
        return together ? reduce_directly(part, even_slices(part.counts[0]), true)
                        : reduce_large(part, even_slices(part.counts[0]), true);
      case Kind::reduce_scatter:
        return together && !small ? reduce_directly(part, slices_of(part.counts), false)
                                  : reduce_large(part, slices_of(part.counts), false);
      case Kind::broadcast:
        return together && !small ? broadcast_directly(part) : broadcast(part);
      case Kind::all_gather:
        return together && !small ? all_gather_directly(part) : all_gather(part);
      case Kind::all_to_all:
        return all_to_all(part);
      default:
        return rounds(
            part, 0, [](uint64_t) {}, [](uint64_t) {});
    }
  }

  // Everybody reduces everything: one round, which is what matters here.
  void reduce_small(const Part &part) {
    const uint64_t bytes = part.counts[0] * part.width();
    rounds(
        part, 1, [&](uint64_t) { put(slab_of(rank, round + 1), part.send, bytes); },
        [&](uint64_t) {
          if (part.kind == Kind::reduce && rank != part.other) return;
          std::vector<const char *> sources;
          for (int32_t peer = 0; peer < ranks; ++peer) sources.push_back(slab_of(peer, round));
          fold(sources.data(), ranks, part.receive, part.counts[0], part.dtype, part.op);
        });
  }

  // A rank reduces its slice piece by piece. With `gather` the others get it, in the round after.
  void reduce_large(const Part &part, const std::vector<Slice> &slices, bool gather) {
    const uint64_t width = part.width(), most = geometry.piece / width, count = pieces(slices, most);
    const bool receives = part.kind != Kind::reduce || rank == part.other;
    const bool stream = streams(part, gather ? part.counts[0] : slices[size_t(rank)].count);
    // A slab holds a piece for every rank, then the reduced piece of the round before.
    const auto place = [&](int32_t peer, uint32_t in_round, int32_t which) {
      return slab_of(peer, in_round) + uint64_t(which) * geometry.piece;
    };
    std::vector<const char *> sources(size_t(ranks), nullptr);
    const auto fill = [&](uint64_t k) {
      for (int32_t peer = 0; peer < ranks; ++peer) {
        if (peer == rank) continue;
        const Slice piece = slices[size_t(peer)].piece(k, most);
        put(place(rank, round + 1, peer), part.send + piece.start * width, piece.count * width);
      }
    };
    const auto drain = [&](uint64_t k) {
      const Slice own = slices[size_t(rank)].piece(k, most);
      for (int32_t peer = 0; peer < ranks; ++peer)
        sources[size_t(peer)] = peer == rank ? part.send + own.start * width : place(peer, round, rank);
      char *target = gather ? place(rank, round + 1, ranks) : part.receive + k * most * width;
      fold(sources.data(), ranks, target, own.count, part.dtype, part.op);
      if (gather && receives) put(part.receive + own.start * width, target, own.count * width, stream);
      if (!gather || !receives || k == 0) return;
      for (int32_t peer = 0; peer < ranks; ++peer) {
        const Slice piece = slices[size_t(peer)].piece(k - 1, most);
        if (peer != rank)
          put(part.receive + piece.start * width, place(peer, round, ranks), piece.count * width, stream);
      }
    };
    rounds(part, count + (gather && count > 0), fill, drain);
    if (stream) INFINI_ISA::stream_fence();
  }

  // Results too large to be found in a cache afterwards bypass it, unless they overwrite what was just read.
  static bool streams(const Part &part, uint64_t count) {
    return count * part.width() >= uint64_t(INFINI_ISA::kStreamBytes) && part.receive != part.send;
  }

  void broadcast(const Part &part) {
    const uint64_t width = part.width(), most = geometry.slab / 2 / width;
    const std::vector<Slice> whole = {{0, part.counts[0]}};
    const bool stream = streams(part, part.counts[0]);
    const auto fill = [&](uint64_t k) {
      if (rank != part.other) return;
      const Slice piece = whole[0].piece(k, most);
      put(slab_of(rank, round + 1), part.send + piece.start * width, piece.count * width);
    };
    const auto drain = [&](uint64_t k) {
      const Slice piece = whole[0].piece(k, most);
      const char *source = rank == part.other ? part.send + piece.start * width : slab_of(part.other, round);
      put(part.receive + piece.start * width, source, piece.count * width, stream);
    };
    rounds(part, pieces(whole, most), fill, drain);
    if (stream) INFINI_ISA::stream_fence();
  }

  void all_gather(const Part &part) {
    const uint64_t width = part.width(), most = geometry.slab / 2 / width;
    const std::vector<Slice> slices = slices_of(part.counts);
    const bool stream = streams(part, part.total());
    const auto fill = [&](uint64_t k) {
      const Slice piece = slices[size_t(rank)].piece(k, most);
      put(slab_of(rank, round + 1), part.send + k * most * width, piece.count * width);
    };
    const auto drain = [&](uint64_t k) {
      for (int32_t peer = 0; peer < ranks; ++peer) {
        const Slice piece = slices[size_t(peer)].piece(k, most);
        put(part.receive + piece.start * width, slab_of(peer, round), piece.count * width, stream);
      }
    };
    rounds(part, pieces(slices, most), fill, drain);
    if (stream) INFINI_ISA::stream_fence();
  }

  void all_to_all(const Part &part) {
    const uint64_t width = part.width(), most = geometry.piece / width;
    const std::vector<Slice> slices = slices_of(std::vector<uint64_t>(size_t(ranks), part.counts[0]));
    const auto fill = [&](uint64_t k) {
      for (int32_t peer = 0; peer < ranks; ++peer) {
        const Slice piece = slices[size_t(peer)].piece(k, most);
        put(slab_of(rank, round + 1) + uint64_t(peer) * geometry.piece, part.send + piece.start * width,
            piece.count * width);
      }
    };
    const auto drain = [&](uint64_t k) {
      for (int32_t peer = 0; peer < ranks; ++peer) {
        const Slice piece = slices[size_t(peer)].piece(k, most);
        put(part.receive + piece.start * width, slab_of(peer, round) + uint64_t(rank) * geometry.piece,
            piece.count * width);
      }
    };
    rounds(part, pieces(slices, most), fill, drain);
  }

  // ---- the same between threads, which reach each other's arrays ----

  // A round before, so that all arrays are there; one after, so that nobody lets go of one that is in use.
  // What one rank writes into another's array is what no other rank reads from it.
  template <class Work> void directly(const Part &part, Work work) {
    rounds(
        part, 0, [](uint64_t) {}, [](uint64_t) {});
    const uint32_t parity = round % 2;
    work([&](int32_t peer) -> const Notice & { return seat_of(peer).notices[parity]; });
    publish();
    await_round(part.name());
  }

  void reduce_directly(const Part &part, const std::vector<Slice> &slices, bool gather) {
    const uint64_t width = part.width(), most = geometry.piece / width;
    const Slice own = slices[size_t(rank)];
    const bool stream = gather && streams(part, part.counts[0]);
    directly(part, [&](auto notice) {
      std::vector<const char *> sources(size_t(ranks), nullptr);
      for (uint64_t k = 0; k * most < own.count; ++k) {
        const Slice piece = own.piece(k, most);
        for (int32_t peer = 0; peer < ranks; ++peer)
          sources[size_t(peer)] = notice(peer).send + piece.start * width;
        // Of reduce only the root has an array to receive with, so that the result goes there at once.
        const int32_t home = part.kind == Kind::reduce ? part.other : rank;
        char *target = notice(home).receive + (gather ? piece.start : k * most) * width;
        fold(sources.data(), ranks, target, piece.count, part.dtype, part.op);
        if (part.kind != Kind::all_reduce) continue;
        for (int32_t peer = 0; peer < ranks; ++peer)
          if (peer != rank)
            put(notice(peer).receive + piece.start * width, target, piece.count * width, stream);
      }
      if (stream) INFINI_ISA::stream_fence();
    });
  }

  void broadcast_directly(const Part &part) {
    const uint64_t bytes = part.counts[0] * part.width();
    directly(part, [&](auto notice) {
      put(part.receive, notice(part.other).send, bytes, streams(part, part.counts[0]));
      INFINI_ISA::stream_fence();
    });
  }

  void all_gather_directly(const Part &part) {
    const uint64_t width = part.width();
    const std::vector<Slice> slices = slices_of(part.counts);
    directly(part, [&](auto notice) {
      for (int32_t peer = 0; peer < ranks; ++peer) {
        const Slice slice = slices[size_t(peer)];
        put(part.receive + slice.start * width, notice(peer).send, slice.count * width,
            streams(part, slice.count));
      }
      INFINI_ISA::stream_fence();
    });
  }

  // ---- send and receive ----

  // Move what can be moved now. Of several transfers between the same ranks the first comes first.
  void progress() {
    if (transfers.empty()) return;
    for (uint64_t before = moved - 1; before != moved;) {  // a rank may wait for itself
      before = moved;
      busy.clear();
      for (Transfer &transfer : transfers) {
        const std::pair<Kind, int32_t> way = {transfer.part.kind, transfer.part.other};
        if (transfer.done || std::find(busy.begin(), busy.end(), way) != busy.end()) continue;
        if (transfer.part.kind == Kind::send)
          push(transfer);
        else
          pull(transfer);
        if (!transfer.done) busy.push_back(way);
      }
    }
  }

  // Copy between the ring of a pair, at a position, and `bytes` of memory.
  template <class Copy> void at_ring(uint32_t position, uint64_t bytes, Copy copy) const {
    const uint64_t offset = position % geometry.ring, head = std::min(bytes, geometry.ring - offset);
    if (head > 0) copy(offset, uint64_t(0), head);
    if (bytes > head) copy(uint64_t(0), head, bytes - head);
  }

  void push(Transfer &transfer) {
    const int32_t peer = transfer.part.other;
    Ring &ring_ = ring_of(rank, peer);
    char *buffer = buffer_of(rank, peer);
    uint32_t position = ring_.written.load(std::memory_order_relaxed);
    const auto write = [&](const void *source, uint64_t bytes) {
      at_ring(position, bytes, [&](uint64_t to, uint64_t from, uint64_t size) {
        std::memcpy(buffer + to, static_cast<const char *>(source) + from, size);
      });
      position += uint32_t(bytes);
      transfer.moved += bytes;
      moved += bytes;
    };
    uint64_t room = geometry.ring - (position - ring_.read.load(std::memory_order_acquire));
    const uint64_t bytes = transfer.part.counts[0] * transfer.part.width();
    if (transfer.moved == 0) {
      if (room < sizeof(Envelope)) return;
      const Envelope envelope = {transfer.part.counts[0], transfer.part.dtype, 0};
      write(&envelope, sizeof(envelope));
      room -= sizeof(envelope);
    }
    const uint64_t sent = transfer.moved - sizeof(Envelope), now = std::min(room, bytes - sent);
    if (now > 0) write(transfer.part.send + sent, now);
    transfer.done = transfer.moved == bytes + sizeof(Envelope);
    if (position == ring_.written.load(std::memory_order_relaxed)) return;
    ring_.written.store(position, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    ring(peer);
  }

  void pull(Transfer &transfer) {
    const int32_t peer = transfer.part.other;
    Ring &ring_ = ring_of(peer, rank);
    const char *buffer = buffer_of(peer, rank);
    uint32_t position = ring_.read.load(std::memory_order_relaxed);
    const auto read = [&](void *target, uint64_t bytes) {
      at_ring(position, bytes, [&](uint64_t from, uint64_t to, uint64_t size) {
        std::memcpy(static_cast<char *>(target) + to, buffer + from, size);
      });
      position += uint32_t(bytes);
      transfer.moved += bytes;
      moved += bytes;
    };
    uint64_t ready = ring_.written.load(std::memory_order_acquire) - position;
    const uint64_t bytes = transfer.part.counts[0] * transfer.part.width();
    if (transfer.moved == 0) {
      if (ready < sizeof(Envelope)) return;
      Envelope envelope;
      read(&envelope, sizeof(envelope));
      ready -= sizeof(envelope);
      if (envelope.count != transfer.part.counts[0] || envelope.dtype != transfer.part.dtype)
        misfit(envelope, transfer.part);
    }
    const uint64_t had = transfer.moved - sizeof(Envelope), now = std::min(ready, bytes - had);
    if (now > 0) read(transfer.part.receive + had, now);
    transfer.done = transfer.moved == bytes + sizeof(Envelope);
    if (position == ring_.read.load(std::memory_order_relaxed)) return;
    ring_.read.store(position, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    ring(peer);
  }

  // The sender may be long gone on: nothing can be repaired.
  [[noreturn]] void misfit(const Envelope &envelope, const Part &part) {
    const auto text = [](uint64_t count, int32_t dtype) {
      return std::to_string(count) + " x " + dtype_name(dtype);
    };
    const std::string reason = "receives " + text(part.counts[0], part.dtype) + " from " +
                               rank_text(part.other) + ", which sends " +
                               text(envelope.count, envelope.dtype);
    break_off("receive", INFINI_STATUS_BAD_PARAM, rank, reason);
  }

  std::shared_ptr<Segment> segment;
  const Geometry geometry;
  std::mutex mutex;
  bool together = true;  // all ranks are threads of this process
  uint32_t round = 0;
  uint64_t moved = 0;  // bytes sent and received
  std::vector<Transfer> transfers;
  std::vector<std::pair<Kind, int32_t>> busy;  // of progress(): ways on which a transfer is not done
};

// ---- groups
// -------------------------------------------------------------------------------------------------

struct Group {
  int depth = 0;
  std::vector<std::pair<Communicator *, std::vector<Part>>> calls;  // by communicator, in order
};
thread_local Group group;

// The ranks of one thread wait for each other, so each needs a thread of its own.
void run_group(std::vector<std::pair<Communicator *, std::vector<Part>>> calls) {
  std::vector<std::exception_ptr> failures(calls.size());
  const auto run = [&](size_t i) {
    try {
      calls[i].first->run(std::move(calls[i].second));
    } catch (...) {
      failures[i] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < calls.size(); ++i) threads.emplace_back(run, i);
  if (!calls.empty()) run(0);
  for (std::thread &thread : threads) thread.join();
  for (const std::exception_ptr &failure : failures)
    if (failure) std::rethrow_exception(failure);
}

void submit(Communicator &comm, Part part) {
  if (group.depth == 0) return comm.run({std::move(part)});
  const auto same = [&](auto &entry) { return entry.first == &comm; };
  const auto entry = std::find_if(group.calls.begin(), group.calls.end(), same);
  if (entry != group.calls.end())
    entry->second.push_back(std::move(part));
  else
    group.calls.push_back({&comm, {std::move(part)}});
}

// ---- the table
// ----------------------------------------------------------------------------------------------

Communicator &communicator(infinicclComm_t comm, const char *function) {
  if (comm == nullptr) throw Error(INFINI_STATUS_NULL_POINTER, std::string(function) + ": comm is NULL");
  return *static_cast<Communicator *>(comm);
}

void check_ranks(int32_t ranks, int32_t rank) {
  if (ranks < 1 || ranks > kMaxRanks)
    throw Error(INFINI_STATUS_BAD_PARAM,
                "init_rank: " + std::to_string(ranks) + " ranks, expected 1 to " + std::to_string(kMaxRanks));
  if (rank < 0 || rank >= ranks)
    throw Error(INFINI_STATUS_BAD_PARAM,
                "init_rank: there is no rank " + std::to_string(rank) + " of " + std::to_string(ranks));
}

infiniStatus_t unique_id(infini_unique_id *out) {
  return guard([&] {
    if (out == nullptr) throw Error(INFINI_STATUS_NULL_POINTER, "unique_id: out is NULL");
    sweep_segments();
    unsigned char random[16];
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
      throw Error(INFINI_STATUS_INTERNAL_ERROR, "unique_id: the system has no random numbers");
    std::string name = kSegmentPrefix;
    for (const unsigned char byte : random) {
      char digits[3];
      std::snprintf(digits, sizeof(digits), "%02x", byte);
      name += digits;
    }
    *out = {};
    out->size = uint32_t(name.size());
    std::memcpy(out->bytes, name.data(), name.size());
  });
}

// The name in a unique id; users may make one up. Zeros behind it are ignored.
std::string name_of(const infini_unique_id &id) {
  const std::string name(id.bytes, strnlen(id.bytes, std::min<size_t>(id.size, sizeof(id.bytes))));
  const bool fits = name.rfind(kSegmentPrefix, 0) == 0 && name.size() <= kMaxName &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             c == '-' || c == '_' || c == '.';
                    });
  if (!fits)
    throw Error(INFINI_STATUS_BAD_PARAM,
                "init_rank: the unique id is none of the cpu backend's, which begin with '" +
                    std::string(kSegmentPrefix) + "' and have up to " + std::to_string(kMaxName) +
                    " letters, digits, '-', '_' and '.'");
  return name;
}

infiniStatus_t init_rank(int32_t ranks, int32_t rank, const infini_unique_id *id, infinicclComm_t *out) {
  return guard([&] {
    if (id == nullptr) throw Error(INFINI_STATUS_NULL_POINTER, "init_rank: id is NULL");
    if (out == nullptr) throw Error(INFINI_STATUS_NULL_POINTER, "init_rank: out is NULL");
    check_ranks(ranks, rank);
    const auto initialise = [&](Segment &segment) {
      Communicator::initialise(segment, ranks);
      segment.claim(rank);  // from its first moment on somebody has a claim on it, or it is a leftover
    };
    auto segment = Segment::named(name_of(*id), Geometry(ranks).bytes, initialise);
    auto comm = std::make_unique<Communicator>(std::move(segment), ranks, rank);
    comm->join(true);
    *out = comm.release();
  });
}

infiniStatus_t init_all(int32_t count, const int32_t *devices, infinicclComm_t *out) {
  return guard([&] {
    if (out == nullptr) throw Error(INFINI_STATUS_NULL_POINTER, "init_all: out is NULL");
    check_ranks(count, 0);
    for (int32_t rank = 0; devices != nullptr && rank < count; ++rank)
      if (devices[rank] < 0 || devices[rank] >= device_count())
        throw Error(INFINI_STATUS_DEVICE_NOT_FOUND, "init_all: device " + std::to_string(devices[rank]) +
                                                        " does not exist, there are " +
                                                        std::to_string(device_count()));
    const auto segment = Segment::anonymous(Geometry(count).bytes);
    Communicator::initialise(*segment, count);
    std::vector<std::unique_ptr<Communicator>> comms;
    for (int32_t rank = 0; rank < count; ++rank) {
      comms.push_back(std::make_unique<Communicator>(segment, count, rank));
      comms.back()->join(false);
    }
    for (int32_t rank = 0; rank < count; ++rank) out[rank] = comms[size_t(rank)].release();
  });
}

infiniStatus_t destroy(infinicclComm_t comm) {
  return guard([&] {
    const std::unique_ptr<Communicator> gone(static_cast<Communicator *>(comm));
    if (gone) gone->leave();
  });
}

infiniStatus_t group_start() {
  ++group.depth;
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t group_end() {
  return guard([] {
    if (group.depth == 0) throw Error(INFINI_STATUS_BAD_PARAM, "group_end: there was no group_start");
    if (--group.depth == 0) run_group(std::exchange(group.calls, {}));
  });
}

// Check and submit a part whose buffers hold `sent` and `received` elements.
void call(Communicator &comm, Part part, const void *send, uint64_t sent, void *receive, uint64_t received) {
  const std::string name = part.name();
  const uint64_t width = part.width();
  if (width == 0)
    throw Error(INFINI_STATUS_BAD_TENSOR_DTYPE, name + ": unknown dtype " + std::to_string(part.dtype));
  const bool complex = part.dtype >= INFINI_DTYPE_C16 && part.dtype <= INFINI_DTYPE_C128;
  if (part.op < INFINICCL_SUM || part.op > INFINICCL_AVG)
    throw Error(INFINI_STATUS_BAD_PARAM, name + ": unknown reduction " + std::to_string(part.op));
  if (complex && (part.op == INFINICCL_MAX || part.op == INFINICCL_MIN))
    throw Error(INFINI_STATUS_BAD_TENSOR_DTYPE,
                name + ": complex numbers have no order, dtype is " + dtype_name(part.dtype));
  if (part.other < 0 || part.other >= comm.ranks)
    throw Error(INFINI_STATUS_BAD_PARAM, name + ": there is no rank " + std::to_string(part.other) + " of " +
                                             std::to_string(comm.ranks));
  if (std::max(sent, received) > UINT64_MAX / width)
    throw Error(INFINI_STATUS_BAD_PARAM, name + ": " + std::to_string(std::max(sent, received)) +
                                             " elements are more than there is memory");
  if ((sent > 0 && send == nullptr) || (received > 0 && receive == nullptr))
    throw Error(INFINI_STATUS_NULL_POINTER,
                name + ": " + (sent > 0 && send == nullptr ? "send" : "receive") + " is NULL, count is " +
                    std::to_string(sent > 0 && send == nullptr ? sent : received));
  part.send = static_cast<const char *>(send);
  part.receive = static_cast<char *>(receive);
  submit(comm, std::move(part));
}

// The counts of all ranks; a sum that overflows is refused as the sum would be.
std::vector<uint64_t> shares(const uint64_t *counts, const Communicator &comm, const char *function) {
  if (counts == nullptr) throw Error(INFINI_STATUS_NULL_POINTER, std::string(function) + ": counts is NULL");
  return std::vector<uint64_t>(counts, counts + comm.ranks);
}

uint64_t sum(const std::vector<uint64_t> &counts) {
  uint64_t total = 0;
  for (const uint64_t count : counts)
    if (__builtin_add_overflow(total, count, &total)) return UINT64_MAX;
  return total;
}

infiniStatus_t all_reduce(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                          infinicclReduceOp_t op, infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "all_reduce");
    call(comm, {Kind::all_reduce, nullptr, nullptr, {count}, dtype, op}, send, count, receive, count);
  });
}

infiniStatus_t reduce(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                      infinicclReduceOp_t op, int32_t root, infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "reduce");
    call(comm, {Kind::reduce, nullptr, nullptr, {count}, dtype, op, root}, send, count, receive,
         comm.rank == root ? count : 0);
  });
}

infiniStatus_t broadcast(const void *send, void *receive, uint64_t count, infiniDtype_t dtype, int32_t root,
                         infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "broadcast");
    call(comm, {Kind::broadcast, nullptr, nullptr, {count}, dtype, INFINICCL_SUM, root}, send,
         comm.rank == root ? count : 0, receive, count);
  });
}

infiniStatus_t all_gather(const void *send, void *receive, uint64_t send_count, infiniDtype_t dtype,
                          infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "all_gather");
    const std::vector<uint64_t> counts(size_t(comm.ranks), send_count);
    call(comm, {Kind::all_gather, nullptr, nullptr, counts, dtype}, send, send_count, receive, sum(counts));
  });
}

infiniStatus_t all_gather_v(const void *send, void *receive, const uint64_t *receive_counts,
                            infiniDtype_t dtype, infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "all_gather_v");
    const auto counts = shares(receive_counts, comm, "all_gather_v");
    call(comm, {Kind::all_gather, nullptr, nullptr, counts, dtype}, send, counts[size_t(comm.rank)], receive,
         sum(counts));
  });
}

infiniStatus_t reduce_scatter(const void *send, void *receive, uint64_t receive_count, infiniDtype_t dtype,
                              infinicclReduceOp_t op, infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "reduce_scatter");
    const std::vector<uint64_t> counts(size_t(comm.ranks), receive_count);
    call(comm, {Kind::reduce_scatter, nullptr, nullptr, counts, dtype, op}, send, sum(counts), receive,
         receive_count);
  });
}

infiniStatus_t reduce_scatter_v(const void *send, void *receive, const uint64_t *receive_counts,
                                infiniDtype_t dtype, infinicclReduceOp_t op, infinicclComm_t handle,
                                infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "reduce_scatter_v");
    const auto counts = shares(receive_counts, comm, "reduce_scatter_v");
    call(comm, {Kind::reduce_scatter, nullptr, nullptr, counts, dtype, op}, send, sum(counts), receive,
         counts[size_t(comm.rank)]);
  });
}

infiniStatus_t all_to_all(const void *send, void *receive, uint64_t count_per_peer, infiniDtype_t dtype,
                          infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "all_to_all");
    const uint64_t all = sum(std::vector<uint64_t>(size_t(comm.ranks), count_per_peer));
    call(comm, {Kind::all_to_all, nullptr, nullptr, {count_per_peer}, dtype}, send, all, receive, all);
  });
}

infiniStatus_t send(const void *buffer, uint64_t count, infiniDtype_t dtype, int32_t peer,
                    infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "send");
    call(comm, {Kind::send, nullptr, nullptr, {count}, dtype, INFINICCL_SUM, peer}, buffer, count, nullptr,
         0);
  });
}

infiniStatus_t receive(void *buffer, uint64_t count, infiniDtype_t dtype, int32_t peer,
                       infinicclComm_t handle, infinirtStream_t) {
  return guard([&] {
    Communicator &comm = communicator(handle, "receive");
    call(comm, {Kind::receive, nullptr, nullptr, {count}, dtype, INFINICCL_SUM, peer}, nullptr, 0, buffer,
         count);
  });
}

infiniStatus_t barrier(infinicclComm_t handle, infinirtStream_t) {
  return guard([&] { call(communicator(handle, "barrier"), {Kind::barrier}, nullptr, 0, nullptr, 0); });
}

}  // namespace

const infini_ccl collectives = {
    INFINI_HEADER(infini_ccl),
    unique_id,
    init_rank,
    init_all,
    destroy,
    group_start,
    group_end,
    all_reduce,
    reduce,
    broadcast,
    all_gather,
    all_gather_v,
    reduce_scatter,
    reduce_scatter_v,
    all_to_all,
    send,
    receive,
    barrier,
};

}  // namespace infini::cpu
