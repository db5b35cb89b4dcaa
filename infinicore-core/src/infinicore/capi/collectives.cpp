// capi/collectives.cpp -- libinfiniccl's public functions: each goes to the collectives table of the backend
// that the communicator belongs to.
#include "registry.h"

#include <infiniccl.h>

#include <cstring>
#include <new>
#include <string>

namespace {

// What infinicclComm_t points at.
struct Communicator {
  infini_entry *entry;
  int32_t device;
  const infini_ccl *table;
  infinicclComm_t native;
  int32_t ranks;
};

const infini_registry_api &registry() {
  static const infini_registry_api *const api = infini_registry();
  return *api;
}

infiniStatus_t fail(infiniStatus_t status, const std::string &message) {
  return registry().host->fail(status, message.c_str());
}

infiniStatus_t null_pointer(const char *function, const char *argument) {
  return fail(INFINI_STATUS_NULL_POINTER, std::string(function) + ": " + argument + " is NULL");
}

// The table of a backend, if it has `member`; NULL with a message otherwise.
template <class Member>
const infini_ccl *table_with(const char *function, infini_entry *entry, Member infini_ccl::*member) {
  const infini_backend *backend = registry().table(entry);
  if (backend->ccl != nullptr && backend->ccl->*member != nullptr) return backend->ccl;
  fail(INFINI_STATUS_NOT_IMPLEMENTED, std::string(function) + ": backend '" + backend->name + "' has " +
                                          (backend->ccl ? "no such collective" : "no collectives"));
  return nullptr;
}

// Call a member of the communicator's table with its device active, and this thread's own again afterwards.
template <class Member, class Call>
infiniStatus_t on(const char *function, infinicclComm_t comm, Member infini_ccl::*member, Call &&call) {
  if (comm == nullptr) return null_pointer(function, "comm");
  const auto &communicator = *static_cast<const Communicator *>(comm);
  const infini_ccl *table = table_with(function, communicator.entry, member);
  if (table == nullptr) return INFINI_STATUS_NOT_IMPLEMENTED;
  infini_entry *mine;
  int32_t my_device;
  if (auto status = registry().current(&mine, &my_device)) return status;
  const bool other = mine != communicator.entry || my_device != communicator.device;
  if (other)
    if (auto status = registry().activate(communicator.entry, communicator.device)) return status;
  const infiniStatus_t status = call(table->*member, communicator);
  if (other) {
    const std::string message = status == INFINI_STATUS_SUCCESS ? "" : registry().host->message();
    registry().activate(mine, my_device);
    if (status != INFINI_STATUS_SUCCESS) fail(status, message);
  }
  return status;
}

// The ranks' counts as the table wants them.
infiniStatus_t check_counts(const char *function, infinicclComm_t comm, const size_t *counts, int nranks) {
  static_assert(sizeof(size_t) == sizeof(uint64_t), "counts are passed on as they are");
  if (comm == nullptr) return null_pointer(function, "comm");
  if (counts == nullptr) return null_pointer(function, "counts");
  const int32_t ranks = static_cast<const Communicator *>(comm)->ranks;
  if (nranks == ranks) return INFINI_STATUS_SUCCESS;
  return fail(INFINI_STATUS_BAD_PARAM, std::string(function) + ": nranks=" + std::to_string(nranks) +
                                           ", but the communicator has " + std::to_string(ranks) + " ranks");
}

const uint64_t *as_counts(const size_t *counts) {
  return reinterpret_cast<const uint64_t *>(counts);
}

}  // namespace

extern "C" {

infiniStatus_t infinicclCommInitAll(infiniDevice_t device_type, infinicclComm_t *comms, int ndevice,
                                    const int *device_ids) {
  if (comms == nullptr) return null_pointer(__func__, "comms");
  if (device_ids == nullptr) return null_pointer(__func__, "device_ids");
  if (ndevice < 1)
    return fail(INFINI_STATUS_BAD_PARAM,
                "infinicclCommInitAll: ndevice=" + std::to_string(ndevice) + ", but it must be at least 1");
  infini_entry *mine;
  int32_t my_device;
  infiniStatus_t status = registry().current(&mine, &my_device);
  if (status != INFINI_STATUS_SUCCESS) return status;
  infini_entry *entry = registry().by_device(int32_t(device_type), &status);
  if (entry == nullptr) return status;
  const infini_ccl *table = table_with(__func__, entry, &infini_ccl::init_all);
  if (table == nullptr) return INFINI_STATUS_NOT_IMPLEMENTED;
  status = table->init_all(ndevice, device_ids, comms);
  for (int i = 0; i < ndevice && status == INFINI_STATUS_SUCCESS; ++i)
    comms[i] = new Communicator{entry, device_ids[i], table, comms[i], ndevice};
  const std::string message = status == INFINI_STATUS_SUCCESS ? "" : registry().host->message();
  registry().activate(mine, my_device);  // making communicators may have left another one active
  return status == INFINI_STATUS_SUCCESS ? status : fail(status, message);
}

infiniStatus_t infinicclGetUniqueId(infinicclUniqueId_t *unique_id) {
  if (unique_id == nullptr) return null_pointer(__func__, "unique_id");
  infini_entry *entry;
  int32_t device;
  if (auto status = registry().current(&entry, &device)) return status;
  const infini_ccl *table = table_with(__func__, entry, &infini_ccl::unique_id);
  if (table == nullptr) return INFINI_STATUS_NOT_IMPLEMENTED;
  infini_unique_id id{};
  if (auto status = table->unique_id(&id)) return status;
  if (id.size > sizeof unique_id->internal)
    return fail(INFINI_STATUS_INTERNAL_ERROR,
                "infinicclGetUniqueId: the plug-in's id has " + std::to_string(id.size) +
                    " bytes, of which the C API carries " + std::to_string(sizeof unique_id->internal));
  std::memset(unique_id->internal, 0, sizeof unique_id->internal);
  std::memcpy(unique_id->internal, id.bytes, id.size);
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t infinicclCommInitRank(infinicclComm_t *comm, int nranks, infinicclUniqueId_t comm_id,
                                     int rank) {
  if (comm == nullptr) return null_pointer(__func__, "comm");
  if (nranks < 1 || rank < 0 || rank >= nranks)
    return fail(INFINI_STATUS_BAD_PARAM, "infinicclCommInitRank: rank=" + std::to_string(rank) +
                                             " is none of nranks=" + std::to_string(nranks));
  infini_entry *entry;
  int32_t device;
  if (auto status = registry().current(&entry, &device)) return status;
  const infini_ccl *table = table_with(__func__, entry, &infini_ccl::init_rank);
  if (table == nullptr) return INFINI_STATUS_NOT_IMPLEMENTED;
  // The public id does not say how much of it the plug-in's own takes: it gets all, zeros at the end.
  infini_unique_id id{};
  id.size = sizeof comm_id.internal;
  std::memcpy(id.bytes, comm_id.internal, sizeof comm_id.internal);
  infinicclComm_t native = nullptr;
  if (auto status = table->init_rank(nranks, rank, &id, &native)) return status;
  *comm = new Communicator{entry, device, table, native, nranks};
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t infinicclCommDestroy(infinicclComm_t comm) {
  if (comm == nullptr) return INFINI_STATUS_SUCCESS;
  const infiniStatus_t status =
      on(__func__, comm, &infini_ccl::destroy, [](auto destroy, auto &c) { return destroy(c.native); });
  delete static_cast<Communicator *>(comm);
  return status;
}

infiniStatus_t infinicclGroupStart(infinicclComm_t comm) {
  return on(__func__, comm, &infini_ccl::group_start, [](auto start, auto &) { return start(); });
}

infiniStatus_t infinicclGroupEnd(infinicclComm_t comm) {
  return on(__func__, comm, &infini_ccl::group_end, [](auto end, auto &) { return end(); });
}

infiniStatus_t infinicclAllReduce(void *sendbuf, void *recvbuf, size_t count, infiniDtype_t dataype,
                                  infinicclReduceOp_t op, infinicclComm_t comm, infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::all_reduce,
            [&](auto call, auto &c) { return call(sendbuf, recvbuf, count, dataype, op, c.native, stream); });
}

infiniStatus_t infinicclReduce(const void *sendbuf, void *recvbuf, size_t count, infiniDtype_t datatype,
                               infinicclReduceOp_t op, int root, infinicclComm_t comm,
                               infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::reduce, [&](auto call, auto &c) {
    return call(sendbuf, recvbuf, count, datatype, op, root, c.native, stream);
  });
}

infiniStatus_t infinicclBroadcast(const void *sendbuf, void *recvbuf, size_t count, infiniDtype_t datatype,
                                  int root, infinicclComm_t comm, infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::broadcast, [&](auto call, auto &c) {
    return call(sendbuf, recvbuf, count, datatype, root, c.native, stream);
  });
}

infiniStatus_t infinicclSend(const void *sendbuf, size_t count, infiniDtype_t datatype, int peer,
                             infinicclComm_t comm, infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::send,
            [&](auto call, auto &c) { return call(sendbuf, count, datatype, peer, c.native, stream); });
}

infiniStatus_t infinicclRecv(void *recvbuf, size_t count, infiniDtype_t datatype, int peer,
                             infinicclComm_t comm, infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::receive,
            [&](auto call, auto &c) { return call(recvbuf, count, datatype, peer, c.native, stream); });
}

infiniStatus_t infinicclAllGather(void *sendbuf, void *recvbuf, size_t send_count, infiniDtype_t dataype,
                                  infinicclComm_t comm, infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::all_gather, [&](auto call, auto &c) {
    return call(sendbuf, recvbuf, send_count, dataype, c.native, stream);
  });
}

infiniStatus_t infinicclAllGatherV(void *sendbuf, void *recvbuf, const size_t *recv_counts, int nranks,
                                   infiniDtype_t dataype, infinicclComm_t comm, infinirtStream_t stream) {
  if (auto status = check_counts(__func__, comm, recv_counts, nranks)) return status;
  return on(__func__, comm, &infini_ccl::all_gather_v, [&](auto call, auto &c) {
    return call(sendbuf, recvbuf, as_counts(recv_counts), dataype, c.native, stream);
  });
}

infiniStatus_t infinicclReduceScatter(void *sendbuf, void *recvbuf, size_t recv_count, infiniDtype_t dataype,
                                      infinicclReduceOp_t op, infinicclComm_t comm, infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::reduce_scatter, [&](auto call, auto &c) {
    return call(sendbuf, recvbuf, recv_count, dataype, op, c.native, stream);
  });
}

infiniStatus_t infinicclReduceScatterV(void *sendbuf, void *recvbuf, const size_t *send_counts, int nranks,
                                       infiniDtype_t dataype, infinicclReduceOp_t op, infinicclComm_t comm,
                                       infinirtStream_t stream) {
  if (auto status = check_counts(__func__, comm, send_counts, nranks)) return status;
  return on(__func__, comm, &infini_ccl::reduce_scatter_v, [&](auto call, auto &c) {
    return call(sendbuf, recvbuf, as_counts(send_counts), dataype, op, c.native, stream);
  });
}

infiniStatus_t infinicclAllToAll(const void *sendbuf, void *recvbuf, size_t count_per_peer,
                                 infiniDtype_t datatype, infinicclComm_t comm, infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::all_to_all, [&](auto call, auto &c) {
    return call(sendbuf, recvbuf, count_per_peer, datatype, c.native, stream);
  });
}

infiniStatus_t infinicclBarrier(infinicclComm_t comm, infinirtStream_t stream) {
  return on(__func__, comm, &infini_ccl::barrier, [&](auto call, auto &c) { return call(c.native, stream); });
}
}
