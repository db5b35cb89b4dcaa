// cpu/flash.hpp -- softmax(scale * q @ k.T + bias) @ v for any number of sequences: what every attention
// operator calls. Keys are dense or in pages, layouts are any, no matrix of scores is kept.
#pragma once
#include "heads.hpp"

#include <cstdint>
#include <vector>

namespace infini::cpu::INFINI_ISA {

// One sequence: queries that look at the same keys. Offsets are in elements, from a tensor's first.
struct FlashSequence {
  int64_t tokens = 0;    // queries
  int64_t keys = 0;      // keys
  int64_t diagonal = 0;  // key i + diagonal is the one at query i's own position
  int64_t q = 0, out = 0, k = 0, v = 0, mask = 0;
  int64_t table = 0;  // of pages: the offset of this sequence's row
};

// What all sequences of a call share.
struct Flash {
  int32_t dtype = 0;  // of q, k, v and out: a float
  int64_t heads = 0, kv_heads = 0;
  int64_t d = 0, dv = 0;  // sizes of a key and of a value
  double scale = 1;
  bool causal = true;  // query i sees key j only where j <= i + diagonal

  Heads q, out, k, v;  // outer: the pages of k and v

  // Keys in pages: key t is token t % page of outer entry pages[t / page]. NULL: keys are where k and v say.
  const infini_tensor *pages = nullptr;
  int64_t page = 1, pages_step = 0;

  // NULL, or f32 per head: slope * -|j - (i + diagonal)| is added to the scores.
  const infini_tensor *slopes = nullptr;

  // Absent (data NULL), or added to the scores; a bool lets only what is true be seen. element: along keys.
  Heads mask;
  int32_t mask_dtype = 0;
};

// A query that sees no key, or whose mask is -inf at all of them, gives zeros. Page numbers are not checked.
void flash_attention(const Flash &call, const std::vector<FlashSequence> &sequences);

}  // namespace infini::cpu::INFINI_ISA
