// sim/operators.cpp -- the operators of the simulated accelerator: the CPU backend's kernels on device
// memory. A call copies its arguments, swaps device addresses for their aliases, and joins the queue of its
// stream.
#include "device.hpp"

#include <infinicore/operators.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory_resource>
#include <utility>

namespace infini::sim {

namespace {

// An operator, and what stands in each of its slots: t tensor, l list of tensors, n list of ints, others a
// value.
struct Signature {
  const char *name;
  uint64_t fingerprint;
  const char *slots;
};

constexpr Signature signatures[] = {
#define SIGNATURE(name) {#name, INFINI_FINGERPRINT_##name, INFINI_SLOTS_##name},
    INFINI_OPERATORS(SIGNATURE)
#undef SIGNATURE
};
constexpr size_t COUNT = std::size(signatures);

// The CPU backend's entry per signature; NULL where it has none.
const infini_operator *cpu_operators[COUNT];

// A private copy of one call's arguments: the caller's are only valid during the call.
class Arguments {
 public:
  Arguments(const char *kinds, const infini_slot *slots, const Memory &memory)
      : memory(memory), slots_(keep(slots, static_cast<int64_t>(std::strlen(kinds)))) {
    for (int64_t i = 0; kinds[i] != '\0'; ++i) {
      infini_slot &slot = slots_[i];
      if (kinds[i] == 't' && slot.tensor != nullptr) {
        slot.tensor = keep(tensor(*slot.tensor));
      } else if (kinds[i] == 'l' && slot.tensors != nullptr) {
        infini_tensor_list list = *slot.tensors;
        infini_tensor *items = keep(list.items, list.count);
        std::transform(items, items + list.count, items,
                       [&](const infini_tensor &item) { return tensor(item); });
        list.items = items;
        slot.tensors = keep(list);
      } else if (kinds[i] == 'n' && slot.ints != nullptr) {
        slot.ints = keep(infini_int_list{slot.ints->count, keep(slot.ints->items, slot.ints->count)});
      }
    }
  }

  const infini_slot *slots() const { return slots_; }

 private:
  template <class T> T *keep(const T *items, int64_t count) {
    T *copy = static_cast<T *>(arena.allocate(sizeof(T) * static_cast<size_t>(count), alignof(T)));
    return std::copy_n(items, count, copy) - count;
  }
  template <class T> T *keep(const T &item) { return keep(&item, 1); }

  infini_tensor tensor(infini_tensor view) {
    view.shape = keep(view.shape, view.ndim);
    view.strides = keep(view.strides, view.ndim);
    int64_t low = 0, high = 1;  // elements from and to which the view reaches
    for (int32_t i = 0; i < view.ndim; ++i) {
      if (view.shape[i] == 0) {
        view.data = nullptr;
        return view;
      }
      const int64_t reach = (view.shape[i] - 1) * view.strides[i];
      (reach < 0 ? low : high) += reach;
    }
    const int64_t size = static_cast<int64_t>(element_bytes(view.dtype));
    char *lowest = static_cast<char *>(view.data) + low * size;
    view.data =
        static_cast<char *>(memory.reach(lowest, static_cast<uint64_t>((high - low) * size))) - low * size;
    return view;
  }

  const Memory &memory;
  std::pmr::monotonic_buffer_resource arena{512};
  infini_slot *slots_;
};

// The CPU backend's descriptor. Queued work shares it, so core may destroy its handle at any time.
struct Kernel {
  const infini_operator &cpu;
  const infini_descriptor descriptor;

  Kernel(const infini_operator &cpu, infini_descriptor descriptor) : cpu(cpu), descriptor(descriptor) {}
  Kernel(const Kernel &) = delete;
  ~Kernel() { cpu.destroy(descriptor); }
};

struct Handle {
  Vendor &vendor;
  const char *slots;
  std::shared_ptr<Kernel> kernel;
};

// What a kernel just said on this thread about its failure, for the thread that will synchronise.
std::string message_of(const char *name) {
  const std::string said = INFINI_HAS(infini_host, host, message) ? host->message() : "its kernel failed";
  return said.rfind(std::string(name) + ": ", 0) == 0 ? said : std::string(name) + ": " + said;
}

Handle &handle_of(infini_descriptor descriptor) {
  return *reinterpret_cast<Handle *>(descriptor);
}

// The only phase that is not told its operator: one instance per vendor and signature.
template <int V, size_t I> infiniStatus_t create(const infini_slot *slots, infini_descriptor *out) {
  const infini_operator *cpu = cpu_operators[I];
  if (cpu == nullptr)
    return host->fail(INFINI_STATUS_NOT_IMPLEMENTED,
                      "the cpu backend, whose kernels this device runs, has none");
  infini_descriptor descriptor;
  if (const infiniStatus_t status = cpu->create(slots, &descriptor); status != INFINI_STATUS_SUCCESS)
    return status;  // with the kernel's message
  return guard([&] {
    auto kernel = std::make_shared<Kernel>(*cpu, descriptor);
    *out =
        reinterpret_cast<infini_descriptor>(new Handle{vendors[V], signatures[I].slots, std::move(kernel)});
  });
}

infiniStatus_t workspace(infini_descriptor descriptor, uint64_t *bytes) {
  const Kernel &kernel = *handle_of(descriptor).kernel;
  return kernel.cpu.workspace(kernel.descriptor, bytes);
}

infiniStatus_t execute(infini_descriptor descriptor, void *workspace, uint64_t bytes,
                       const infini_slot *slots, infinirtStream_t stream) {
  return guard([&] {
    const Handle &handle = handle_of(descriptor);
    Stream &queue = handle.vendor.stream(stream);
    Device &device = queue.device;  // a graph may outlive the stream that it was captured on, no device
    auto arguments = std::make_shared<Arguments>(handle.slots, slots, device.memory);
    void *scratch = bytes > 0 ? device.memory.reach(workspace, bytes) : nullptr;
    queue.enqueue([&device, kernel = handle.kernel, arguments = std::move(arguments), scratch,
                   bytes](const Failure &earlier) {
      if (earlier) return;
      const auto start = Clock::now();
      const auto status =
          kernel->cpu.execute(kernel->descriptor, scratch, bytes, arguments->slots(), nullptr);
      if (status != INFINI_STATUS_SUCCESS) throw Error(status, message_of(kernel->cpu.name));
      device.kernel_nanoseconds += (Clock::now() - start) / std::chrono::nanoseconds(1);
    });
  });
}

void destroy(infini_descriptor descriptor) {
  delete &handle_of(descriptor);
}

using Table = std::array<infini_operator, COUNT>;

template <int V, size_t... I> constexpr Table table(std::index_sequence<I...>) {
  return {{{INFINI_HEADER(infini_operator), signatures[I].name, signatures[I].fingerprint, create<V, I>,
            workspace, execute, destroy}...}};
}

constexpr Table tables[VENDORS] = {table<0>(std::make_index_sequence<COUNT>()),
                                   table<1>(std::make_index_sequence<COUNT>())};

}  // namespace

std::vector<const infini_operator *> operator_table(int vendor) {
  std::vector<const infini_operator *> all(COUNT);
  std::transform(tables[vendor].begin(), tables[vendor].end(), all.begin(),
                 [](auto &entry) { return &entry; });
  return all;
}

void open_operators(const infini_backend &cpu) {
  static std::once_flag once;  // the vendors share them, and one may be at work while another is opened
  std::call_once(once, [&] {
    for (uint64_t i = 0; i < cpu.operator_count; ++i)
      for (size_t index = 0; index < COUNT; ++index)
        if (std::strcmp(signatures[index].name, cpu.operators[i]->name) == 0 &&
            signatures[index].fingerprint == cpu.operators[i]->fingerprint)
          cpu_operators[index] = cpu.operators[i];
  });
}

}  // namespace infini::sim
