// Runs calls of the CPU backend's operators that a file describes, and writes what their memory then holds.
// Linked with the backend into one program, so that kernels for another processor can run under an emulator.
//
//   runner CALLS RESULTS          both little endian; test_kernels.py writes the one and reads the other
#include <infinicore/abi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

struct File {
  std::FILE *handle;
  File(const char *path, const char *mode) : handle(std::fopen(path, mode)) {
    if (!handle) throw std::runtime_error(std::string("cannot open ") + path);
  }
  ~File() { std::fclose(handle); }
  void read(void *target, size_t bytes) {
    if (bytes && std::fread(target, 1, bytes, handle) != bytes)
      throw std::runtime_error("the file ends early");
  }
  template <class T> T read() {
    T value;
    read(&value, sizeof value);
    return value;
  }
  void write(const void *source, size_t bytes) {
    if (bytes && std::fwrite(source, 1, bytes, handle) != bytes) throw std::runtime_error("cannot write");
  }
};

std::string read_text(File &file) {
  std::string text(file.read<uint32_t>(), '\0');
  file.read(&text[0], text.size());
  return text;
}

// A tensor with the memory it lies in.
struct Memory {
  std::vector<int64_t> shape, strides;
  std::vector<char> bytes;
  infini_tensor view;

  explicit Memory(File &file) {
    view.dtype = file.read<int32_t>();
    view.ndim = file.read<int32_t>();
    shape.resize(view.ndim);
    strides.resize(view.ndim);
    file.read(shape.data(), 8 * shape.size());
    file.read(strides.data(), 8 * strides.size());
    const auto start = file.read<uint64_t>();
    bytes.resize(file.read<uint64_t>());
    file.read(bytes.data(), bytes.size());
    view.shape = shape.data();
    view.strides = strides.data();
    view.data = bytes.data() + start;
  }
  Memory(const Memory &) = delete;
};

struct Call {
  std::deque<Memory> memories;  // a deque: views point into its elements
  std::deque<std::vector<infini_tensor>> lists;
  std::deque<infini_tensor_list> tensor_lists;
  std::deque<std::vector<int64_t>> integers;
  std::deque<infini_int_list> int_lists;
  std::vector<infini_slot> slots;

  explicit Call(File &file) {
    slots.resize(file.read<uint32_t>());
    std::vector<std::pair<size_t, size_t>> same;  // a slot, and the slot whose tensor it is
    for (size_t i = 0; i < slots.size(); ++i) {
      const char kind = file.read<char>();
      if (kind == 's') {
        same.emplace_back(i, file.read<uint32_t>());
      } else {
        read(file, kind, slots[i]);
      }
    }
    for (const auto &[slot, source] : same) slots[slot] = slots.at(source);
  }

  void read(File &file, char kind, infini_slot &slot) {
    std::memset(&slot, 0, sizeof slot);
    if (kind == 't') {
      slot.tensor = &memories.emplace_back(file).view;
    } else if (kind == 'l') {
      auto &items = lists.emplace_back();
      for (auto count = file.read<uint32_t>(); count > 0; --count)
        items.push_back(memories.emplace_back(file).view);
      slot.tensors = &tensor_lists.emplace_back(infini_tensor_list{int64_t(items.size()), items.data()});
    } else if (kind == 'i') {
      auto &values = integers.emplace_back(file.read<uint32_t>());
      file.read(values.data(), 8 * values.size());
      slot.ints = &int_lists.emplace_back(infini_int_list{int64_t(values.size()), values.data()});
    } else if (kind == 'n' || kind == 'f') {
      file.read(&slot, sizeof slot);
    } else if (kind != '0') {
      throw std::runtime_error(std::string("unknown kind of slot ") + kind);
    }
  }
};

std::string message;

infiniStatus_t fail(infiniStatus_t code, const char *text) {
  message = text;
  return code;
}
void log(int32_t, const char *) {}
void trail(const char *, const char *, const char *) {}
const infini_backend *backend(const char *) {
  return infinicore_backend();
}

infiniStatus_t run(const infini_operator &entry, const std::vector<infini_slot> &slots) {
  infini_descriptor descriptor = nullptr;
  if (const auto status = entry.create(slots.data(), &descriptor)) return status;
  uint64_t bytes = 0;
  auto status = entry.workspace(descriptor, &bytes);
  void *workspace = bytes ? std::aligned_alloc(64, (bytes + 63) / 64 * 64) : nullptr;
  if (!status) status = entry.execute(descriptor, workspace, bytes, slots.data(), nullptr);
  if (!status) status = infinicore_backend()->runtime->synchronize();
  std::free(workspace);
  entry.destroy(descriptor);
  return status;
}

void run_all(const char *calls, const char *results) {
  static const infini_host host = {INFINI_HEADER(infini_host), fail, log, trail, backend};
  const infini_backend *cpu = infinicore_backend();
  int32_t devices = 0;
  if (cpu->open(&host, &devices) || devices < 1)
    throw std::runtime_error("the backend did not open: " + message);
  if (cpu->runtime->set_device(0)) throw std::runtime_error(message);

  File input(calls, "rb"), output(results, "wb");
  for (auto count = input.read<uint32_t>(); count > 0; --count) {
    const std::string name = read_text(input);
    Call call(input);
    const infini_operator *entry = nullptr;
    for (uint64_t i = 0; i < cpu->operator_count; ++i)
      if (cpu->operators[i]->name == name) entry = cpu->operators[i];
    message = "there is no kernel";
    const int32_t status = entry ? run(*entry, call.slots) : INFINI_STATUS_NOT_IMPLEMENTED;
    if (!status) message.clear();
    const uint32_t length = message.size();
    output.write(&status, sizeof status);
    output.write(&length, sizeof length);
    output.write(message.data(), length);
    for (const Memory &memory : call.memories) output.write(memory.bytes.data(), memory.bytes.size());
  }
}

}  // namespace

int main(int count, char **arguments) {
  if (count != 3) return std::fprintf(stderr, "usage: runner CALLS RESULTS\n"), 2;
  try {
    run_all(arguments[1], arguments[2]);
  } catch (const std::exception &error) {
    return std::fprintf(stderr, "runner: %s\n", error.what()), 1;
  }
  return 0;
}
