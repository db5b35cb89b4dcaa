// rendezvous.cpp -- a vendor's id of 4108 bytes goes from the rank that made it to two processes and a
// thread; a stranger, whoever comes late and whoever brings another id get nothing but words.
#include <infinicore/rendezvous.hpp>

#include <sys/wait.h>

#include <cstdio>
#include <numeric>

using infini::rendezvous::offer;
using infini::rendezvous::take;

namespace {

std::vector<char> content(4108);

bool fetched(const infini_unique_id &id) {
  std::vector<char> found(content.size());
  take(id, 3, found.data(), found.size());
  return found == content;
}

void refused(const infini_unique_id &id) {
  try {
    std::printf("%s\n", fetched(id) ? "given" : "something else");
  } catch (const infini::Error &error) {
    std::printf("%d %.60s\n", int(error.status), error.what());
  }
}

}  // namespace

int main() {
  std::iota(content.begin(), content.end(), char(1));
  infini_unique_id id = offer(content.data(), content.size());
  // As infiniccl carries it: 128 bytes, zeros at the end.
  std::printf("fits %d\n", id.size <= infini::rendezvous::kPublicBytes);
  id.size = infini::rendezvous::kPublicBytes;

  setenv("INFINICORE_CCL_TIMEOUT", "0.3", 1);
  infini_unique_id stranger = id;
  stranger.bytes[offsetof(infini::rendezvous::Ticket, token)] ^= 1;
  refused(stranger);
  setenv("INFINICORE_CCL_TIMEOUT", "60", 1);

  for (int rank = 1; rank < 3; ++rank)
    if (fork() == 0) _exit(fetched(id) ? 0 : 1);
  bool all = false;
  std::thread([&] { all = fetched(id); }).join();
  for (int rank = 1, status = 0; rank < 3; ++rank) all &= wait(&status) > 0 && status == 0;
  std::printf("all %d\n", all);

  setenv("INFINICORE_CCL_TIMEOUT", "0.3", 1);
  refused(id);
  id.bytes[0] = 'x';
  refused(id);
}
