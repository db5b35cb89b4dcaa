/* The plug-in ABI of the next major, as far as this test needs it: today's with another number.
 * What core makes of it must not depend on anything behind that number. */
#ifndef NEXT_INFINICORE_ABI_H
#define NEXT_INFINICORE_ABI_H
#include_next <infinicore/abi.h>
#undef INFINI_ABI_MAJOR
#define INFINI_ABI_MAJOR 2
#undef INFINI_ABI_MINOR
#define INFINI_ABI_MINOR 0
#undef INFINI_BACKEND_CAPSULE
#define INFINI_BACKEND_CAPSULE "infinicore.backend.v2"
#endif
