// sim/ccl.cpp -- collectives between the simulated devices of one process.
// A call joins the queue of its stream; there the ranks meet, and the last to arrive does the work for all.
#include "device.hpp"

#include "../../cpu/fold.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include <unistd.h>

namespace infini::sim {

namespace {

using namespace infini::cpu::INFINI_ISA;

enum class Kind {
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

constexpr const char *NAMES[] = {"all_reduce", "reduce",  "broadcast", "all_gather", "reduce_scatter",
                                 "all_to_all", "barrier", "send",      "receive"};

// What one rank brings to a meeting. Addresses are aliases, so that any device's thread may use them.
struct Part {
  Kind kind;
  const char *send = nullptr;
  char *receive = nullptr;
  std::vector<uint64_t> counts = {};  // elements: one, or one per rank where the ranks' shares may differ
  infiniDtype_t dtype = INFINI_DTYPE_BYTE;
  infinicclReduceOp_t op = INFINICCL_SUM;
  int32_t other = 0;  // root, or the peer of send and receive

  const char *name() const { return NAMES[static_cast<int>(kind)]; }
  bool point_to_point() const { return kind == Kind::send || kind == Kind::receive; }
};

std::chrono::duration<double> patience() {
  static const double seconds = [] {
    const char *text = std::getenv("INFINICORE_SIM_TIMEOUT");
    const double value = text != nullptr ? std::atof(text) : 0;
    return value > 0 ? value : 30.0;
  }();
  return std::chrono::duration<double>(seconds);
}

// ---- meetings ---------------------------------------------------------------------------------------------

// Do the work of a meeting: parts are in the order of the ranks (send before receive for a pair).
void perform(const std::vector<Part> &parts) {
  const Part &first = parts[0];
  const uint64_t bytes = element_bytes(first.dtype);
  const size_t ranks = parts.size();
  const auto total = [&](const Part &part) {
    const uint64_t all = std::accumulate(part.counts.begin(), part.counts.end(), uint64_t{0});
    return (part.kind == Kind::all_to_all ? all * ranks : all) * bytes;
  };
  // What is sent is read before anything is written: a target may be the source of any rank.
  std::vector<std::vector<char>> sent(ranks);
  std::vector<const char *> sources(ranks);
  for (size_t rank = 0; rank < ranks; ++rank) {
    const Part &part = parts[rank];
    const uint64_t size = part.kind == Kind::all_gather ? part.counts[rank] * bytes : total(part);
    if (part.send != nullptr) sent[rank].assign(part.send, part.send + size);
    sources[rank] = sent[rank].data();
  }
  const auto put = [](char *target, const char *source, uint64_t size) {
    if (size > 0) std::memcpy(target, source, size);
    return target + size;
  };
  uint64_t offset = 0;  // of the rank's share, in elements
  for (size_t rank = 0; rank < ranks; ++rank) {
    const Part &part = parts[rank];
    const uint64_t count = part.counts.empty() ? 0 : part.counts[rank < part.counts.size() ? rank : 0];
    const bool root = static_cast<int32_t>(rank) == part.other;
    char *target = part.receive;
    switch (part.kind) {
      case Kind::reduce:
        if (!root) break;
        [[fallthrough]];
      case Kind::all_reduce:
        fold(sources.data(), static_cast<int64_t>(ranks), target, static_cast<int64_t>(count), part.dtype,
             part.op);
        break;
      case Kind::broadcast:
        put(target, sources[static_cast<size_t>(part.other)], count * bytes);
        break;
      case Kind::all_gather:
        for (size_t source = 0; source < ranks; ++source)
          target = put(target, sources[source], part.counts[source] * bytes);
        break;
      case Kind::reduce_scatter: {
        std::vector<const char *> shares(sources);
        for (const char *&share : shares) share += offset * bytes;
        fold(shares.data(), static_cast<int64_t>(ranks), target, static_cast<int64_t>(count), part.dtype,
             part.op);
        offset += count;
        break;
      }
      case Kind::all_to_all:
        for (size_t source = 0; source < ranks; ++source)
          target = put(target, sources[source] + rank * count * bytes, count * bytes);
        break;
      case Kind::receive:
        put(target, sources[0], count * bytes);
        break;
      case Kind::barrier:
      case Kind::send:
        break;
    }
  }
}

struct Meeting {
  std::vector<Part> parts;
  std::vector<bool> arrived;
  size_t missing = 0;
  bool done = false;
  Failure misfit;  // told to `culprit`, the rank whose part does not fit the first one
  int32_t culprit = -1;
};

// The ranks that one unique id (or init_all) joined. Whatever goes wrong on one breaks it for all.
class Clique {
 public:
  Clique(std::string id, int32_t ranks)
      : id(std::move(id)),
        ranks(ranks),
        joined(static_cast<size_t>(ranks)),
        left(static_cast<size_t>(ranks)),
        next(static_cast<size_t>(ranks)) {}

  const std::string id;
  const int32_t ranks;

  void join(int32_t rank) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (joined[static_cast<size_t>(rank)])
      throw Error(INFINI_STATUS_BAD_PARAM, "init_rank: rank " + std::to_string(rank) + " joined twice");
    joined[static_cast<size_t>(rank)] = true;
    ++present;
    changed.notify_all();
  }

  void await_all(int32_t rank) {
    std::unique_lock<std::mutex> lock(mutex);
    const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(patience());
    while (
        !changed.wait_for(lock, std::chrono::milliseconds(50), [&] { return present == ranks || broken; })) {
      lock.unlock();  // a handler of a signal may run, and do anything
      const bool gave_up = interrupted();
      lock.lock();
      if (present == ranks || broken || (!gave_up && Clock::now() < deadline)) continue;
      const Error error(
          gave_up ? INFINI_STATUS_PEER_FAILED : INFINI_STATUS_TIMEOUT,
          "init_rank: " + std::to_string(present) + " of " + std::to_string(ranks) +
              (gave_up ? " ranks had come when rank " + std::to_string(rank) + " was interrupted"
                       : " ranks came within " + seconds()));
      break_off(error, rank);
      throw error;
    }
    if (broken) throw *broken;
  }

  void leave(int32_t rank) {
    const std::lock_guard<std::mutex> lock(mutex);
    left[static_cast<size_t>(rank)] = true;
    changed.notify_all();
  }

  // Bring a part. The last to arrive does the work; everybody then waits for it in `finish`.
  std::shared_ptr<Meeting> arrive(int32_t rank, const Part &part) {
    std::unique_lock<std::mutex> lock(mutex);
    if (broken) throw *broken;
    // A pair meets under (sender, receiver), everybody else under (-1, -1); the n-th call of one is the n-th
    // call of the others.
    const bool sends = part.kind == Kind::send, pair = part.point_to_point();
    const std::pair<int32_t, int32_t> who = !pair   ? std::pair(-1, -1)
                                            : sends ? std::pair(rank, part.other)
                                                    : std::pair(part.other, rank);
    const size_t place = pair ? (sends ? 0 : 1) : static_cast<size_t>(rank);
    const uint64_t turn = pair ? turns[{who, place}]++ : next[place]++;
    auto &meeting = meetings[{who, turn}];
    if (!meeting) {
      meeting = std::make_shared<Meeting>();
      meeting->missing = pair ? 2 : static_cast<size_t>(ranks);
      meeting->parts.resize(meeting->missing, Part{part.kind});
      meeting->arrived.resize(meeting->missing);
    }
    const auto ours = meeting;  // the map's entry may go away while the lock is open
    ours->parts[place] = part;
    ours->arrived[place] = true;
    if (--ours->missing > 0) return ours;
    meetings.erase({who, turn});
    check(*ours);
    if (ours->misfit) {
      break_off(*ours->misfit, ours->culprit);
      return ours;  // whoever comes last, `finish` tells each rank its side of it
    }
    try {
      lock.unlock();
      perform(ours->parts);
      lock.lock();
    } catch (const Error &error) {
      if (!lock) lock.lock();
      break_off(error, rank);
      throw;
    }
    ours->done = true;
    changed.notify_all();
    return ours;
  }

  void finish(int32_t rank, const std::shared_ptr<Meeting> &meeting, const Part &part) {
    std::unique_lock<std::mutex> lock(mutex);
    const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(patience());
    while (!meeting->done) {
      if (meeting->misfit && rank == meeting->culprit) throw *meeting->misfit;
      if (broken) throw *broken;
      if (const std::string gone = absent(*meeting, part, true); !gone.empty()) {
        const Error error(INFINI_STATUS_PEER_FAILED,
                          std::string(part.name()) + ": " + gone + " destroyed its communicator");
        break_off(error, rank);
        throw error;
      }
      if (meeting->missing > 0 && (stopping() || Clock::now() >= deadline)) {
        const Error error(INFINI_STATUS_TIMEOUT, std::string(part.name()) + ": " +
                                                     absent(*meeting, part, false) + " did not come within " +
                                                     seconds());
        break_off(error, rank);
        throw error;
      }
      changed.wait_for(lock, std::chrono::milliseconds(50));
    }
  }

  void fail(const Error &error, int32_t rank) {
    const std::lock_guard<std::mutex> lock(mutex);
    break_off(error, rank);
  }

 private:
  static std::string seconds() {
    std::string text = std::to_string(patience().count());
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
    return text + " s";
  }

  void break_off(const Error &error, int32_t rank) {
    if (!broken)
      broken = std::make_shared<const Error>(INFINI_STATUS_PEER_FAILED,
                                             "rank " + std::to_string(rank) + " failed: " + error.what());
    changed.notify_all();
  }

  // The first rank that is missing (only one that left for good, if `for_good`); "" if there is none.
  std::string absent(const Meeting &meeting, const Part &part, bool for_good) const {
    for (size_t place = 0; place < meeting.arrived.size(); ++place) {
      const auto rank = part.point_to_point() ? part.other : static_cast<int32_t>(place);
      if (!meeting.arrived[place] && (!for_good || left[static_cast<size_t>(rank)]))
        return "rank " + std::to_string(rank);
    }
    return "";
  }

  // Ranks that call different things would hang or mix data up on hardware; here they are told.
  static void check(Meeting &meeting) {
    const Part &first = meeting.parts[0];
    for (size_t place = 1; place < meeting.parts.size() && !meeting.misfit; ++place) {
      const Part &part = meeting.parts[place];
      // A receiver's rank is what its sender calls the other one, and the other way round.
      const bool pair = part.point_to_point();
      const int32_t rank = pair ? first.other : static_cast<int32_t>(place);
      const char *what = part.kind != first.kind && !pair     ? "operation"
                         : part.dtype != first.dtype          ? "dtype"
                         : part.counts != first.counts        ? "count"
                         : !pair && part.op != first.op       ? "reduction"
                         : !pair && part.other != first.other ? "root"
                                                              : nullptr;
      if (what == nullptr) continue;
      meeting.culprit = rank;
      meeting.misfit = std::make_shared<const Error>(
          INFINI_STATUS_BAD_PARAM, std::string(first.name()) + " of rank " +
                                       std::to_string(pair ? part.other : 0) + " meets " + part.name() +
                                       " of rank " + std::to_string(rank) + " with another " + what);
    }
  }

  using Who = std::pair<int32_t, int32_t>;

  std::mutex mutex;
  std::condition_variable changed;
  int32_t present = 0;
  std::vector<bool> joined, left;
  std::vector<uint64_t> next;                        // collectives so far, per rank
  std::map<std::pair<Who, size_t>, uint64_t> turns;  // sends and receives so far, per pair and side
  std::map<std::pair<Who, uint64_t>, std::shared_ptr<Meeting>> meetings;
  Failure broken;
};

// ---- communicators ----------------------------------------------------------------------------------------

struct Communicator {
  std::shared_ptr<Clique> clique;
  int32_t rank;
  Device &device;
  std::shared_ptr<Stream> last = nullptr;  // the stream of the previous call
};

struct Call {
  std::shared_ptr<Clique> clique;
  int32_t rank;
  Part part;
};

// Everybody's parts are brought before anything is waited for, so calls of one group cannot block each other.
void enqueue(Stream &stream, std::vector<Call> calls) {
  stream.enqueue([calls = std::move(calls)](const Failure &earlier) {
    Failure failure = earlier;
    std::vector<std::shared_ptr<Meeting>> meetings(calls.size());
    const auto each = [&](auto &&step) {
      for (size_t i = 0; i < calls.size(); ++i) {
        if (failure)
          calls[i].clique->fail(*failure, calls[i].rank);
        else
          failure = attempt([&](const Failure &) { step(i); }, failure);
      }
    };
    each([&](size_t i) { meetings[i] = calls[i].clique->arrive(calls[i].rank, calls[i].part); });
    each([&](size_t i) { calls[i].clique->finish(calls[i].rank, meetings[i], calls[i].part); });
    if (failure && !earlier) throw *failure;
  });
}

struct Group {
  int depth = 0;
  std::vector<std::pair<Stream *, std::vector<Call>>> calls;  // by stream, in order
};
thread_local Group group;

void submit(Communicator &comm, Stream &stream, Part part) {
  if (&stream.device != &comm.device)
    throw Error(INFINI_STATUS_BAD_PARAM, std::string(part.name()) + ": the stream is of " +
                                             stream.device.name + ", the communicator of " +
                                             comm.device.name);
  // Calls of one communicator happen in the order in which they were made, whatever their streams.
  if (comm.last && comm.last.get() != &stream && !stream.captured() && !comm.last->captured() &&
      group.depth == 0)
    stream.wait(comm.last->record());
  comm.last = stream.shared_from_this();
  Call call{comm.clique, comm.rank, std::move(part)};
  if (group.depth == 0) return enqueue(stream, {std::move(call)});
  const auto same = [&](auto &entry) { return entry.first == &stream; };
  const auto entry = std::find_if(group.calls.begin(), group.calls.end(), same);
  if (entry != group.calls.end())
    entry->second.push_back(std::move(call));
  else
    group.calls.push_back({&stream, {std::move(call)}});
}

std::mutex meeting_points;
std::map<std::string, std::weak_ptr<Clique>> &cliques() {
  static auto *all = new std::map<std::string, std::weak_ptr<Clique>>;  // never destroyed
  return *all;
}

template <int V> struct Collectives {
  static Vendor &vendor() { return vendors[V]; }
  static Communicator &communicator(infinicclComm_t comm) { return *static_cast<Communicator *>(comm); }

  static infiniStatus_t unique_id(infini_unique_id *out) {
    return guard([&] {
      static std::atomic<uint64_t> counter{0};
      const std::string id =
          std::string(vendor().name) + ":" + std::to_string(getpid()) + ":" + std::to_string(counter++);
      out->size = static_cast<uint32_t>(id.size());
      std::memcpy(out->bytes, id.data(), id.size());
    });
  }

  static infiniStatus_t init_rank(int32_t ranks, int32_t rank, const infini_unique_id *id,
                                  infinicclComm_t *out) {
    return guard([&] {
      const std::string name(id->bytes, std::min<size_t>(id->size, sizeof(id->bytes)));
      const std::string ours = std::string(vendor().name) + ":" + std::to_string(getpid()) + ":";
      if (name.compare(0, ours.size(), ours) != 0)
        throw Error(INFINI_STATUS_BAD_PARAM,
                    std::string("init_rank: the unique id was not made by ") + vendor().name +
                        " in this process, and simulated devices do not reach further");
      if (ranks < 1 || rank < 0 || rank >= ranks)
        throw Error(INFINI_STATUS_BAD_PARAM,
                    "init_rank: there is no rank " + std::to_string(rank) + " of " + std::to_string(ranks));
      std::shared_ptr<Clique> clique;
      {
        const std::lock_guard<std::mutex> lock(meeting_points);
        auto &known = cliques()[name];
        clique = known.lock();
        if (!clique) known = clique = std::make_shared<Clique>(name, ranks);
      }
      if (clique->ranks != ranks)
        throw Error(INFINI_STATUS_BAD_PARAM, "init_rank: " + std::to_string(ranks) +
                                                 " ranks, but others said " + std::to_string(clique->ranks));
      auto comm = std::make_unique<Communicator>(Communicator{clique, rank, vendor().current()});
      clique->join(rank);
      clique->await_all(rank);
      *out = comm.release();
    });
  }

  static infiniStatus_t init_all(int32_t count, const int32_t *devices, infinicclComm_t *out) {
    return guard([&] {
      if (count < 1) throw Error(INFINI_STATUS_BAD_PARAM, "init_all: " + std::to_string(count) + " devices");
      const auto clique = std::make_shared<Clique>("", count);
      for (int32_t rank = 0; rank < count; ++rank) vendor().device(devices[rank]);
      for (int32_t rank = 0; rank < count; ++rank)
        out[rank] = new Communicator{clique, rank, vendor().device(devices[rank])};
    });
  }

  static infiniStatus_t destroy(infinicclComm_t comm) {
    return guard([&] {
      const std::unique_ptr<Communicator> gone(&communicator(comm));
      // What it enqueued still counts: the others are told once that has run.
      const auto say = [clique = gone->clique, rank = gone->rank](const Failure &) { clique->leave(rank); };
      if (gone->last)
        gone->last->enqueue(say);
      else
        say(nullptr);
    });
  }

  static infiniStatus_t group_start() {
    ++group.depth;
    return INFINI_STATUS_SUCCESS;
  }

  static infiniStatus_t group_end() {
    return guard([] {
      if (group.depth == 0) throw Error(INFINI_STATUS_BAD_PARAM, "group_end without group_start");
      if (--group.depth == 0)
        for (auto &[stream, calls] : std::exchange(group.calls, {})) enqueue(*stream, std::move(calls));
    });
  }

  // Submit a part whose buffers hold `sent` and `received` elements.
  static infiniStatus_t call(Part part, const void *send, uint64_t sent, void *receive, uint64_t received,
                             infinicclComm_t handle, infinirtStream_t stream) {
    return guard([&] {
      Communicator &comm = communicator(handle);
      const auto reject = [&](const std::string &why) {
        throw Error(INFINI_STATUS_BAD_PARAM, std::string(part.name()) + ": " + why);
      };
      if (part.other < 0 || part.other >= comm.clique->ranks)
        reject("there is no rank " + std::to_string(part.other) + " of " +
               std::to_string(comm.clique->ranks));
      if (part.op < INFINICCL_SUM || part.op > INFINICCL_AVG)
        reject("unknown reduction " + std::to_string(part.op));
      const bool complex = part.dtype >= INFINI_DTYPE_C16 && part.dtype <= INFINI_DTYPE_C128;
      if (complex && (part.op == INFINICCL_MAX || part.op == INFINICCL_MIN))
        throw Error(INFINI_STATUS_BAD_TENSOR_DTYPE,
                    std::string(part.name()) + ": complex numbers have no order");
      const uint64_t bytes = element_bytes(part.dtype);
      if (sent > 0) part.send = static_cast<const char *>(comm.device.memory.reach(send, sent * bytes));
      if (received > 0)
        part.receive = static_cast<char *>(comm.device.memory.reach(receive, received * bytes));
      submit(comm, stream != nullptr ? vendor().stream(stream) : *comm.device.standard, std::move(part));
    });
  }

  static uint64_t ranks(infinicclComm_t comm) {
    return static_cast<uint64_t>(communicator(comm).clique->ranks);
  }
  static bool is_rank(infinicclComm_t comm, int32_t rank) { return communicator(comm).rank == rank; }
  static std::vector<uint64_t> shares(const uint64_t *counts, infinicclComm_t comm) {
    return std::vector<uint64_t>(counts, counts + ranks(comm));
  }
  static uint64_t sum(const std::vector<uint64_t> &counts) {
    return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  }
  static uint64_t own(const std::vector<uint64_t> &counts, infinicclComm_t comm) {
    return counts[static_cast<size_t>(communicator(comm).rank)];
  }

  static infiniStatus_t all_reduce(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                                   infinicclReduceOp_t op, infinicclComm_t comm, infinirtStream_t stream) {
    return call({Kind::all_reduce, nullptr, nullptr, {count}, dtype, op}, send, count, receive, count, comm,
                stream);
  }

  static infiniStatus_t reduce(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                               infinicclReduceOp_t op, int32_t root, infinicclComm_t comm,
                               infinirtStream_t stream) {
    return call({Kind::reduce, nullptr, nullptr, {count}, dtype, op, root}, send, count, receive,
                is_rank(comm, root) ? count : 0, comm, stream);
  }

  static infiniStatus_t broadcast(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                                  int32_t root, infinicclComm_t comm, infinirtStream_t stream) {
    return call({Kind::broadcast, nullptr, nullptr, {count}, dtype, INFINICCL_SUM, root}, send,
                is_rank(comm, root) ? count : 0, receive, count, comm, stream);
  }

  static infiniStatus_t all_gather(const void *send, void *receive, uint64_t send_count, infiniDtype_t dtype,
                                   infinicclComm_t comm, infinirtStream_t stream) {
    const std::vector<uint64_t> counts(ranks(comm), send_count);
    return call({Kind::all_gather, nullptr, nullptr, counts, dtype}, send, send_count, receive, sum(counts),
                comm, stream);
  }

  static infiniStatus_t all_gather_v(const void *send, void *receive, const uint64_t *receive_counts,
                                     infiniDtype_t dtype, infinicclComm_t comm, infinirtStream_t stream) {
    const auto counts = shares(receive_counts, comm);
    return call({Kind::all_gather, nullptr, nullptr, counts, dtype}, send, own(counts, comm), receive,
                sum(counts), comm, stream);
  }

  static infiniStatus_t reduce_scatter(const void *send, void *receive, uint64_t receive_count,
                                       infiniDtype_t dtype, infinicclReduceOp_t op, infinicclComm_t comm,
                                       infinirtStream_t stream) {
    const std::vector<uint64_t> counts(ranks(comm), receive_count);
    return call({Kind::reduce_scatter, nullptr, nullptr, counts, dtype, op}, send, sum(counts), receive,
                receive_count, comm, stream);
  }

  static infiniStatus_t reduce_scatter_v(const void *send, void *receive, const uint64_t *receive_counts,
                                         infiniDtype_t dtype, infinicclReduceOp_t op, infinicclComm_t comm,
                                         infinirtStream_t stream) {
    const auto counts = shares(receive_counts, comm);
    return call({Kind::reduce_scatter, nullptr, nullptr, counts, dtype, op}, send, sum(counts), receive,
                own(counts, comm), comm, stream);
  }

  static infiniStatus_t all_to_all(const void *send, void *receive, uint64_t count_per_peer,
                                   infiniDtype_t dtype, infinicclComm_t comm, infinirtStream_t stream) {
    const uint64_t all = count_per_peer * ranks(comm);
    return call({Kind::all_to_all, nullptr, nullptr, {count_per_peer}, dtype}, send, all, receive, all, comm,
                stream);
  }

  static infiniStatus_t send(const void *buffer, uint64_t count, infiniDtype_t dtype, int32_t peer,
                             infinicclComm_t comm, infinirtStream_t stream) {
    return call({Kind::send, nullptr, nullptr, {count}, dtype, INFINICCL_SUM, peer}, buffer, count, nullptr,
                0, comm, stream);
  }

  static infiniStatus_t receive(void *buffer, uint64_t count, infiniDtype_t dtype, int32_t peer,
                                infinicclComm_t comm, infinirtStream_t stream) {
    return call({Kind::receive, nullptr, nullptr, {count}, dtype, INFINICCL_SUM, peer}, nullptr, 0, buffer,
                count, comm, stream);
  }

  static infiniStatus_t barrier(infinicclComm_t comm, infinirtStream_t stream) {
    return call({Kind::barrier}, nullptr, 0, nullptr, 0, comm, stream);
  }

  static constexpr infini_ccl table = {
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
};

}  // namespace

const infini_ccl *ccl_table(int vendor) {
  return vendor == 0 ? &Collectives<0>::table : &Collectives<1>::table;
}

}  // namespace infini::sim
