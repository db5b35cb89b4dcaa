// infinicore/cudalike/collectives.hpp -- the collectives table of every vendor whose library is modelled on
// NCCL. Like runtime.hpp it is written against a struct in which a vendor names functions, types and numbers.
//
// The struct, called Ccl below; its functions have NCCL's arguments and are pointers that load() fills in:
//   prefix                          "nccl", "mccl", ...
//   Sdk                             the struct of runtime.hpp
//   Result Comm UniqueId            types; DataType and RedOp are int
//   load()                          finds the library on first use; throws where it is not there
//   GetErrorString GetLastError (NULL in old libraries) GetUniqueId CommInitRank CommInitAll CommDestroy
//   CommCount CommUserRank CommGetAsyncError GroupStart GroupEnd AllReduce Reduce Broadcast AllGather
//   ReduceScatter Send Recv
// and the numbers of CclNumbers, of which it redeclares those that differ.
#pragma once
#include "runtime.hpp"

#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

namespace infini::cudalike {

// NCCL's enumerators.
struct CclNumbers {
  static constexpr int success = 0, invalid_argument = 4, invalid_usage = 5, remote_error = 6,
                       in_progress = 7;
  static constexpr int int8 = 0, uint8 = 1, int32 = 2, uint32 = 3, int64 = 4, uint64 = 5, float16 = 6,
                       float32 = 7, float64 = 8, bfloat16 = 9, float8_e4m3 = 10;
  static constexpr int sum = 0, prod = 1, max = 2, min = 3, avg = 4;
};

template <class Ccl> class Collectives {
  using Sdk = typename Ccl::Sdk;
  using Comm = typename Ccl::Comm;
  using Stream = typename Sdk::Stream;
  using UniqueId = typename Ccl::UniqueId;
  static_assert(sizeof(UniqueId) <= sizeof(infini_unique_id::bytes), "the id fits into ours");
  static_assert(std::is_trivially_copyable_v<UniqueId>, "the id is bytes");

  // A communicator of the library's, and what is asked of it at every call.
  struct Communicator {
    Comm comm{};
    int ranks = 0, rank = 0;
    void *token = nullptr;  // one byte on the device: what a barrier exchanges
  };

  static void check(int result, const char *call, Comm comm = Comm{}) {
    if (result == Ccl::success || result == Ccl::in_progress) return;
    std::string text = std::string(Ccl::prefix) + call + ": " + Ccl::GetErrorString(result);
    if (Ccl::GetLastError != nullptr)
      if (const char *detail = Ccl::GetLastError(comm); detail != nullptr && *detail != '\0')
        text += std::string(" (") + detail + ")";
    throw Error(result == Ccl::remote_error ? INFINI_STATUS_PEER_FAILED
                : result == Ccl::invalid_argument || result == Ccl::invalid_usage
                    ? INFINI_STATUS_BAD_PARAM
                    : INFINI_STATUS_INTERNAL_ERROR,
                text);
  }

#define INFINI_CCL(function, ...) check(static_cast<int>(Ccl::function(__VA_ARGS__)), #function)

  // Several calls that must not wait for one another. Ends the group on every path: one left open would
  // swallow all calls that this thread makes later.
  template <class Body> static void grouped(Body &&body) {
    INFINI_CCL(GroupStart);
    try {
      body();
    } catch (...) {
      Ccl::GroupEnd();
      throw;
    }
    const int result = static_cast<int>(Ccl::GroupEnd());
    if (group.depth == 0) group.leave();
    check(result, "GroupEnd");
  }

  // The groups that this thread has open, and copies whose readers are enqueued when the outermost ends.
  struct Group {
    int depth = 0;
    std::vector<std::pair<void *, Stream>> copies;

    void leave() {
      depth = 0;
      for (const auto &[memory, stream] : std::exchange(copies, {})) Sdk::FreeAsync(memory, stream);
    }
  };
  static inline thread_local Group group;

  // A copy of a buffer, for a call that would otherwise overwrite what it has still to send.
  static const void *copied(const void *source, uint64_t bytes, Stream stream) {
    void *copy = nullptr;
    cudalike::check<Sdk>(Sdk::MallocAsync(&copy, bytes, stream), "MallocAsync");
    group.copies.push_back({copy, stream});
    cudalike::check<Sdk>(
        Sdk::MemcpyAsync(copy, source, bytes, static_cast<typename Sdk::MemcpyKind>(Sdk::device_to_device),
                         stream),
        "MemcpyAsync");
    return copy;
  }

  // ---- dtypes and reductions -----------------------------------------------------------------------------

  // How elements travel: `number` of the library's type, `width` of them (one or more) per element.
  struct Wire {
    int number;
    uint64_t width;
    uint64_t bytes;  // of one element
  };

  // As they are, whatever they mean.
  static Wire plain(infiniDtype_t dtype) {
    const auto bytes = [&]() -> uint64_t {
      switch (dtype) {
        case INFINI_DTYPE_BYTE:
        case INFINI_DTYPE_BOOL:
        case INFINI_DTYPE_I8:
        case INFINI_DTYPE_U8:
        case INFINI_DTYPE_F8:
          return 1;
        case INFINI_DTYPE_I16:
        case INFINI_DTYPE_U16:
        case INFINI_DTYPE_F16:
        case INFINI_DTYPE_BF16:
        case INFINI_DTYPE_C16:
          return 2;
        case INFINI_DTYPE_I32:
        case INFINI_DTYPE_U32:
        case INFINI_DTYPE_F32:
        case INFINI_DTYPE_C32:
          return 4;
        case INFINI_DTYPE_I64:
        case INFINI_DTYPE_U64:
        case INFINI_DTYPE_F64:
        case INFINI_DTYPE_C64:
          return 8;
        case INFINI_DTYPE_C128:
          return 16;
        case INFINI_DTYPE_INVALID:
          break;
      }
      throw Error(INFINI_STATUS_BAD_TENSOR_DTYPE, "collective: unknown dtype " + std::to_string(dtype));
    }();
    return {Ccl::uint8, bytes, bytes};
  }

  // As numbers that the library can reduce with `op`, which may be replaced by what means the same.
  static Wire numeric(const char *call, infiniDtype_t dtype, infinicclReduceOp_t op, int &reduction) {
    constexpr int reductions[] = {Ccl::sum, Ccl::prod, Ccl::max, Ccl::min, Ccl::avg};
    if (op < INFINICCL_SUM || op > INFINICCL_AVG)
      throw Error(INFINI_STATUS_BAD_PARAM, std::string(call) + ": unknown reduction " + std::to_string(op));
    reduction = reductions[op];
    Wire wire = plain(dtype);
    const auto as = [&](int number, uint64_t width = 1) { return Wire{number, width, wire.bytes}; };
    switch (dtype) {
      case INFINI_DTYPE_BOOL:  // truth values: sum and max are "any", product and min are "all"
        reduction = op == INFINICCL_PROD || op == INFINICCL_MIN ? Ccl::min : Ccl::max;
        return as(Ccl::uint8);
      case INFINI_DTYPE_I8:
        return as(Ccl::int8);
      case INFINI_DTYPE_U8:
        return as(Ccl::uint8);
      case INFINI_DTYPE_I32:
        return as(Ccl::int32);
      case INFINI_DTYPE_U32:
        return as(Ccl::uint32);
      case INFINI_DTYPE_I64:
        return as(Ccl::int64);
      case INFINI_DTYPE_U64:
        return as(Ccl::uint64);
      case INFINI_DTYPE_F8:
        return as(Ccl::float8_e4m3);
      case INFINI_DTYPE_F16:
        return as(Ccl::float16);
      case INFINI_DTYPE_BF16:
        return as(Ccl::bfloat16);
      case INFINI_DTYPE_F32:
        return as(Ccl::float32);
      case INFINI_DTYPE_F64:
        return as(Ccl::float64);
      case INFINI_DTYPE_C32:
      case INFINI_DTYPE_C64:
      case INFINI_DTYPE_C128:  // sums and averages of complex numbers are those of their parts
        if (op == INFINICCL_SUM || op == INFINICCL_AVG)
          return as(dtype == INFINI_DTYPE_C32   ? Ccl::float16
                    : dtype == INFINI_DTYPE_C64 ? Ccl::float32
                                                : Ccl::float64,
                    2);
        break;
      default:
        break;
    }
    static constexpr const char *names[] = {"sum", "prod", "max", "min", "avg"};
    throw Error(INFINI_STATUS_BAD_TENSOR_DTYPE, std::string(call) + ": " + Ccl::prefix + " has no " +
                                                    names[op] + " of dtype " + std::to_string(dtype) +
                                                    " (infiniDtype_t)");
  }

  // ---- communicators
  // ---------------------------------------------------------------------------------------

  static Communicator &communicator(infinicclComm_t comm) {
    return *static_cast<Communicator *>(comm);
  }

  // The communicator, after a look at whether a rank of it died meanwhile.
  static Communicator &healthy(infinicclComm_t handle) {
    Communicator &ours = communicator(handle);
    typename Ccl::Result state{};
    INFINI_CCL(CommGetAsyncError, ours.comm, &state);
    check(static_cast<int>(state), "CommGetAsyncError", ours.comm);
    return ours;
  }

  // Take a communicator of the library's over; its device must be current.
  static infinicclComm_t adopt(Comm comm) {
    Communicator ours;
    ours.comm = comm;
    try {
      INFINI_CCL(CommCount, comm, &ours.ranks);
      INFINI_CCL(CommUserRank, comm, &ours.rank);
      cudalike::check<Sdk>(Sdk::Malloc(&ours.token, 1), "Malloc");
    } catch (...) {
      Ccl::CommDestroy(comm);
      throw;
    }
    return new Communicator(ours);
  }

  static void release(infinicclComm_t handle) {
    const Communicator ours = communicator(handle);
    delete &communicator(handle);
    const int result = static_cast<int>(Ccl::CommDestroy(ours.comm));  // waits for what it enqueued
    Sdk::Free(ours.token);
    check(result, "CommDestroy");
  }

  static infiniStatus_t unique_id(infini_unique_id *out) {
    return guard([&] {
      Ccl::load();
      UniqueId id{};
      INFINI_CCL(GetUniqueId, &id);
      out->size = sizeof(id);
      std::memcpy(out->bytes, &id, sizeof(id));
    });
  }

  static infiniStatus_t init_rank(int32_t ranks, int32_t rank, const infini_unique_id *id,
                                  infinicclComm_t *out) {
    return guard([&] {
      Ccl::load();
      if (ranks < 1 || rank < 0 || rank >= ranks)
        throw Error(INFINI_STATUS_BAD_PARAM,
                    "init_rank: there is no rank " + std::to_string(rank) + " of " + std::to_string(ranks));
      if (id->size != sizeof(UniqueId))
        throw Error(INFINI_STATUS_BAD_PARAM, "init_rank: the unique id has " + std::to_string(id->size) +
                                                 " bytes, one of " + Ccl::prefix + " has " +
                                                 std::to_string(sizeof(UniqueId)));
      UniqueId theirs;
      std::memcpy(&theirs, id->bytes, sizeof(theirs));
      Comm comm{};
      INFINI_CCL(CommInitRank, &comm, ranks, theirs, rank);
      *out = adopt(comm);
    });
  }

  static infiniStatus_t init_all(int32_t count, const int32_t *devices, infinicclComm_t *out) {
    return guard([&] {
      Ccl::load();
      if (count < 1) throw Error(INFINI_STATUS_BAD_PARAM, "init_all: " + std::to_string(count) + " devices");
      std::vector<Comm> comms(static_cast<size_t>(count));
      const std::vector<int> list(devices, devices + count);
      INFINI_CCL(CommInitAll, comms.data(), count, list.data());
      int32_t done = 0;
      try {
        for (; done < count; ++done) {
          const DeviceGuard<Sdk> current(list[static_cast<size_t>(done)]);
          out[done] = adopt(comms[static_cast<size_t>(done)]);
        }
      } catch (...) {
        for (int32_t i = 0; i < done; ++i) release(out[i]);
        for (int32_t i = done + 1; i < count; ++i) Ccl::CommDestroy(comms[static_cast<size_t>(i)]);
        throw;
      }
    });
  }

  static infiniStatus_t destroy(infinicclComm_t comm) {
    return guard([&] { release(comm); });
  }

  static infiniStatus_t group_start() {
    return guard([] {
      Ccl::load();
      INFINI_CCL(GroupStart);
      ++group.depth;
    });
  }

  static infiniStatus_t group_end() {
    return guard([] {
      Ccl::load();
      const int result = static_cast<int>(Ccl::GroupEnd());
      if (--group.depth <= 0) group.leave();
      check(result, "GroupEnd");
    });
  }

  // ---- calls
  // -------------------------------------------------------------------------------------------------

  static infiniStatus_t all_reduce(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                                   infinicclReduceOp_t op, infinicclComm_t comm, infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      int reduction = 0;
      const Wire wire = numeric("all_reduce", dtype, op, reduction);
      INFINI_CCL(AllReduce, send, receive, count * wire.width, wire.number, reduction, ours.comm,
                 static_cast<Stream>(stream));
    });
  }

  static infiniStatus_t reduce(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                               infinicclReduceOp_t op, int32_t root, infinicclComm_t comm,
                               infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      int reduction = 0;
      const Wire wire = numeric("reduce", dtype, op, reduction);
      INFINI_CCL(Reduce, send, receive, count * wire.width, wire.number, reduction, root, ours.comm,
                 static_cast<Stream>(stream));
    });
  }

  static infiniStatus_t broadcast(const void *send, void *receive, uint64_t count, infiniDtype_t dtype,
                                  int32_t root, infinicclComm_t comm, infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      const Wire wire = plain(dtype);
      INFINI_CCL(Broadcast, send, receive, count * wire.width, wire.number, root, ours.comm,
                 static_cast<Stream>(stream));
    });
  }

  static infiniStatus_t all_gather(const void *send, void *receive, uint64_t send_count, infiniDtype_t dtype,
                                   infinicclComm_t comm, infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      const Wire wire = plain(dtype);
      INFINI_CCL(AllGather, send, receive, send_count * wire.width, wire.number, ours.comm,
                 static_cast<Stream>(stream));
    });
  }

  // Each rank broadcasts its share.
  static infiniStatus_t all_gather_v(const void *send, void *receive, const uint64_t *receive_counts,
                                     infiniDtype_t dtype, infinicclComm_t comm, infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      const Wire wire = plain(dtype);
      grouped([&] {
        char *target = static_cast<char *>(receive);
        for (int rank = 0; rank < ours.ranks; ++rank) {
          const uint64_t count = receive_counts[rank];
          if (count > 0)
            INFINI_CCL(Broadcast, rank == ours.rank ? send : target, target, count * wire.width, wire.number,
                       rank, ours.comm, static_cast<Stream>(stream));
          target += count * wire.bytes;
        }
      });
    });
  }

  static infiniStatus_t reduce_scatter(const void *send, void *receive, uint64_t receive_count,
                                       infiniDtype_t dtype, infinicclReduceOp_t op, infinicclComm_t comm,
                                       infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      int reduction = 0;
      const Wire wire = numeric("reduce_scatter", dtype, op, reduction);
      INFINI_CCL(ReduceScatter, send, receive, receive_count * wire.width, wire.number, reduction, ours.comm,
                 static_cast<Stream>(stream));
    });
  }

  // Each rank is the root of the reduction of its share.
  static infiniStatus_t reduce_scatter_v(const void *send, void *receive, const uint64_t *receive_counts,
                                         infiniDtype_t dtype, infinicclReduceOp_t op, infinicclComm_t comm,
                                         infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      int reduction = 0;
      const Wire wire = numeric("reduce_scatter_v", dtype, op, reduction);
      grouped([&] {
        const char *source = static_cast<const char *>(send);
        for (int rank = 0; rank < ours.ranks; ++rank) {
          const uint64_t count = receive_counts[rank];
          if (count > 0)
            INFINI_CCL(Reduce, source, rank == ours.rank ? receive : nullptr, count * wire.width, wire.number,
                       reduction, rank, ours.comm, static_cast<Stream>(stream));
          source += count * wire.bytes;
        }
      });
    });
  }

  static infiniStatus_t all_to_all(const void *send, void *receive, uint64_t count_per_peer,
                                   infiniDtype_t dtype, infinicclComm_t comm, infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      const Wire wire = plain(dtype);
      const uint64_t bytes = static_cast<uint64_t>(ours.ranks) * count_per_peer * wire.bytes;
      if (bytes == 0) return;
      if (send == receive) send = copied(send, bytes, static_cast<Stream>(stream));
      grouped([&] {
        for (int peer = 0; peer < ours.ranks; ++peer) {
          const uint64_t offset = static_cast<uint64_t>(peer) * count_per_peer * wire.bytes;
          INFINI_CCL(Send, static_cast<const char *>(send) + offset, count_per_peer * wire.width, wire.number,
                     peer, ours.comm, static_cast<Stream>(stream));
          INFINI_CCL(Recv, static_cast<char *>(receive) + offset, count_per_peer * wire.width, wire.number,
                     peer, ours.comm, static_cast<Stream>(stream));
        }
      });
    });
  }

  static infiniStatus_t send(const void *buffer, uint64_t count, infiniDtype_t dtype, int32_t peer,
                             infinicclComm_t comm, infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      const Wire wire = plain(dtype);
      INFINI_CCL(Send, buffer, count * wire.width, wire.number, peer, ours.comm, static_cast<Stream>(stream));
    });
  }

  static infiniStatus_t receive(void *buffer, uint64_t count, infiniDtype_t dtype, int32_t peer,
                                infinicclComm_t comm, infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      const Wire wire = plain(dtype);
      INFINI_CCL(Recv, buffer, count * wire.width, wire.number, peer, ours.comm, static_cast<Stream>(stream));
    });
  }

  static infiniStatus_t barrier(infinicclComm_t comm, infinirtStream_t stream) {
    return guard([&] {
      const Communicator &ours = healthy(comm);
      INFINI_CCL(AllReduce, ours.token, ours.token, 1, Ccl::uint8, Ccl::max, ours.comm,
                 static_cast<Stream>(stream));
    });
  }

#undef INFINI_CCL

 public:
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

}  // namespace infini::cudalike
