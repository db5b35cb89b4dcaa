/* The header of operator neg with the fingerprint of another signature.
 * A plug-in compiled with it was, as far as core can tell, made for another version of the operator. */
#ifndef MISMATCH_INFINICORE_OPERATORS_NEG_H
#define MISMATCH_INFINICORE_OPERATORS_NEG_H
#include_next <infinicore/operators/neg.h>
#undef INFINI_FINGERPRINT_neg
#define INFINI_FINGERPRINT_neg 0x0123456789abcdefull
#endif
