// capi/operator.cpp -- the life of an operator's descriptor in C: create, workspace, execute, destroy.
#include "operator.hpp"

#include "registry.h"

#include <infiniop/tensor_descriptor.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>

namespace infini::capi {
class Call;
}

using infini::capi::Given;
using infini::capi::Layout;
using infini::capi::Operator;

struct InfiniopHandle {
  int device, device_id;
  infini_entry *entry;
};

struct InfiniopTensorDescriptor {
  Layout layout;
};

struct InfiniopDescriptor {
  int device, device_id;
  infini_entry *entry;
  const Operator *op;
  infini_operator kernel;  // a copy: a kernel that is put in its place later does not know this plan
  infini_descriptor plan;
  uint64_t workspace;
  std::vector<Given> given;                           // as create was called
  std::vector<Given> resolved;                        // what followed from it
  std::shared_ptr<const infini::capi::Call> planned;  // what follows, as the kernel wants it, without memory
  bool late;                                          // something follows only from what execute is given
  // A graph that recorded a call keeps the descriptor until it dies.
  std::atomic<int> users;
};

namespace infini::capi {
namespace {

const infini_registry_api &registry() {
  static const infini_registry_api *const api = infini_registry();
  return *api;
}

// Run body, turning every exception into a status with a message.
template <class Body> infiniStatus_t guarded(Body &&body) noexcept {
  try {
    return body();
  } catch (const Failure &failure) {
    return registry().host->fail(failure.status, failure.what());
  } catch (const std::bad_alloc &) {
    return registry().host->fail(INFINI_STATUS_OUT_OF_MEMORY, "host memory exhausted");
  } catch (const std::exception &error) {
    return registry().host->fail(INFINI_STATUS_INTERNAL_ERROR, error.what());
  }
}

[[noreturn]] void refuse(infiniStatus_t status, const std::string &message) {
  throw Failure(status, message);
}

void require(const void *pointer, const std::string &where, const char *argument) {
  if (pointer == nullptr) refuse(INFINI_STATUS_NULL_POINTER, where + ": " + argument + " is NULL");
}

// Turn a status of the plug-in's into an exception that keeps its message.
void check(infiniStatus_t status, const char *name) {
  if (status == INFINI_STATUS_SUCCESS) return;
  const std::string message = registry().host->message();
  const std::string prefix = std::string(name) + ": ";
  refuse(status, message.rfind(prefix, 0) == 0
                     ? message
                     : prefix + (message.empty() ? "status " + std::to_string(status) : message));
}

// A list of integers, or one value, as create or execute was given it.
Value value_of(const Operator &op, const Argument &argument, const Passed &passed, int64_t count) {
  const Slot &slot = op.slots[argument.slot];
  switch (slot.kind) {
    case Kind::real:
      return Value::of(passed.real);
    case Kind::boolean:
      return Value::of(passed.integer != 0);
    case Kind::integers: {
      std::vector<int64_t> items;
      if (count > 0) require(passed.pointer, op.name, argument.name);
      for (int64_t i = 0; i < count; ++i)
        items.push_back(argument.width == 4 ? static_cast<const int32_t *>(passed.pointer)[i]
                                            : static_cast<const int64_t *>(passed.pointer)[i]);
      return Value::of(items);
    }
    default:
      return Value::of(passed.integer);
  }
}

// How long the list in argument `i` is: what the count behind it says.
int64_t count_behind(const Argument *arguments, int total, int i, const Passed *given) {
  for (int k = i + 1; k < total; ++k)
    if (arguments[k].meaning == Argument::count) return given[k].integer;
  return 0;
}

}  // namespace

// ---- the arguments of a kernel
// -----------------------------------------------------------------------------

// Slots of one call, and all that they point at. Neither moved nor copied.
class Call {
 public:
  infini_slot slots[max_slots] = {};

  Call() = default;
  Call(const Call &) = delete;
  Call &operator=(const Call &) = delete;

  // data: addresses of slot i's tensors, by item; NULL while a descriptor is created.
  void fill(const Operator &op, const std::vector<Given> &given, const std::vector<void *> *data) {
    for (int i = 0; i < op.slot_count; ++i) {
      const Slot &slot = op.slots[i];
      const Given &one = given[size_t(i)];
      if (!slot.is_tensor()) {
        fill_value(i, slot, one);
      } else if (one.present && (data != nullptr || !one.deferred)) {
        if (slot.kind == Kind::tensor) {
          describe(views_[i], one.tensors[0], data ? data[i].at(0) : nullptr);
          slots[i].tensor = &views_[i];
        } else {
          auto &list = lists_.emplace_back(std::make_unique<List>());
          list->views.resize(one.tensors.size());
          for (size_t k = 0; k < one.tensors.size(); ++k)
            describe(list->views[k], one.tensors[k], data ? data[i].at(k) : nullptr);
          list->header = {int64_t(list->views.size()), list->views.data()};
          slots[i].tensors = &list->header;
        }
      }
    }
  }

 private:
  struct List {
    infini_tensor_list header;
    std::vector<infini_tensor> views;
  };
  struct Integers {
    infini_int_list header;
    std::vector<int64_t> items;
  };

  infini_tensor views_[max_slots];
  std::vector<std::unique_ptr<List>> lists_;
  std::vector<std::unique_ptr<Integers>> integers_;

  static void describe(infini_tensor &view, const Layout &layout, void *data) {
    view = {data, layout.shape.data(), layout.strides.data(), int32_t(layout.shape.size()), layout.dtype};
    static const int64_t none = 0;
    if (layout.shape.empty()) view.shape = view.strides = &none;  // never NULL, even for ndim 0
  }

  void fill_value(int i, const Slot &slot, const Given &one) {
    if (slot.kind == Kind::integers) {
      auto &list = integers_.emplace_back(std::make_unique<Integers>());
      if (one.value) list->items = one.value->integers();
      list->header = {int64_t(list->items.size()), list->items.data()};
      slots[i].ints = &list->header;
    } else if (one.value) {
      if (slot.kind == Kind::real)
        slots[i].f64 = one.value->real;
      else if (slot.kind == Kind::dtype)
        slots[i].i64 = dtype_of(one.value->text);
      else
        slots[i].i64 = one.value->integer;
    }
  }
};

namespace {

void release(const InfiniopDescriptor *descriptor) {
  auto *mine = const_cast<InfiniopDescriptor *>(descriptor);
  if (--mine->users != 0) return;
  registry().activate(mine->entry, mine->device_id);
  mine->kernel.destroy(mine->plan);
  delete mine;
}

// ---- create
// ------------------------------------------------------------------------------------------------

std::vector<Given> read_create(const Operator &op, const Passed *passed) {
  std::vector<Given> given{size_t(op.slot_count)};
  std::vector<bool> created(size_t(op.slot_count), false);
  for (int k = 0; k < op.create_count; ++k) {
    const Argument &argument = op.create[k];
    if (argument.meaning != Argument::value) continue;
    const Slot &slot = op.slots[argument.slot];
    Given &one = given[size_t(argument.slot)];
    created[size_t(argument.slot)] = true;
    const int64_t count = count_behind(op.create, op.create_count, k, passed);
    if (!slot.is_tensor()) {
      one.value = value_of(op, argument, passed[k], count);
    } else if (slot.kind == Kind::tensors) {
      if (count > 0) require(passed[k].pointer, op.name, argument.name);
      for (int64_t i = 0; i < count; ++i) {
        const auto *tensor = static_cast<const infiniopTensorDescriptor_t *>(passed[k].pointer)[i];
        require(tensor, op.name, argument.name);
        one.tensors.push_back(tensor->layout);
      }
      one.present = true;
    } else if (passed[k].pointer != nullptr) {
      one.tensors = {static_cast<const InfiniopTensorDescriptor *>(passed[k].pointer)->layout};
      one.present = true;
    } else if (!slot.optional) {
      require(nullptr, op.name, argument.name);
    }
  }
  std::vector<bool> executed(size_t(op.slot_count), false);
  for (int k = 0; k < op.execute_count; ++k)
    if (op.execute[k].slot >= 0) executed[size_t(op.execute[k].slot)] = true;
  for (int i = 0; i < op.slot_count; ++i) {
    if (created[size_t(i)]) continue;
    if (op.slots[i].is_tensor())
      given[size_t(i)].deferred = executed[size_t(i)];
    else if (!executed[size_t(i)])
      given[size_t(i)].value = literal(op.slots[i].fallback);
  }
  return given;
}

// Whether checks or layouts wait for what only execute is given.
bool is_late(const Operator &op, const std::vector<Given> &given) {
  if (op.guard >= 0) return true;
  for (int i = 0; i < op.slot_count; ++i) {
    const bool unknown = !op.slots[i].is_tensor() && !given[size_t(i)].value;
    if (given[size_t(i)].deferred || (unknown && (op.slots[i].is_size || op.slots[i].kind == Kind::integers)))
      return true;
  }
  for (int k = 0; k < op.execute_count; ++k)
    if (op.execute[k].meaning != Argument::value && op.execute[k].meaning != Argument::count) return true;
  return false;
}

void check_written(const Operator &op, const std::vector<Given> &slots) {
  for (int i = 0; i < op.slot_count; ++i)
    if (op.slots[i].written() && slots[size_t(i)].present && overlaps_itself(slots[size_t(i)].tensors[0]))
      refuse(INFINI_STATUS_BAD_TENSOR_STRIDES,
             std::string(op.name) + ": " + op.slots[i].c_name + ": elements that are written share memory");
}

const infini_operator *kernel_for(const Operator &op, const infini_entry *entry) {
  const infini_operator *kernel = registry().find(entry, op.name);
  const char *backend = registry().table(entry)->name;
  if (kernel == nullptr)
    refuse(INFINI_STATUS_NOT_IMPLEMENTED,
           std::string(op.name) + ": backend '" + backend + "' has no kernel for it");
  if (kernel->fingerprint != op.fingerprint)
    refuse(INFINI_STATUS_NOT_IMPLEMENTED, std::string(op.name) + ": backend '" + backend +
                                              "' was built for another signature of it: rebuild it for this "
                                              "version of infinicore-core");
  return kernel;
}

const Operator &operator_named(const char *name) {
  for (const Operator *const *op = operators; *op; ++op)
    if (std::strcmp((*op)->name, name) == 0) return **op;
  refuse(INFINI_STATUS_NOT_IMPLEMENTED, std::string("there is no operator ") + name);
}

// ---- execute
// -----------------------------------------------------------------------------------------------

// Device memory for the time of a call.
class Scratch {
  const infini_runtime &runtime_;
  infinirtStream_t stream_;
  void *data_ = nullptr;

 public:
  Scratch(const infini_runtime &runtime, uint64_t bytes, infinirtStream_t stream, const char *name)
      : runtime_(runtime), stream_(stream) {
    if (bytes == 0) return;
    check(runtime.malloc_async ? runtime.malloc_async(bytes, stream, &data_)
                               : runtime.malloc_device(bytes, &data_),
          name);
  }
  Scratch(const Scratch &) = delete;
  ~Scratch() {
    if (data_ == nullptr) return;
    if (runtime_.free_async) {
      runtime_.free_async(data_, stream_);
    } else {
      runtime_.stream_synchronize(stream_);  // what still uses it must be over first
      runtime_.free_device(data_);
    }
  }
  void *data() const { return data_; }
};

// How many elements of `mask` are not zero; waits for the stream.
int64_t count_nonzero(const InfiniopDescriptor &descriptor, const Layout &mask, void *data,
                      infinirtStream_t stream) {
  const Operator &op = operator_named("count_nonzero");
  const infini_operator kernel = *kernel_for(op, descriptor.entry);
  const infini_runtime &runtime = *registry().table(descriptor.entry)->runtime;
  Scratch result(runtime, sizeof(int64_t), stream, op.name);
  std::vector<Given> given(2);
  given[0].tensors = {Layout::dense({}, INFINI_DTYPE_I64)};
  given[1].tensors = {mask};
  given[0].present = given[1].present = true;
  const std::vector<void *> addresses[] = {{result.data()}, {data}};
  Call planned, call;
  planned.fill(op, given, nullptr);
  call.fill(op, given, addresses);
  infini_descriptor plan = nullptr;
  check(kernel.create(planned.slots, &plan), op.name);
  const auto drop = [&](infini_descriptor_ *p) { kernel.destroy(p); };
  std::unique_ptr<infini_descriptor_, decltype(drop)> owner(plan, drop);
  uint64_t bytes = 0;
  check(kernel.workspace(plan, &bytes), op.name);
  Scratch workspace(runtime, bytes, stream, op.name);
  check(kernel.execute(plan, workspace.data(), bytes, call.slots, stream), op.name);
  check(runtime.stream_synchronize(stream), op.name);
  int64_t count = 0;
  check(runtime.memcpy_sync(&count, result.data(), sizeof count, INFINIRT_MEMCPY_D2H), op.name);
  return count;
}

// What execute is given, beside the descriptor: values that were unknown, and addresses.
struct Arguments {
  std::vector<void *> data[max_slots];
  std::vector<std::pair<const Argument *, void *>> returned, sizes;
  std::vector<std::pair<const Argument *, int64_t>> dimensions;
};

void read_execute(const InfiniopDescriptor &descriptor, const Passed *passed, std::vector<Given> &given,
                  Arguments &arguments) {
  const Operator &op = *descriptor.op;
  for (int k = 0; k < op.execute_count; ++k) {
    const Argument &argument = op.execute[k];
    void *pointer = const_cast<void *>(passed[k].pointer);
    if (argument.meaning == Argument::count) continue;
    if (argument.meaning == Argument::dimension) {
      arguments.dimensions.emplace_back(&argument, passed[k].integer);
    } else if (argument.meaning == Argument::returned_size || argument.meaning == Argument::returned) {
      require(pointer, op.name, argument.name);
      auto &list = argument.meaning == Argument::returned ? arguments.returned : arguments.sizes;
      list.emplace_back(&argument, pointer);
    } else {
      const Slot &slot = op.slots[argument.slot];
      Given &one = given[size_t(argument.slot)];
      const int64_t count = count_behind(op.execute, op.execute_count, k, passed);
      if (slot.kind == Kind::tensors) {
        require(pointer, op.name, argument.name);
        const auto *items = static_cast<const void *const *>(passed[k].pointer);
        for (size_t i = 0; i < one.tensors.size(); ++i)
          arguments.data[argument.slot].push_back(const_cast<void *>(items[i]));
      } else if (slot.is_tensor()) {
        // A deferred optional tensor is there when it has an address.
        if (one.deferred && slot.optional && pointer == nullptr) one.deferred = false;
        arguments.data[argument.slot].push_back(pointer);
      } else {
        const Value value = value_of(op, argument, passed[k], count);
        const Given &before = descriptor.given[size_t(argument.slot)];
        if (before.value && !(written(*before.value) == written(value)))
          refuse(INFINI_STATUS_BAD_PARAM, std::string(op.name) + ": " + argument.name + "=" + written(value) +
                                              ", but the descriptor was created with " +
                                              written(*before.value));
        if (!before.value) one.value = convert(op, slot, value);
      }
    }
  }
}

void check_addresses(const Operator &op, const std::vector<Given> &slots, const Arguments &arguments) {
  for (int i = 0; i < op.slot_count; ++i) {
    const Given &one = slots[size_t(i)];
    if (!op.slots[i].is_tensor() || !one.present) continue;
    for (size_t k = 0; k < one.tensors.size(); ++k)
      if (arguments.data[i].size() <= k || (!arguments.data[i][k] && one.tensors[k].count() != 0))
        require(nullptr, op.name, op.slots[i].c_name);
  }
}

// Find out how large the outputs are that the caller has handed back, and allocate them.
void make_returned(const InfiniopDescriptor &descriptor, std::vector<Given> &slots, Arguments &arguments,
                   infinirtStream_t stream) {
  const Operator &op = *descriptor.op;
  if (registry().recording(stream))
    refuse(INFINI_STATUS_NOT_IMPLEMENTED,
           std::string(op.name) + ": how large its output is a graph cannot record");
  const Given &counted = slots[size_t(op.counted)];
  const int64_t n = count_nonzero(descriptor, counted.tensors[0], arguments.data[op.counted].at(0), stream);
  const infini_runtime &runtime = *registry().table(descriptor.entry)->runtime;
  for (const auto &[argument, place] : arguments.sizes) *static_cast<size_t *>(place) = size_t(n);
  for (const auto &[argument, place] : arguments.returned) {
    const Slot &slot = op.slots[argument->slot];
    Given &out = slots[size_t(argument->slot)];
    int dtype = 0;
    for (int i = 0; i < op.slot_count; ++i)  // that of another tensor with its dtype variable
      if (slot.variable && op.slots[i].variable == slot.variable && slots[size_t(i)].present)
        dtype = slots[size_t(i)].tensors[0].dtype;
    for (int bit = 1; dtype == 0 && bit < 32; ++bit)
      if (slot.dtypes >> bit & 1) dtype = bit;
    out.tensors = {Layout::dense({n}, dtype)};
    out.present = true;
    void *memory = nullptr;
    if (n > 0) check(runtime.malloc_device(uint64_t(n) * dtype_bytes(dtype), &memory), op.name);
    arguments.data[argument->slot] = {memory};
    *static_cast<void **>(place) = memory;
  }
}

// Whether a value of execute is the one that create was given.
bool agrees(const Argument &argument, const Slot &slot, const Value &before, const Passed &passed,
            int64_t count) {
  switch (slot.kind) {
    case Kind::real:
      return before.real == passed.real;
    case Kind::boolean:
      return before.truth() == (passed.integer != 0);
    case Kind::integers:
      if (int64_t(before.items.size()) != count || (count > 0 && passed.pointer == nullptr)) return false;
      for (int64_t i = 0; i < count; ++i)
        if (before.items[size_t(i)].integer != (argument.width == 4
                                                    ? static_cast<const int32_t *>(passed.pointer)[i]
                                                    : static_cast<const int64_t *>(passed.pointer)[i]))
          return false;
      return true;
    default:
      return before.integer == passed.integer;
  }
}

// A call of which create knew all but addresses and plain values: nothing is allocated or worked out.
infiniStatus_t execute_known(const InfiniopDescriptor &descriptor, void *workspace, const Passed *passed,
                             infinirtStream_t stream) {
  const Operator &op = *descriptor.op;
  infini_slot slots[max_slots];
  infini_tensor views[max_slots];
  std::vector<std::vector<infini_tensor>> items;  // of lists
  infini_tensor_list lists[max_slots];
  std::memcpy(slots, descriptor.planned->slots, size_t(op.slot_count) * sizeof(infini_slot));
  for (int k = 0; k < op.execute_count; ++k) {
    const Argument &argument = op.execute[k];
    if (argument.meaning != Argument::value) continue;
    const int i = argument.slot;
    const Slot &slot = op.slots[i];
    if (slot.kind == Kind::tensors) {
      require(passed[k].pointer, op.name, argument.name);
      auto &views_of =
          items.emplace_back(slots[i].tensors->items, slots[i].tensors->items + slots[i].tensors->count);
      for (size_t n = 0; n < views_of.size(); ++n) {
        views_of[n].data = const_cast<void *>(static_cast<const void *const *>(passed[k].pointer)[n]);
        if (views_of[n].data == nullptr && descriptor.resolved[size_t(i)].tensors[n].count() != 0)
          require(nullptr, op.name, slot.c_name);
      }
      lists[i] = {int64_t(views_of.size()), views_of.data()};
      slots[i].tensors = &lists[i];
    } else if (slot.is_tensor()) {
      if (slots[i].tensor == nullptr) continue;  // absent
      views[i] = *slots[i].tensor;
      views[i].data = const_cast<void *>(passed[k].pointer);
      if (views[i].data == nullptr && descriptor.resolved[size_t(i)].tensors[0].count() != 0)
        require(nullptr, op.name, slot.c_name);
      slots[i].tensor = &views[i];
    } else if (const auto &before = descriptor.given[size_t(i)].value; before) {
      const int64_t count =
          slot.kind == Kind::integers ? count_behind(op.execute, op.execute_count, k, passed) : 0;
      if (!agrees(argument, slot, *before, passed[k], count))
        refuse(INFINI_STATUS_BAD_PARAM, std::string(op.name) + ": " + argument.name + "=" +
                                            written(value_of(op, argument, passed[k], count)) +
                                            ", but the descriptor was created with " + written(*before));
    } else if (slot.kind == Kind::real) {
      slots[i].f64 = passed[k].real;
    } else if (slot.kind == Kind::boolean) {
      slots[i].i64 = passed[k].integer != 0;
    } else {
      if (slot.kind != Kind::integer) convert(op, slot, Value::of(passed[k].integer));  // throws if unknown
      slots[i].i64 = passed[k].integer;
    }
  }
  check(registry().activate(descriptor.entry, descriptor.device_id), op.name);
  const auto run = [&](void *memory) {
    check(descriptor.kernel.execute(descriptor.plan, memory, descriptor.workspace, slots, stream), op.name);
    return INFINI_STATUS_SUCCESS;
  };
  if (op.has_workspace || descriptor.workspace == 0) return run(workspace);
  Scratch scratch(*registry().table(descriptor.entry)->runtime, descriptor.workspace, stream, op.name);
  return run(scratch.data());
}

// A call as a graph keeps it.
struct Recorded {
  const InfiniopDescriptor *descriptor;
  std::vector<Given> given;  // owns what the slots point at
  Call call;
  void *workspace;
  void *allocated;  // where the C form gives no workspace
};

}  // namespace

infiniStatus_t create(const Operator &op, infiniopHandle_t handle, InfiniopDescriptor **out,
                      const Passed *passed) {
  return guarded([&] {
    require(handle, op.name, "handle");
    require(out, op.name, "desc_ptr");
    if (*op.unsupported) refuse(INFINI_STATUS_NOT_IMPLEMENTED, std::string(op.name) + ": " + op.unsupported);
    std::vector<Given> given = read_create(op, passed);
    Resolved resolved = resolve(op, given);
    check_written(op, resolved.slots);
    const infini_operator kernel = *kernel_for(op, handle->entry);
    check(registry().activate(handle->entry, handle->device_id), op.name);
    auto call = std::make_shared<Call>();
    infini_descriptor plan = nullptr;
    // Moving a vector of layouts leaves their memory where it is, so the slots may point at it for good.
    call->fill(op, resolved.slots, nullptr);
    check(kernel.create(call->slots, &plan), op.name);
    uint64_t bytes = 0;
    if (const infiniStatus_t status = kernel.workspace(plan, &bytes)) {
      const std::string message = registry().host->message();
      kernel.destroy(plan);
      registry().host->fail(status, message.c_str());
      check(status, op.name);
    }
    const bool late = is_late(op, given);
    *out = new InfiniopDescriptor{
        handle->device,   handle->device_id,         handle->entry,   &op,  kernel, plan, bytes,
        std::move(given), std::move(resolved.slots), std::move(call), late, {1}};
    return INFINI_STATUS_SUCCESS;
  });
}

infiniStatus_t workspace_size(const InfiniopDescriptor *descriptor, size_t *size) {
  return guarded([&] {
    require(descriptor, "infiniop", "desc");
    require(size, descriptor->op->name, "size");
    *size = size_t(descriptor->workspace);
    return INFINI_STATUS_SUCCESS;
  });
}

infiniStatus_t execute(const Operator &op, const InfiniopDescriptor *descriptor, void *workspace,
                       size_t workspace_size, const Passed *passed, void *stream) {
  return guarded([&] {
    require(descriptor, op.name, "desc");
    if (descriptor->op != &op)
      refuse(INFINI_STATUS_BAD_PARAM,
             std::string(op.name) + ": the descriptor is of " + descriptor->op->name);
    const uint64_t bytes = descriptor->workspace;
    if (op.has_workspace && bytes > 0) {
      if (workspace_size < bytes)
        refuse(INFINI_STATUS_INSUFFICIENT_WORKSPACE,
               std::string(op.name) + ": workspace_size=" + std::to_string(workspace_size) +
                   ", but it needs " + std::to_string(bytes));
      require(workspace, op.name, "workspace");
    }
    if (!descriptor->late && !registry().recording(stream))
      return execute_known(*descriptor, workspace, passed, stream);
    Arguments arguments;
    std::vector<Given> slots = descriptor->late ? descriptor->given : descriptor->resolved;
    read_execute(*descriptor, passed, slots, arguments);
    if (descriptor->late || !arguments.dimensions.empty()) {
      Resolved resolved = resolve(op, std::move(slots));
      slots = std::move(resolved.slots);
      for (const auto &[argument, size] : arguments.dimensions) {
        auto found = resolved.symbols.find(argument->symbol);
        if (found != resolved.symbols.end() && found->second.at(0) != size)
          refuse(INFINI_STATUS_BAD_PARAM, std::string(op.name) + ": " + argument->name + "=" +
                                              std::to_string(size) + ", but the tensors have " +
                                              argument->symbol + "=" + std::to_string(found->second[0]));
      }
    }
    if (op.guard >= 0)
      if (Names names = names_of(op, slots); can_run(op, op.guard, names)) run(op.guard, names);
    check(registry().activate(descriptor->entry, descriptor->device_id), op.name);
    if (!arguments.returned.empty()) make_returned(*descriptor, slots, arguments, stream);
    check_addresses(op, slots, arguments);
    const infini_runtime &runtime = *registry().table(descriptor->entry)->runtime;
    if (registry().recording(stream)) {
      auto recorded = std::make_unique<Recorded>();
      recorded->given = std::move(slots);
      recorded->call.fill(op, recorded->given, arguments.data);
      recorded->workspace = op.has_workspace ? workspace : nullptr;
      recorded->allocated = nullptr;
      if (!op.has_workspace && bytes > 0) {
        check(runtime.malloc_device(bytes, &recorded->allocated), op.name);
        recorded->workspace = recorded->allocated;
      }
      recorded->descriptor = descriptor;
      ++const_cast<InfiniopDescriptor *>(descriptor)->users;
      registry().record(
          stream,
          [](void *context, infinirtStream_t on) {
            auto &r = *static_cast<Recorded *>(context);
            return r.descriptor->kernel.execute(r.descriptor->plan, r.workspace, r.descriptor->workspace,
                                                r.call.slots, on);
          },
          recorded.release(),
          [](void *context) {
            std::unique_ptr<Recorded> r(static_cast<Recorded *>(context));
            if (r->allocated) registry().table(r->descriptor->entry)->runtime->free_device(r->allocated);
            release(r->descriptor);
          });
      return INFINI_STATUS_SUCCESS;
    }
    Call call;
    call.fill(op, slots, arguments.data);
    if (op.has_workspace) {
      check(descriptor->kernel.execute(descriptor->plan, workspace, bytes, call.slots, stream), op.name);
    } else {
      Scratch scratch(runtime, bytes, stream, op.name);
      check(descriptor->kernel.execute(descriptor->plan, scratch.data(), bytes, call.slots, stream), op.name);
    }
    return INFINI_STATUS_SUCCESS;
  });
}

infiniStatus_t destroy(InfiniopDescriptor *descriptor) {
  return guarded([&] {
    if (descriptor != nullptr) release(descriptor);
    return INFINI_STATUS_SUCCESS;
  });
}

infiniStatus_t not_implemented(const char *function) {
  const std::string message = std::string(function) + ": this version of infinicore has no such operator";
  return registry().host->fail(INFINI_STATUS_NOT_IMPLEMENTED, message.c_str());
}

}  // namespace infini::capi

using namespace infini::capi;

extern "C" {

infiniStatus_t infiniopCreateHandle(infiniopHandle_t *handle_ptr) {
  return guarded([&] {
    require(handle_ptr, "infiniopCreateHandle", "handle_ptr");
    infini_entry *entry;
    int32_t device;
    if (auto status = registry().current(&entry, &device)) return status;
    *handle_ptr = new InfiniopHandle{registry().number(entry), device, entry};
    return INFINI_STATUS_SUCCESS;
  });
}

infiniStatus_t infiniopDestroyHandle(infiniopHandle_t handle) {
  delete handle;
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t infiniopCreateTensorDescriptor(infiniopTensorDescriptor_t *desc_ptr, size_t ndim,
                                              const size_t *shape, const ptrdiff_t *strides,
                                              infiniDtype_t dtype) {
  return guarded([&] {
    const char *const where = "infiniopCreateTensorDescriptor";
    require(desc_ptr, where, "desc_ptr");
    if (ndim > 0) require(shape, where, "shape");
    if (dtype <= INFINI_DTYPE_INVALID || dtype > INFINI_DTYPE_BF16)
      refuse(INFINI_STATUS_BAD_TENSOR_DTYPE,
             std::string(where) + ": dtype=" + std::to_string(dtype) + " is no dtype");
    if (ndim > 64)
      refuse(INFINI_STATUS_BAD_TENSOR_SHAPE,
             std::string(where) + ": ndim=" + std::to_string(ndim) + ", but it must be at most 64");
    std::vector<int64_t> sizes;
    int64_t count = 1;
    for (size_t i = 0; i < ndim; ++i) {
      int64_t size = 0;
      if (__builtin_add_overflow(shape[i], size_t(0), &size) ||
          __builtin_mul_overflow(count, std::max<int64_t>(size, 1), &count))
        refuse(INFINI_STATUS_BAD_TENSOR_SHAPE, std::string(where) + ": shape[" + std::to_string(i) + "]=" +
                                                   std::to_string(shape[i]) + " is more than memory holds");
      sizes.push_back(size);
    }
    Layout layout = Layout::dense(std::move(sizes), dtype);
    if (strides != nullptr) layout.strides.assign(strides, strides + ndim);
    *desc_ptr = new InfiniopTensorDescriptor{std::move(layout)};
    return INFINI_STATUS_SUCCESS;
  });
}

infiniStatus_t infiniopDestroyTensorDescriptor(infiniopTensorDescriptor_t desc) {
  delete desc;
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t infiniopGetDescriptorDeviceType(const InfiniopDescriptor *desc_ptr,
                                               infiniDevice_t *device_type) {
  return guarded([&] {
    require(desc_ptr, "infiniopGetDescriptorDeviceType", "desc_ptr");
    require(device_type, "infiniopGetDescriptorDeviceType", "device_type");
    *device_type = static_cast<infiniDevice_t>(desc_ptr->device);
    return INFINI_STATUS_SUCCESS;
  });
}

infiniStatus_t infiniopGetDescriptorDeviceId(const InfiniopDescriptor *desc_ptr, int *device_id) {
  return guarded([&] {
    require(desc_ptr, "infiniopGetDescriptorDeviceId", "desc_ptr");
    require(device_id, "infiniopGetDescriptorDeviceId", "device_id");
    *device_id = desc_ptr->device_id;
    return INFINI_STATUS_SUCCESS;
  });
}
}
