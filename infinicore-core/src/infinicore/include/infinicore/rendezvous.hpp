// infinicore/rendezvous.hpp -- for plug-ins whose vendor's unique id does not fit infinicclUniqueId_t: the id
// that users carry says where the rank that made it hands out the vendor's own, and the others fetch it
// there.
//
//   unique_id:  HcclRootInfo info; HcclGetRootInfo(&info);
//               *out = infini::rendezvous::offer(&info, sizeof info);
//   init_rank:  HcclRootInfo info;
//               infini::rendezvous::take(*id, ranks, &info, sizeof info);
#pragma once
#include "timeout.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace infini::rendezvous {

constexpr size_t kPublicBytes = 128;  // of infinicclUniqueId_t

// What the public id holds.
struct Ticket {
  char magic[4] = {'I', 'N', 'F', 'R'};
  uint16_t port = 0;  // in network order, as the addresses: IPv6, or IPv4 mapped into it
  uint16_t addresses = 0;
  char token[16] = {};
  in6_addr address[6] = {};
};
static_assert(sizeof(Ticket) <= kPublicBytes);

namespace detail {

using Clock = std::chrono::steady_clock;

// What a rank says before it is given anything.
struct Request {
  char token[16];
  int32_t ranks;
};

class Socket {
  int file_;

 public:
  explicit Socket(int file) : file_(file) {}
  Socket(Socket &&other) noexcept : file_(std::exchange(other.file_, -1)) {}
  Socket(const Socket &) = delete;
  Socket &operator=(const Socket &) = delete;
  ~Socket() {
    if (file_ >= 0) close(file_);
  }
  int get() const { return file_; }
  explicit operator bool() const { return file_ >= 0; }

  // Whether it became readable or writable in time.
  bool wait(short events, Clock::time_point deadline) const {
    for (;;) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left <= 0) return false;
      pollfd entry = {file_, events, 0};
      const int found = poll(&entry, 1, int(std::min<long long>(left, 60'000)));
      if (found > 0) return true;
      if (found < 0 && errno != EINTR) return false;
    }
  }

  // Move all bytes, or return false.
  bool send_all(const void *data, size_t size, Clock::time_point deadline) const {
    for (auto next = static_cast<const char *>(data); size > 0;) {
      if (!wait(POLLOUT, deadline)) return false;
      const ssize_t moved = ::send(file_, next, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (moved < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (moved <= 0) return false;
      next += moved, size -= size_t(moved);
    }
    return true;
  }
  bool receive_all(void *data, size_t size, Clock::time_point deadline) const {
    for (auto next = static_cast<char *>(data); size > 0;) {
      if (!wait(POLLIN, deadline)) return false;
      const ssize_t moved = ::recv(file_, next, size, MSG_DONTWAIT);
      if (moved < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (moved <= 0) return false;
      next += moved, size -= size_t(moved);
    }
    return true;
  }
};

[[noreturn]] inline void fail(const std::string &what) {
  throw Error(INFINI_STATUS_INTERNAL_ERROR, "unique_id: " + what + ": " + std::strerror(errno));
}

// A socket that listens at a port of its own; IPv6 takes IPv4 in, where the system has it.
inline Socket listening(uint16_t *port) {
  for (const int family : {AF_INET6, AF_INET}) {
    Socket made(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!made) continue;
    sockaddr_storage where = {};
    where.ss_family = sa_family_t(family);
    socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    const int no = 0;
    if (family == AF_INET6) setsockopt(made.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(made.get(), reinterpret_cast<sockaddr *>(&where), size) != 0 || listen(made.get(), 64) != 0 ||
        getsockname(made.get(), reinterpret_cast<sockaddr *>(&where), &size) != 0)
      continue;
    *port = family == AF_INET6 ? reinterpret_cast<sockaddr_in6 &>(where).sin6_port
                               : reinterpret_cast<sockaddr_in &>(where).sin_port;
    return made;
  }
  fail("no socket");
}

inline in6_addr mapped(in_addr address) {
  in6_addr made = {};
  made.s6_addr[10] = made.s6_addr[11] = 0xff;
  std::memcpy(&made.s6_addr[12], &address, sizeof address);
  return made;
}

// Addresses of this host, those first that other hosts reach.
inline std::vector<in6_addr> addresses() {
  std::vector<std::pair<int, in6_addr>> found;
  ifaddrs *all = nullptr;
  if (getifaddrs(&all) != 0) fail("no network addresses");
  for (const ifaddrs *one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || !(one->ifa_flags & IFF_UP)) continue;
    const int here = one->ifa_flags & IFF_LOOPBACK ? 2 : 0;
    if (one->ifa_addr->sa_family == AF_INET)
      found.emplace_back(here, mapped(reinterpret_cast<sockaddr_in *>(one->ifa_addr)->sin_addr));
    if (one->ifa_addr->sa_family != AF_INET6) continue;
    const in6_addr &address = reinterpret_cast<sockaddr_in6 *>(one->ifa_addr)->sin6_addr;
    // One that holds on its own link only would need the link's name too.
    if (!IN6_IS_ADDR_LINKLOCAL(&address)) found.emplace_back(here + 1, address);
  }
  freeifaddrs(all);
  std::stable_sort(found.begin(), found.end(), [](auto &a, auto &b) { return a.first < b.first; });
  std::vector<in6_addr> sorted;
  for (const auto &[order, address] : found) sorted.push_back(address);
  return sorted;
}

inline Socket connected(const in6_addr &address, uint16_t port, Clock::time_point deadline) {
  sockaddr_in6 six = {};
  six.sin6_family = AF_INET6, six.sin6_port = port, six.sin6_addr = address;
  sockaddr_in four = {};
  four.sin_family = AF_INET, four.sin_port = port;
  std::memcpy(&four.sin_addr, &address.s6_addr[12], sizeof four.sin_addr);
  const bool is_four = IN6_IS_ADDR_V4MAPPED(&address);
  const auto where = is_four ? reinterpret_cast<sockaddr *>(&four) : reinterpret_cast<sockaddr *>(&six);
  Socket made(socket(where->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) return made;
  int error = connect(made.get(), where, is_four ? sizeof four : sizeof six) == 0 ? 0 : errno;
  if (error == EINPROGRESS && made.wait(POLLOUT, deadline)) {
    socklen_t size = sizeof error;
    getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  return error == 0 ? std::move(made) : Socket(-1);
}

// Give `content` to each rank that shows the token, until all have it or `deadline` has come.
inline void serve(Socket door, std::vector<char> token, std::vector<char> content,
                  Clock::time_point deadline) {
  for (int32_t served = 0, ranks = 1; served < ranks && door.wait(POLLIN, deadline);) {
    Socket guest(accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!guest) continue;
    const auto soon = std::min(deadline, Clock::now() + std::chrono::seconds(5));
    Request request;
    if (!guest.receive_all(&request, sizeof request, soon) ||
        std::memcmp(request.token, token.data(), token.size()) != 0)
      continue;
    ranks = std::max(ranks, request.ranks);
    served += guest.send_all(content.data(), content.size(), soon);
  }
}

}  // namespace detail

// The public id of a group whose vendor's id is `content`, which a thread of this process hands out from now
// on: once to each rank, and no longer than INFINICORE_CCL_TIMEOUT seconds (600).
inline infini_unique_id offer(const void *content, size_t size) {
  Ticket ticket;
  if (getrandom(ticket.token, sizeof ticket.token, 0) != sizeof ticket.token)
    detail::fail("no random numbers");
  detail::Socket door = detail::listening(&ticket.port);
  for (const in6_addr &address : detail::addresses())
    if (ticket.addresses < std::size(ticket.address)) ticket.address[ticket.addresses++] = address;
  const auto bytes = static_cast<const char *>(content);
  std::thread(detail::serve, std::move(door), std::vector<char>(ticket.token, std::end(ticket.token)),
              std::vector<char>(bytes, bytes + size), detail::Clock::now() + ccl_timeout())
      .detach();
  infini_unique_id id = {};
  id.size = sizeof ticket;
  std::memcpy(id.bytes, &ticket, sizeof ticket);
  return id;
}

// Fetch what the rank that made `id` offered; every one of `ranks` ranks does so once. Throws Error.
inline void take(const infini_unique_id &id, int32_t ranks, void *content, size_t size) {
  Ticket ticket;
  if (id.size >= sizeof ticket) std::memcpy(&ticket, id.bytes, sizeof ticket);
  if (id.size < sizeof ticket || std::memcmp(ticket.magic, Ticket().magic, sizeof ticket.magic) != 0 ||
      ticket.addresses > std::size(ticket.address))
    throw Error(INFINI_STATUS_BAD_PARAM, "init_rank: the unique id was not made by this backend");
  detail::Request request = {{}, ranks};
  std::memcpy(request.token, ticket.token, sizeof request.token);
  const auto deadline = detail::Clock::now() + ccl_timeout();
  do {
    for (int i = 0; i < ticket.addresses; ++i) {
      // An address may lead nowhere: the next one is tried soon, and this one again later.
      const auto soon = std::min(deadline, detail::Clock::now() + std::chrono::seconds(5));
      const detail::Socket host = detail::connected(ticket.address[i], ticket.port, soon);
      if (host && host.send_all(&request, sizeof request, soon) && host.receive_all(content, size, soon))
        return;
    }
    if (interrupted())
      throw Error(INFINI_STATUS_TIMEOUT, "init_rank: the wait for the first rank was interrupted");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  } while (detail::Clock::now() < deadline);
  throw Error(INFINI_STATUS_TIMEOUT, "init_rank: the rank that made the unique id does not answer at port " +
                                         std::to_string(ntohs(ticket.port)) + " of any of its " +
                                         std::to_string(ticket.addresses) + " addresses");
}

}  // namespace infini::rendezvous
