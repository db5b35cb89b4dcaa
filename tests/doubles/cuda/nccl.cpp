// doubles/cuda/nccl.cpp -- libnccl of the CUDA double: collectives between the threads of one process.
// A call joins its stream; there the ranks meet, and the last to arrive does the work for all.
#include "device.hpp"
#include "numbers.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

using namespace double_cuda;

#define DOUBLE_API extern "C" __attribute__((visibility("default")))

namespace {

enum Result {
  success = 0,
  unhandled_cuda_error = 1,
  system_error = 2,
  invalid_argument = 4,
  invalid_usage = 5
};
enum class Kind { all_reduce, reduce, broadcast, all_gather, reduce_scatter, pair };
enum Op { sum, prod, max, min, avg };

struct Part {
  Kind kind;
  const void *send = nullptr;
  void *receive = nullptr;
  size_t count = 0;
  int type = 0, op = 0, root = 0;
  bool operator!=(const Part &other) const {
    return kind != other.kind || count != other.count || type != other.type || op != other.op ||
           root != other.root;
  }
};

struct Meeting {
  std::map<int, Part> parts;  // by rank; of a pair: 0 sends, 1 receives
  bool done = false;
};

struct Clique {
  int ranks = 0, joined = 0;
  int failure = 0;
  std::map<std::pair<std::pair<int, int>, uint64_t>, std::shared_ptr<Meeting>> meetings;
};

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  int rank, device;
  std::map<std::pair<int, int>, uint64_t> turns;  // meetings so far: of all ranks, and with each peer
};
struct ncclUniqueId {
  char internal[128];
};

namespace {

size_t width(int type) {
  constexpr size_t widths[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1};
  return widths[type];
}

template <class T> T combine(T a, T b, int op) {
  return op == prod ? T(a * b) : op == max ? (b > a ? b : a) : op == min ? (b < a ? b : a) : T(a + b);
}

template <class T> T element(const void *data, size_t i) {
  T value;
  std::memcpy(&value, static_cast<const char *>(data) + i * sizeof(T), sizeof(T));
  return value;
}

template <class Compute, class T, class Load, class Save> void fold(const std::vector<const void *> &sources,
                                                                    size_t from, void *target, size_t count,
                                                                    int op, Load load, Save save) {
  std::vector<T> out(count);
  for (size_t i = 0; i < count; ++i) {
    Compute value = load(element<T>(sources[0], from + i));
    for (size_t rank = 1; rank < sources.size(); ++rank)
      value = combine<Compute>(value, load(element<T>(sources[rank], from + i)), op);
    if (op == avg) value = static_cast<Compute>(value / static_cast<Compute>(sources.size()));
    out[i] = save(value);
  }
  std::memcpy(target, out.data(), count * sizeof(T));
}

template <class T>
void fold_plain(const std::vector<const void *> &s, size_t from, void *t, size_t n, int op) {
  fold<T, T>(
      s, from, t, n, op, [](T x) { return x; }, [](T x) { return x; });
}

// Elements from .. from + count of every source, folded into the target.
void fold(const std::vector<const void *> &s, size_t from, void *t, size_t n, int type, int op) {
  switch (type) {
    case 0:
      return fold_plain<int8_t>(s, from, t, n, op);
    case 1:
      return fold_plain<uint8_t>(s, from, t, n, op);
    case 2:
      return fold_plain<int32_t>(s, from, t, n, op);
    case 3:
      return fold_plain<uint32_t>(s, from, t, n, op);
    case 4:
      return fold_plain<int64_t>(s, from, t, n, op);
    case 5:
      return fold_plain<uint64_t>(s, from, t, n, op);
    case 6:
      return fold<double, uint16_t>(s, from, t, n, op, Half::decode, Half::encode);
    case 7:
      return fold_plain<float>(s, from, t, n, op);
    case 8:
      return fold_plain<double>(s, from, t, n, op);
    case 9:
      return fold<double, uint16_t>(s, from, t, n, op, Bfloat::decode, Bfloat::encode);
    default:
      return;  // float8: the double does not reduce it
  }
}

// Everybody is here: do the work. What is sent is copied first, since a target may be anybody's source.
void perform(Meeting &meeting) {
  const Part &first = meeting.parts.begin()->second;
  const size_t bytes = width(first.type), ranks = meeting.parts.size();
  std::vector<std::string> copies;
  for (const auto &[rank, part] : meeting.parts) {
    const size_t count = part.kind == Kind::reduce_scatter ? part.count * ranks : part.count;
    const bool sends =
        part.kind == Kind::pair ? rank == 0 : part.kind != Kind::broadcast || rank == part.root;
    copies.emplace_back(sends ? static_cast<const char *>(part.send) : "", sends ? count * bytes : 0);
  }
  std::vector<const void *> sources;
  for (const std::string &copy : copies) sources.push_back(copy.data());
  for (const auto &[rank, part] : meeting.parts) {
    char *target = static_cast<char *>(part.receive);
    switch (part.kind) {
      case Kind::reduce:
        if (rank != part.root) break;
        [[fallthrough]];
      case Kind::all_reduce:
        fold(sources, 0, target, part.count, part.type, part.op);
        break;
      case Kind::reduce_scatter:
        fold(sources, static_cast<size_t>(rank) * part.count, target, part.count, part.type, part.op);
        break;
      case Kind::broadcast:
        std::memcpy(target, sources[static_cast<size_t>(part.root)], part.count * bytes);
        break;
      case Kind::all_gather:
        for (size_t source = 0; source < ranks; ++source)
          std::memcpy(target + source * part.count * bytes, sources[source], part.count * bytes);
        break;
      case Kind::pair:
        if (rank == 1) std::memcpy(target, sources[0], part.count * bytes);
        break;
    }
  }
}

struct Call {
  ncclComm *comm;
  cudaStream_t stream;
  Part part;
  int peer = -1;
  bool sends = false;
};

// All calls of a group on one stream arrive together, so none of them blocks another.
Make step(std::vector<Call> calls) {
  return [calls] {
    const auto meetings = std::make_shared<std::vector<std::shared_ptr<Meeting>>>();
    return [calls, meetings] {
      if (meetings->empty())
        for (const Call &call : calls) {
          Clique &clique = *call.comm->clique;
          const int us = call.comm->rank;
          const std::pair<int, int> who = call.peer < 0 ? std::pair(-1, -1)
                                          : call.sends  ? std::pair(us, call.peer)
                                                        : std::pair(call.peer, us);
          // A rank that sends to itself takes part on both sides: their turns are counted apart.
          const std::pair<int, int> side = call.peer < 0 ? who : std::pair(call.peer, call.sends ? 1 : 2);
          auto &meeting = clique.meetings[{who, call.comm->turns[side]++}];
          if (!meeting) meeting = std::make_shared<Meeting>();
          if (!meeting->parts.empty() && meeting->parts.begin()->second != call.part)
            clique.failure = invalid_usage;
          meeting->parts[call.peer < 0 ? us : call.sends ? 0 : 1] = call.part;
          meetings->push_back(meeting);
          if (meeting->parts.size() == (call.peer < 0 ? static_cast<size_t>(clique.ranks) : 2)) {
            if (clique.failure == 0) perform(*meeting);
            meeting->done = true;
            changed.notify_all();
          }
        }
      for (size_t i = 0; i < calls.size(); ++i)
        if (!(*meetings)[i]->done && calls[i].comm->clique->failure == 0) return pending;
      return 0;
    };
  };
}

struct Group {
  int depth = 0;
  std::vector<Call> calls;
};
thread_local Group group;
std::string detail;

// The calls that came together, one step per stream.
int flush() {
  std::vector<Call> calls;
  calls.swap(group.calls);
  while (!calls.empty()) {
    std::vector<Call> same, rest;
    for (const Call &call : calls) (call.stream == calls[0].stream ? same : rest).push_back(call);
    if (enqueue(same[0].stream, step(same)) != cudaSuccess) return unhandled_cuda_error;
    calls.swap(rest);
  }
  return success;
}

int submit(const char *name, Call call, size_t sent, size_t received) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (const int error = injected(name); error != 0) {
    detail = std::string("injected into ") + name;
    return error;
  }
  const Part &part = call.part;
  if (part.type < 0 || part.type > 10 || part.op < sum || part.op > avg) return invalid_argument;
  const int ranks = call.comm->clique->ranks;
  if (part.root < 0 || part.root >= ranks || call.peer >= ranks) {
    detail = std::string(name) + ": no such rank";
    return invalid_argument;
  }
  const size_t bytes = width(part.type);
  if ((sent > 0 && !on_device(part.send, sent * bytes)) ||
      (received > 0 && !on_device(part.receive, received * bytes))) {
    detail = std::string(name) + ": a buffer is not in device memory";
    return invalid_argument;
  }
  group.calls.push_back(std::move(call));
  return group.depth > 0 ? success : flush();
}

ncclComm *make(const std::shared_ptr<Clique> &clique, int rank, int device) {
  count("communicator", 1);
  return new ncclComm{clique, rank, device, {}};
}

std::map<std::string, std::shared_ptr<Clique>> cliques;

}  // namespace

DOUBLE_API const char *ncclGetErrorString(int result) {
  constexpr const char *texts[] = {"no error",
                                   "unhandled cuda error",
                                   "unhandled system error",
                                   "internal error",
                                   "invalid argument",
                                   "invalid usage",
                                   "remote process exited or there was a "
                                   "network error",
                                   "NCCL operation in progress"};
  return result >= 0 && result < 8 ? texts[result] : "unknown result code";
}
DOUBLE_API const char *ncclGetLastError(ncclComm *) {
  return detail.c_str();
}
DOUBLE_API int ncclGetUniqueId(ncclUniqueId *id) {
  const std::lock_guard<std::mutex> lock(mutex);
  static int made = 0;
  *id = {};
  const std::string text = "double " + std::to_string(made++);
  std::memcpy(id->internal, text.data(), text.size());
  return success;
}
DOUBLE_API int ncclCommInitRank(ncclComm **comm, int ranks, ncclUniqueId id, int rank) {
  std::unique_lock<std::mutex> lock(mutex);
  if (const int error = injected("ncclCommInitRank"); error != 0) return error;
  auto &known = cliques[id.internal];
  if (!known) known = std::make_shared<Clique>();
  const auto clique = known;
  clique->ranks = ranks;
  ++clique->joined;
  changed.notify_all();
  if (!changed.wait_for(lock, std::chrono::duration<double>(patience),
                        [&] { return clique->joined >= ranks; })) {
    detail = "not all ranks came";
    return system_error;
  }
  *comm = make(clique, rank, current_device());
  return success;
}
DOUBLE_API int ncclCommInitAll(ncclComm **comms, int ranks, const int *devices) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (const int error = injected("ncclCommInitAll"); error != 0) return error;
  const auto clique = std::make_shared<Clique>();
  clique->ranks = ranks;
  for (int rank = 0; rank < ranks; ++rank) comms[rank] = make(clique, rank, devices[rank]);
  return success;
}
DOUBLE_API int ncclCommDestroy(ncclComm *comm) {
  const std::lock_guard<std::mutex> lock(mutex);
  delete comm;
  count("communicator", -1);
  return success;
}
DOUBLE_API int ncclCommCount(const ncclComm *comm, int *ranks) {
  *ranks = comm->clique->ranks;
  return success;
}
DOUBLE_API int ncclCommUserRank(const ncclComm *comm, int *rank) {
  *rank = comm->rank;
  return success;
}
DOUBLE_API int ncclCommGetAsyncError(ncclComm *comm, int *state) {
  const std::lock_guard<std::mutex> lock(mutex);
  const int error = injected("ncclCommGetAsyncError");
  *state = error != 0 ? error : comm->clique->failure;
  return success;
}
DOUBLE_API int ncclGroupStart() {
  ++group.depth;
  return success;
}
DOUBLE_API int ncclGroupEnd() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (group.depth == 0) return invalid_usage;
  return --group.depth == 0 ? flush() : static_cast<int>(success);
}
DOUBLE_API int ncclAllReduce(const void *send, void *receive, size_t count, int type, int op, ncclComm *comm,
                             cudaStream_t stream) {
  return submit("ncclAllReduce", {comm, stream, {Kind::all_reduce, send, receive, count, type, op}}, count,
                count);
}
DOUBLE_API int ncclReduce(const void *send, void *receive, size_t count, int type, int op, int root,
                          ncclComm *comm, cudaStream_t stream) {
  return submit("ncclReduce", {comm, stream, {Kind::reduce, send, receive, count, type, op, root}}, count,
                comm->rank == root ? count : 0);
}
DOUBLE_API int ncclBroadcast(const void *send, void *receive, size_t count, int type, int root,
                             ncclComm *comm, cudaStream_t stream) {
  return submit("ncclBroadcast", {comm, stream, {Kind::broadcast, send, receive, count, type, sum, root}},
                comm->rank == root ? count : 0, count);
}
DOUBLE_API int ncclAllGather(const void *send, void *receive, size_t count, int type, ncclComm *comm,
                             cudaStream_t stream) {
  const size_t all = count * static_cast<size_t>(comm->clique->ranks);
  return submit("ncclAllGather", {comm, stream, {Kind::all_gather, send, receive, count, type}}, count, all);
}
DOUBLE_API int ncclReduceScatter(const void *send, void *receive, size_t count, int type, int op,
                                 ncclComm *comm, cudaStream_t stream) {
  const size_t all = count * static_cast<size_t>(comm->clique->ranks);
  return submit("ncclReduceScatter", {comm, stream, {Kind::reduce_scatter, send, receive, count, type, op}},
                all, count);
}
DOUBLE_API int ncclSend(const void *buffer, size_t count, int type, int peer, ncclComm *comm,
                        cudaStream_t stream) {
  return submit("ncclSend", {comm, stream, {Kind::pair, buffer, nullptr, count, type}, peer, true}, count, 0);
}
DOUBLE_API int ncclRecv(void *buffer, size_t count, int type, int peer, ncclComm *comm, cudaStream_t stream) {
  return submit("ncclRecv", {comm, stream, {Kind::pair, nullptr, buffer, count, type}, peer, false}, 0,
                count);
}
