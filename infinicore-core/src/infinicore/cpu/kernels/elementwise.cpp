// elementwise.cpp -- Elementwise and Copy: how a loop over contiguous elements reaches every layout.
// Long rows are handed over in place; short ones are gathered into blocks; large results are streamed.
#include "../elementwise.hpp"

#include "../short_copy.hpp"
#include "../stream.hpp"

#include <algorithm>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kBlock = 1024;   // elements in a buffer: four buffers of f32 stay in the first-level cache
constexpr int64_t kLongRow = 128;  // elements from which a row is worth a call of its own
constexpr int64_t kMaxSize = 16;   // bytes
// Results of so many bytes are not in a core's own cache, and a cheap loop would wait for every line that it
// stores to: the lines of the next piece are fetched meanwhile.
constexpr int64_t kFarBytes = int64_t(1) << 20;
constexpr int64_t kPiece = 512;  // bytes

template <class T> void gather(char *to, const char *from, int64_t stride, int64_t n) {
  auto target = reinterpret_cast<T *>(to);
  auto source = reinterpret_cast<const T *>(from);
  if (stride == 0) {
    std::fill(target, target + n, *source);
    return;
  }
  for (int64_t i = 0; i < n; ++i) target[i] = source[i * stride];
}

template <class T> void scatter(char *to, const char *from, int64_t stride, int64_t n) {
  auto target = reinterpret_cast<T *>(to);
  auto source = reinterpret_cast<const T *>(from);
  for (int64_t i = 0; i < n; ++i) target[i * stride] = source[i];
}

// n elements of `size` bytes from a strided row to a contiguous buffer. (stride in elements)
void gather(char *to, const char *from, int64_t size, int64_t stride, int64_t n) {
  if (stride == 1) return copy_bytes(to, from, n * size);
  switch (size) {
    case 1:
      return gather<uint8_t>(to, from, stride, n);
    case 2:
      return gather<uint16_t>(to, from, stride, n);
    case 4:
      return gather<uint32_t>(to, from, stride, n);
    case 8:
      return gather<uint64_t>(to, from, stride, n);
    default:
      return gather<bytes16>(to, from, stride, n);
  }
}

// And back.
void scatter(char *to, const char *from, int64_t size, int64_t stride, int64_t n) {
  if (stride == 1) return copy_bytes(to, from, n * size);
  switch (size) {
    case 1:
      return scatter<uint8_t>(to, from, stride, n);
    case 2:
      return scatter<uint16_t>(to, from, stride, n);
    case 4:
      return scatter<uint32_t>(to, from, stride, n);
    case 8:
      return scatter<uint64_t>(to, from, stride, n);
    default:
      return scatter<bytes16>(to, from, stride, n);
  }
}

}  // namespace

Elementwise::Elementwise(Apply apply, const void *context, int64_t grain, Operand out,
                         std::initializer_list<Operand> in, bool pairs)
    : apply_(apply), context_(context), grain_(grain), inputs_(int(in.size())) {
  Operand operands[kOperands] = {out, out, out, out};
  std::copy(in.begin(), in.end(), operands + 1);
  const infini_tensor *tensors[kOperands];
  for (int i = 0; i < kOperands; ++i) tensors[i] = operands[i].tensor;
  outer_ = Space<kOperands>(tensors);
  for (int i = 0; i < kOperands; ++i) {
    size_[i] = operands[i].size;
    // A layout counts in elements of its dtype, which may be larger than what counts as an element here.
    int64_t scale = dtype_size(operands[i].tensor->dtype) / size_[i];
    for (int d = 0; d < outer_.ndim; ++d) outer_.strides[i][d] *= i > inputs_ ? 0 : scale;
  }
  if (pairs) {
    int64_t step[kOperands];
    for (int i = 0; i < kOperands; ++i) step[i] = i <= inputs_;
    outer_.append(2, step);
  }
  outer_.reorder();
  total_ = outer_.numel();
  for (int i = 0; i < kOperands; ++i) {
    int64_t expected = 1;
    contiguous_[i] = true;
    for (int d = outer_.ndim - 1; d >= 0; --d) {
      contiguous_[i] = contiguous_[i] && outer_.strides[i][d] == expected;
      expected *= outer_.shape[d];
    }
  }
  row_ = outer_.pop();
  if (outer_.ndim == 0 && row_.extent == 1)  // a single element is as contiguous as can be
    for (int i = 0; i < kOperands; ++i) row_.strides[i] = 1;
}

void Elementwise::run_with(const void *context, void *out, const void *a, const void *b,
                           const void *c) const {
  if (total_ == 0) return;
  char *const data[kOperands] = {static_cast<char *>(out), static_cast<char *>(const_cast<void *>(a)),
                                 static_cast<char *>(const_cast<void *>(b)),
                                 static_cast<char *>(const_cast<void *>(c))};
  // In place, the lines are read anyway, and a plain store to them is cheaper.
  bool stream = row_.strides[0] == 1 && total_ * size_[0] >= kStreamBytes && out != a && out != b && out != c;
  // Whole blocks, so that every thread but the last writes whole lines.
  parallel_for(0, total_, grain_, [&](int64_t begin, int64_t end) {
    if (outer_.ndim == 0 || row_.extent >= kLongRow)
      rows(context, data, begin, end, stream);
    else
      blocks(context, data, begin, end, stream);
    if (stream) stream_fence();
  });
}

// Elements begin .. end-1, one piece of a row at a time.
void Elementwise::rows(const void *context, char *const (&data)[kOperands], int64_t begin, int64_t end,
                       bool stream) const {
  alignas(64) char buffers[kOperands][kBlock * kMaxSize];
  // Operands that need no buffer, and with them no limit on the length of a piece.
  bool direct[kOperands];
  bool all = true;
  for (int i = 0; i <= inputs_; ++i) {
    direct[i] = row_.strides[i] == 1 && !(i == 0 && stream);
    all = all && direct[i];
  }
  bool far = direct[0] && grain_ >= kCheap && (end - begin) * size_[0] >= kFarBytes;
  for (int i = 1; i <= inputs_; ++i) far = far && (direct[i] || row_.strides[i] == 0);
  const int64_t piece = far ? kPiece / size_[0] : all ? end - begin : kBlock;
  const int64_t first_row = begin / row_.extent, last_row = (end - 1) / row_.extent;
  int64_t row = first_row;
  const void *splat[kOperands] = {};  // the element that fills buffer i
  outer_.for_each(first_row, last_row + 1, [&](const int64_t(&at)[kOperands]) {
    int64_t from = row == first_row ? begin - row * row_.extent : 0;
    int64_t to = row == last_row ? end - row * row_.extent : row_.extent;
    ++row;
    for (int64_t n; from < to; from += n) {
      n = std::min(piece, to - from);
      const void *in[kInputs];
      for (int i = 1; i <= inputs_; ++i) {
        char *source = data[i] + (at[i] + from * row_.strides[i]) * size_[i];
        if (direct[i]) {
          in[i - 1] = source;
          continue;
        }
        if (row_.strides[i] != 0)
          gather(buffers[i], source, size_[i], row_.strides[i], n);
        else if (splat[i] != source)
          gather(buffers[i], source, size_[i], 0, kBlock), splat[i] = source;
        in[i - 1] = buffers[i];
      }
      char *target = data[0] + (at[0] + from * row_.strides[0]) * size_[0];
      if (far)
        for (int64_t ahead = kPiece; ahead < 2 * kPiece; ahead += 64) __builtin_prefetch(target + ahead, 1);
      apply_(context, direct[0] ? target : buffers[0], in, n);
      if (stream)
        stream_copy(target, buffers[0], n * size_[0]);
      else if (!direct[0])
        scatter(target, buffers[0], size_[0], row_.strides[0], n);
    }
  });
}

// The same for short rows: operands that are not contiguous as a whole are gathered, several rows to a block.
void Elementwise::blocks(const void *context, char *const (&data)[kOperands], int64_t begin, int64_t end,
                         bool stream) const {
  alignas(64) char buffers[kOperands][kBlock * kMaxSize];
  for (int64_t at = begin, n; at < end; at += n) {
    n = std::min(kBlock, end - at);
    // Call move(operand, its address, position in the block, elements) for every piece of a row.
    auto walk = [&](int first, int last, auto move) {
      bool any = false;
      for (int i = first; i <= last; ++i) any = any || !contiguous_[i];
      if (!any) return;
      const int64_t first_row = at / row_.extent, last_row = (at + n - 1) / row_.extent;
      int64_t row = first_row, done = 0;
      outer_.for_each(first_row, last_row + 1, [&](const int64_t(&offset)[kOperands]) {
        int64_t from = row == first_row ? at - row * row_.extent : 0;
        int64_t to = row == last_row ? at + n - row * row_.extent : row_.extent;
        ++row;
        for (int i = first; i <= last; ++i)
          if (!contiguous_[i])
            move(i, data[i] + (offset[i] + from * row_.strides[i]) * size_[i], done, to - from);
        done += to - from;
      });
    };
    walk(1, inputs_, [&](int i, const char *source, int64_t position, int64_t count) {
      gather(buffers[i] + position * size_[i], source, size_[i], row_.strides[i], count);
    });
    const void *in[kInputs];
    for (int i = 1; i <= inputs_; ++i) in[i - 1] = contiguous_[i] ? data[i] + at * size_[i] : buffers[i];
    bool direct = contiguous_[0] && !stream;
    apply_(context, direct ? data[0] + at * size_[0] : buffers[0], in, n);
    if (contiguous_[0] && stream) stream_copy(data[0] + at * size_[0], buffers[0], n * size_[0]);
    walk(0, 0, [&](int, char *target, int64_t position, int64_t count) {
      scatter(target, buffers[0] + position * size_[0], size_[0], row_.strides[0], count);
    });
  }
}

// ---- Copy --------------------------------------------------------------------------------------------

namespace {

template <int64_t size> void copy_block(const void *, void *out, const void *const *in, int64_t n) {
  if (out != in[0]) std::memcpy(out, in[0], size_t(n * size));
}

Apply copier(int64_t size) {
  switch (size) {
    case 1:
      return copy_block<1>;
    case 2:
      return copy_block<2>;
    case 4:
      return copy_block<4>;
    case 8:
      return copy_block<8>;
    default:
      return copy_block<16>;
  }
}

constexpr int64_t kTileBytes = 128;  // of a tile's side: two lines, so that both sides use whole ones
constexpr int64_t kPatch = 4;  // tiles to a side of what a thread does at once: its pages stay in the TLB

#if !defined(__clang__)  // which lacks __builtin_shuffle, and gets the plain loop below
// Registers of 16 bytes, which every instruction set has, hold a row of a square of `lanes` x `lanes`
// elements.
template <class T> struct Lanes {
  static constexpr int count = 16 / int(sizeof(T));
  typedef T Vector __attribute__((vector_size(16)));

  // The lower (or upper) halves of two rows, element by element in turn.
  template <bool upper> static Vector interleave(Vector a, Vector b) {
    Vector mask;
    for (int i = 0; i < count; ++i) mask[i] = T(i / 2 + (upper ? count / 2 : 0) + (i % 2 ? count : 0));
    return __builtin_shuffle(a, b, mask);
  }

  // Interleaving row i with row i + count / 2 turns a bit of the row number into one of the column number;
  // after as many rounds as the number has bits the square is transposed.
  static void transpose(const T *from, int64_t from_row, T *to, int64_t to_row) {
    Vector rows[count], next[count];
    for (int i = 0; i < count; ++i) std::memcpy(&rows[i], from + i * from_row, 16);
    for (int round = 1; round < count; round *= 2) {
      for (int i = 0; i < count / 2; ++i) {
        next[2 * i] = interleave<false>(rows[i], rows[i + count / 2]);
        next[2 * i + 1] = interleave<true>(rows[i], rows[i + count / 2]);
      }
      std::memcpy(rows, next, sizeof(rows));
    }
    for (int i = 0; i < count; ++i) std::memcpy(to + i * to_row, &rows[i], 16);
  }
};
#endif

// One tile through a buffer: its lines are not those of src or dst, whose rows often collide in a cache.
template <class T> void transpose_tile(char *dst, const char *src, int64_t dst_row, int64_t src_column,
                                       int64_t rows, int64_t columns, bool stream) {
  constexpr int64_t side = std::max<int64_t>(kTileBytes / int64_t(sizeof(T)), 16);
  alignas(64) T tile[side][side];
  auto from = reinterpret_cast<const T *>(src);
  auto to = reinterpret_cast<T *>(dst);
  int64_t squared = 0;  // rows and columns below this are done in squares
#if !defined(__clang__)
  if constexpr (sizeof(T) < 16) {
    constexpr int64_t lanes = Lanes<T>::count;
    if (rows == side && columns == side) {
      for (int64_t c = 0; c < side; c += lanes)
        for (int64_t r = 0; r < side; r += lanes)
          Lanes<T>::transpose(from + c * src_column + r, src_column, &tile[r][c], side);
      squared = side;
    }
  }
#endif
  for (int64_t c = squared; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) tile[r][c] = from[c * src_column + r];
  for (int64_t r = 0; r < rows; ++r) {
    if (stream)
      stream_copy(to + r * dst_row, tile[r], columns * int64_t(sizeof(T)));
    else
      std::memcpy(to + r * dst_row, tile[r], size_t(columns) * sizeof(T));
  }
}

int64_t tile_side(int64_t size) {
  return std::max<int64_t>(kTileBytes / size, 16);
}

void transpose_tile(int64_t size, char *dst, const char *src, int64_t dst_row, int64_t src_column,
                    int64_t rows, int64_t columns, bool stream) {
  switch (size) {
    case 1:
      return transpose_tile<uint8_t>(dst, src, dst_row, src_column, rows, columns, stream);
    case 2:
      return transpose_tile<uint16_t>(dst, src, dst_row, src_column, rows, columns, stream);
    case 4:
      return transpose_tile<uint32_t>(dst, src, dst_row, src_column, rows, columns, stream);
    case 8:
      return transpose_tile<uint64_t>(dst, src, dst_row, src_column, rows, columns, stream);
    default:
      return transpose_tile<bytes16>(dst, src, dst_row, src_column, rows, columns, stream);
  }
}

}  // namespace

Copy::Copy(const infini_tensor &dst, const infini_tensor &src)
    : size_(dtype_size(dst.dtype)),
      straight_(copier(size_), nullptr, kCheap, {&dst, size_}, {{&src, size_}}) {
  Space<2> space({&dst, &src});
  space.reorder();
  int last = space.ndim - 1, other = -1;
  if (last < 1 || space.strides[0][last] != 1 || space.strides[1][last] == 1 || space.strides[1][last] == 0)
    return;
  for (int d = 0; d < last; ++d)
    if (space.strides[1][d] == 1) other = d;
  if (other < 0 || space.shape[last] < 4 || space.shape[other] < 4) return;
  transposed_ = true;
  columns_ = space.shape[last];
  src_column_ = space.strides[1][last];
  rows_ = space.shape[other];
  dst_row_ = space.strides[0][other];
  for (int d = 0; d < last; ++d)
    if (d != other) outer_.append(space.shape[d], {space.strides[0][d], space.strides[1][d]});
}

void Copy::run(void *dst, const void *src) const {
  if (transposed_)
    transpose(static_cast<char *>(dst), static_cast<const char *>(src));
  else
    straight_.run(dst, src);
}

void Copy::transpose(char *dst, const char *src) const {
  const int64_t side = tile_side(size_), patch = side * kPatch;
  const int64_t down = (rows_ + patch - 1) / patch, across = (columns_ + patch - 1) / patch;
  const bool stream = outer_.numel() * rows_ * columns_ * size_ >= kStreamBytes;
  parallel_for(0, outer_.numel() * down * across, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t top = task % (down * across) / across * patch, left = task % across * patch;
      const int64_t bottom = std::min(top + patch, rows_), right = std::min(left + patch, columns_);
      const int64_t matrix = task / (down * across);
      outer_.for_each(matrix, matrix + 1, [&](const int64_t(&at)[2]) {
        for (int64_t c = left; c < right; c += side)
          for (int64_t r = top; r < bottom; r += side)
            transpose_tile(size_, dst + (at[0] + r * dst_row_ + c) * size_,
                           src + (at[1] + c * src_column_ + r) * size_, dst_row_, src_column_,
                           std::min(side, bottom - r), std::min(side, right - c), stream);
      });
    }
    if (stream) stream_fence();
  });
}

}  // namespace infini::cpu::INFINI_ISA
