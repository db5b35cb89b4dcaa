// infinicore.hpp -- C++17 over the C API: tensors, streams, events, graphs and operators that give back what
// they took and throw infinicore::Error. Header-only: link with libinfiniop and libinfinirt.
//
//   infinicore::Context::set_device(INFINI_DEVICE_CPU);
//   auto a = infinicore::Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
//   auto c = infinicore::Tensor::empty({2, 2}, INFINI_DTYPE_F32);
//   infinicore::op::gemm(c, a, a.transpose(0, 1), 1.0f, 0.0f);
//   std::vector<float> values = c.to_host<float>();
#pragma once
#include "infiniop.h"
#include "infinirt.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace infinicore {

// What a status other than INFINI_STATUS_SUCCESS becomes.
class Error : public std::runtime_error {
 public:
  infiniStatus_t status;
  explicit Error(infiniStatus_t code)
      : std::runtime_error(std::string(infiniGetLastError()) + " (status " + std::to_string(code) + ")"),
        status(code) {}
};

inline void check(infiniStatus_t status) {
  if (status != INFINI_STATUS_SUCCESS) throw Error(status);
}

struct Device {
  infiniDevice_t type = INFINI_DEVICE_CPU;
  int id = 0;
  bool operator==(const Device &other) const { return type == other.type && id == other.id; }
  bool operator!=(const Device &other) const { return !(*this == other); }
};

// What is current on this thread.
class Context {
 public:
  static void set_device(infiniDevice_t type, int id = 0) { check(infinirtSetDevice(type, id)); }
  static void set_device(Device device) { set_device(device.type, device.id); }
  static Device device() {
    Device found;
    check(infinirtGetDevice(&found.type, &found.id));
    return found;
  }
  static int device_count(infiniDevice_t type) {
    int count = 0;
    check(infinirtGetDeviceCount(type, &count));
    return count;
  }
  static void synchronize() { check(infinirtDeviceSynchronize()); }

  // Makes a device current, and the one before it again when it dies.
  class Guard {
    Device before_;

   public:
    explicit Guard(Device device) : before_(Context::device()) {
      if (device != before_) Context::set_device(device);
    }
    Guard(const Guard &) = delete;
    Guard &operator=(const Guard &) = delete;
    ~Guard() { infinirtSetDevice(before_.type, before_.id); }
  };
};

class Stream {
  std::shared_ptr<void> handle_;

 public:
  Stream() = default;  // the device's default stream
  static Stream create() {
    infinirtStream_t made = nullptr;
    check(infinirtStreamCreate(&made));
    Stream stream;
    stream.handle_.reset(made, [device = Context::device()](void *handle) {
      Context::Guard guard(device);
      infinirtStreamDestroy(handle);
    });
    return stream;
  }
  infinirtStream_t get() const { return handle_.get(); }
  void synchronize() const { check(infinirtStreamSynchronize(get())); }
};

class Event {
  std::shared_ptr<void> handle_;

 public:
  explicit Event(uint32_t flags = INFINIRT_EVENT_DEFAULT) {
    infinirtEvent_t made = nullptr;
    check(infinirtEventCreateWithFlags(&made, flags));
    handle_.reset(made, [device = Context::device()](void *handle) {
      Context::Guard guard(device);
      infinirtEventDestroy(handle);
    });
  }
  infinirtEvent_t get() const { return handle_.get(); }
  void record(const Stream &stream = {}) { check(infinirtEventRecord(get(), stream.get())); }
  void synchronize() const { check(infinirtEventSynchronize(get())); }
  bool query() const {
    infinirtEventStatus_t status;
    check(infinirtEventQuery(get(), &status));
    return status == INFINIRT_EVENT_COMPLETE;
  }
  float milliseconds_since(const Event &start) const {
    float found = 0;
    check(infinirtEventElapsedTime(&found, start.get(), get()));
    return found;
  }
};

inline size_t size_of(infiniDtype_t dtype) {
  switch (dtype) {
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
    default:
      return 1;
  }
}

template <class T> constexpr infiniDtype_t dtype_of = INFINI_DTYPE_INVALID;
template <> inline constexpr infiniDtype_t dtype_of<bool> = INFINI_DTYPE_BOOL;
template <> inline constexpr infiniDtype_t dtype_of<int8_t> = INFINI_DTYPE_I8;
template <> inline constexpr infiniDtype_t dtype_of<int16_t> = INFINI_DTYPE_I16;
template <> inline constexpr infiniDtype_t dtype_of<int32_t> = INFINI_DTYPE_I32;
template <> inline constexpr infiniDtype_t dtype_of<int64_t> = INFINI_DTYPE_I64;
template <> inline constexpr infiniDtype_t dtype_of<uint8_t> = INFINI_DTYPE_U8;
template <> inline constexpr infiniDtype_t dtype_of<uint16_t> = INFINI_DTYPE_U16;
template <> inline constexpr infiniDtype_t dtype_of<uint32_t> = INFINI_DTYPE_U32;
template <> inline constexpr infiniDtype_t dtype_of<uint64_t> = INFINI_DTYPE_U64;
template <> inline constexpr infiniDtype_t dtype_of<float> = INFINI_DTYPE_F32;
template <> inline constexpr infiniDtype_t dtype_of<double> = INFINI_DTYPE_F64;

// A view of memory on a device; copies share the memory, which is freed with the last of them.
class Tensor {
  std::shared_ptr<void> memory_;
  std::vector<size_t> shape_;
  std::vector<ptrdiff_t> strides_;  // in elements
  ptrdiff_t offset_ = 0;            // in elements
  infiniDtype_t dtype_ = INFINI_DTYPE_INVALID;
  Device device_;

 public:
  // Memory of the current device, not initialised.
  static Tensor empty(std::vector<size_t> shape, infiniDtype_t dtype) {
    Tensor made;
    made.strides_.resize(shape.size());
    ptrdiff_t step = 1;
    for (size_t i = shape.size(); i-- > 0; step *= ptrdiff_t(std::max<size_t>(shape[i], 1)))
      made.strides_[i] = step;
    made.shape_ = std::move(shape);
    made.dtype_ = dtype;
    made.device_ = Context::device();
    void *memory = nullptr;
    check(infinirtMalloc(&memory, made.count() * size_of(dtype)));
    made.memory_.reset(memory, [device = made.device_](void *pointer) {
      Context::Guard guard(device);
      infinirtFree(pointer);
    });
    return made;
  }

  // A copy of the host's values, in row-major order.
  template <class T> static Tensor of(std::vector<size_t> shape, const std::vector<T> &values) {
    static_assert(dtype_of<T> != INFINI_DTYPE_INVALID, "no dtype has elements of this type");
    Tensor made = empty(std::move(shape), dtype_of<T>);
    if (values.size() != made.count())
      throw std::invalid_argument("Tensor::of: " + std::to_string(values.size()) + " values for " +
                                  std::to_string(made.count()) + " elements");
    made.copy_from_host(values.data());
    return made;
  }

  // Somebody else's memory, which must outlive the tensor.
  static Tensor from_blob(void *data, std::vector<size_t> shape, std::vector<ptrdiff_t> strides,
                          infiniDtype_t dtype) {
    Tensor made;
    made.memory_.reset(data, [](void *) {});
    made.shape_ = std::move(shape);
    made.strides_ = std::move(strides);
    made.dtype_ = dtype;
    made.device_ = Context::device();
    return made;
  }

  void *data() const { return static_cast<char *>(memory_.get()) + offset_ * ptrdiff_t(size_of(dtype_)); }
  size_t ndim() const { return shape_.size(); }
  const std::vector<size_t> &shape() const { return shape_; }
  const std::vector<ptrdiff_t> &strides() const { return strides_; }
  infiniDtype_t dtype() const { return dtype_; }
  Device device() const { return device_; }
  size_t count() const {
    return std::accumulate(shape_.begin(), shape_.end(), size_t(1), std::multiplies<size_t>());
  }
  bool is_contiguous() const {
    ptrdiff_t step = 1;
    for (size_t i = ndim(); i-- > 0; step *= ptrdiff_t(shape_[i]))
      if (shape_[i] != 1 && strides_[i] != step) return count() == 0;
    return true;
  }

  // Views; nothing is copied.
  Tensor transpose(size_t a, size_t b) const {
    Tensor view = *this;
    std::swap(view.shape_.at(a), view.shape_.at(b));
    std::swap(view.strides_.at(a), view.strides_.at(b));
    return view;
  }
  Tensor narrow(size_t axis, size_t start, size_t length) const {
    if (start + length > shape_.at(axis))
      throw std::out_of_range("Tensor::narrow: " + std::to_string(start) + " and " + std::to_string(length) +
                              " elements do not fit " + std::to_string(shape_[axis]));
    Tensor view = *this;
    view.offset_ += ptrdiff_t(start) * strides_[axis];
    view.shape_[axis] = length;
    return view;
  }

  // In row-major order; the tensor must be contiguous.
  void copy_from_host(const void *values) { copy(data(), values, INFINIRT_MEMCPY_H2D); }
  template <class T> std::vector<T> to_host() const {
    if (dtype_of<T> != dtype_) throw std::invalid_argument("Tensor::to_host: elements of another type");
    std::unique_ptr<T[]> values(new T[count()]);
    copy(values.get(), data(), INFINIRT_MEMCPY_D2H);
    return std::vector<T>(values.get(), values.get() + count());
  }

  // Shape, strides and dtype for the C API; destroyed with the result.
  std::unique_ptr<InfiniopTensorDescriptor, infiniStatus_t (*)(infiniopTensorDescriptor_t)> descriptor()
      const {
    infiniopTensorDescriptor_t made = nullptr;
    check(infiniopCreateTensorDescriptor(&made, ndim(), shape_.data(), strides_.data(), dtype_));
    return {made, infiniopDestroyTensorDescriptor};
  }

 private:
  void copy(void *target, const void *source, infinirtMemcpyKind_t kind) const {
    if (!is_contiguous()) throw std::invalid_argument("Tensor: only a contiguous one is copied as it is");
    Context::Guard guard(device_);
    check(infinirtDeviceSynchronize());
    check(infinirtMemcpy(target, source, count() * size_of(dtype_), kind));
  }
};

// What a stream was given between begin() and end(), to be done again by launch().
class Graph {
  std::shared_ptr<void> graph_, exec_;

 public:
  static void begin(const Stream &stream,
                    infinirtStreamCaptureMode_t mode = INFINIRT_STREAM_CAPTURE_MODE_RELAXED) {
    check(infinirtStreamBeginCapture(stream.get(), mode));
  }
  static Graph end(const Stream &stream) {
    Graph made;
    const Device device = Context::device();
    infinirtGraph_t graph = nullptr;
    check(infinirtStreamEndCapture(stream.get(), &graph));
    made.graph_.reset(graph, [device](void *handle) {
      Context::Guard guard(device);
      infinirtGraphDestroy(handle);
    });
    infinirtGraphExec_t exec = nullptr;
    check(infinirtGraphInstantiate(&exec, graph, nullptr, nullptr, 0));
    made.exec_.reset(exec, [device](void *handle) {
      Context::Guard guard(device);
      infinirtGraphExecDestroy(handle);
    });
    return made;
  }
  void launch(const Stream &stream = {}) const { check(infinirtGraphLaunch(exec_.get(), stream.get())); }
};

namespace detail {

// A handle of the current device.
class Handle {
  infiniopHandle_t handle_ = nullptr;

 public:
  Handle() { check(infiniopCreateHandle(&handle_)); }
  Handle(const Handle &) = delete;
  Handle &operator=(const Handle &) = delete;
  ~Handle() { infiniopDestroyHandle(handle_); }
  operator infiniopHandle_t() const { return handle_; }
};

using TensorHandle = decltype(std::declval<const Tensor &>().descriptor());

inline TensorHandle describe(const Tensor *tensor) {
  return tensor ? tensor->descriptor() : TensorHandle(nullptr, infiniopDestroyTensorDescriptor);
}
inline void *address(const Tensor *tensor) {
  return tensor ? tensor->data() : nullptr;
}

// An operator's descriptor; destroyed by the operator's own function.
using Descriptor = std::unique_ptr<InfiniopDescriptor, infiniStatus_t (*)(InfiniopDescriptor *)>;

// Memory that work on a stream may still use when it is given back.
class Workspace {
  void *data_ = nullptr;
  const Stream &stream_;

 public:
  Workspace(size_t bytes, const Stream &stream) : stream_(stream) {
    check(infinirtMallocAsync(&data_, bytes, stream.get()));
  }
  Workspace(const Workspace &) = delete;
  Workspace &operator=(const Workspace &) = delete;
  ~Workspace() { infinirtFreeAsync(data_, stream_.get()); }
  void *get() const { return data_; }
};

}  // namespace detail
}  // namespace infinicore

#include "infiniop/operators.hpp"
