// order.hpp -- the order of elements as unsigned integers, and sorting of such keys with where they came
// from. NaN is the largest, -0 equals 0; equal keys are told apart by their index, so that no order is left
// to chance.
#pragma once
#include "strides.hpp"
#include "types.hpp"

#include <algorithm>

namespace infini::cpu::INFINI_ISA {

template <int bytes> struct unsigned_of;
template <> struct unsigned_of<1> { using type = uint8_t; };
template <> struct unsigned_of<2> { using type = uint16_t; };
template <> struct unsigned_of<4> { using type = uint32_t; };
template <> struct unsigned_of<8> { using type = uint64_t; };
template <class T> using order_bits_t = typename unsigned_of<sizeof(T)>::type;

// The bits of the largest number that is no NaN.
template <class T> struct last_number;
template <> struct last_number<float8_e4m3> { static constexpr uint8_t bits = 0x7e; };
template <> struct last_number<half> { static constexpr uint16_t bits = 0x7c00; };
template <> struct last_number<bfloat16> { static constexpr uint16_t bits = 0x7f80; };
template <> struct last_number<float> { static constexpr uint32_t bits = 0x7f800000; };
template <> struct last_number<double> { static constexpr uint64_t bits = 0x7ff0000000000000; };

template <class T> inline order_bits_t<T> order_bits(T x) {
  using U = order_bits_t<T>;
  constexpr U sign = U(U(1) << (8 * sizeof(T) - 1));
  const U bits = bit_cast<U>(x);
  if constexpr (std::is_integral_v<T>) {
    return std::is_signed_v<T> ? U(bits ^ sign) : bits;
  } else {
    const U magnitude = U(bits & U(~sign));
    const U number = bits & sign && magnitude ? U(~bits) : U(magnitude | sign);
    return magnitude > last_number<T>::bits ? U(~U(0)) : number;
  }
}

// A key and where it came from. Ascending items are in the order asked for, equal keys by their index.
// Keys of up to 32 bits share one word with an index of 32.
using NarrowItem = uint64_t;
struct WideItem {
  uint64_t key, index;
  bool operator<(const WideItem &other) const {
    return key < other.key || (key == other.key && index < other.index);
  }
};

inline uint64_t item_key(NarrowItem item) {
  return item >> 32;
}
inline uint64_t item_key(WideItem item) {
  return item.key;
}
inline int64_t item_index(NarrowItem item) {
  return int64_t(item & 0xffffffffu);
}
inline int64_t item_index(WideItem item) {
  return int64_t(item.index);
}
template <class Item> inline Item make_item(uint64_t key, int64_t index) {
  if constexpr (std::is_same_v<Item, NarrowItem>)
    return key << 32 | uint64_t(index);
  else
    return {key, uint64_t(index)};
}

// Elements begin .. end-1 of a row as items; descending turns the order around.
template <class Item, class T>
inline void make_items(const T *row, int64_t stride, int64_t begin, int64_t end, bool descending, Item *out) {
  using U = order_bits_t<T>;
  const U flip = descending ? U(~U(0)) : U(0);
  for (int64_t i = begin; i < end; ++i)
    out[i - begin] = make_item<Item>(U(order_bits(row[i * stride]) ^ flip), i);
}

// Sort n items that were made in ascending order of their index, with keys of `bytes` bytes. Returns where
// the sorted ones are: in items, or in spare, which has room for as many.
// (Out of line: it knows no dtype, and is large.)
template <class Item>
__attribute__((noinline)) Item *sort_items(Item *items, Item *spare, int64_t n, int bytes) {
  constexpr int64_t kFew = 64;
  if (std::is_sorted(items, items + n)) return items;
  if (n <= kFew) {
    std::sort(items, items + n);
    return items;
  }
  // Radix sort, the least significant byte first: each pass keeps the order of equal bytes.
  int64_t counts[8][256];
  std::fill_n(counts[0], 256 * bytes, int64_t(0));
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t key = item_key(items[i]);
    for (int b = 0; b < bytes; ++b) ++counts[b][key >> (8 * b) & 255];
  }
  for (int b = 0; b < bytes; ++b) {
    const int shift = 8 * b;
    if (counts[b][item_key(items[0]) >> shift & 255] == n) continue;  // one byte for all
    int64_t at = 0;
    for (int64_t &count : counts[b]) {
      const int64_t here = count;
      count = at;
      at += here;
    }
    for (int64_t i = 0; i < n; ++i) spare[counts[b][item_key(items[i]) >> shift & 255]++] = items[i];
    std::swap(items, spare);
  }
  return items;
}

// The lines along one dimension of input, and those of the two outputs that go with them.
struct OrderedLines {
  Space<3> all;     // values, indices, input: every dimension but the ordered one
  int64_t extent;   // of the ordered one, in input
  int64_t step[3];  // from one element of a line to the next
  bool narrow;      // are indices 32 bits wide, rather than 64?

  OrderedLines(const infini_tensor &values, const infini_tensor &indices, const infini_tensor &input,
               int64_t dim)
      : extent(input.shape[dim]),
        step{values.strides[dim], indices.strides[dim], input.strides[dim]},
        narrow(indices.dtype == INFINI_DTYPE_I32) {
    for (int d = 0; d < input.ndim; ++d)
      if (d != dim) all.append(input.shape[d], {values.strides[d], indices.strides[d], input.strides[d]});
    all.reorder();
  }

  // Write what the n items stand for; at: where the line begins in each tensor.
  template <class T, class Item> void write(const Item *items, int64_t n, const int64_t (&at)[3],
                                            void *values, void *indices, const void *input) const {
    const T *from = static_cast<const T *>(input) + at[2];
    T *to = static_cast<T *>(values) + at[0];
    for (int64_t i = 0; i < n; ++i) to[i * step[0]] = from[item_index(items[i]) * step[2]];
    if (narrow)
      for (int64_t i = 0; i < n; ++i)
        static_cast<int32_t *>(indices)[at[1] + i * step[1]] = int32_t(item_index(items[i]));
    else
      for (int64_t i = 0; i < n; ++i)
        static_cast<int64_t *>(indices)[at[1] + i * step[1]] = item_index(items[i]);
  }
};

// The item for keys of T in lines of n elements: fn(tag<Item>{}).
template <class T, class Fn> decltype(auto) dispatch_item(int64_t n, Fn &&fn) {
  if constexpr (sizeof(T) <= 4)
    if (n <= int64_t(UINT32_MAX)) return fn(tag<NarrowItem>{});
  return fn(tag<WideItem>{});
}

// For every dtype with an order; a boolean is a byte.
template <class Fn> decltype(auto) dispatch_ordered(const char *op, int64_t dtype, Fn &&fn) {
  return dtype == INFINI_DTYPE_BOOL ? fn(tag<uint8_t>{}) : dispatch_reals(op, dtype, fn);
}

}  // namespace infini::cpu::INFINI_ISA
