/* What every kernel shares: Python's stable ABI, buffers with their lengths, and clones of a function for newer processors.
 *
 * A kernel takes buffers (numpy arrays, memoryviews, bytes), checks their lengths and everything that it reads from a stream
 * before it uses it, and releases the GIL while it works, so that threads of Python run kernels side by side. It never trusts
 * a stream: wrong bytes make it raise ValueError, never read or write outside a buffer. Wrong arguments do, too.
 */
#ifndef NETPRESS_COMMON_H
#define NETPRESS_COMMON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* NETPRESS_CLONES before a static function: compiled for AVX-512, AVX2 and the baseline, chosen when the program starts.
 * Only where the C library can choose (ifunc); elsewhere the baseline alone. Helpers that such a function calls must be
 * NETPRESS_INLINE, or they stay at the baseline. Where intrinsics are worth it, ask __builtin_cpu_supports instead. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define NETPRESS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define NETPRESS_CLONES
#endif
#if defined(__GNUC__)
#define NETPRESS_INLINE static inline __attribute__((always_inline))
#define NETPRESS_LIKELY(x) __builtin_expect(!!(x), 1)
#define NETPRESS_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define NETPRESS_INLINE static inline
#define NETPRESS_LIKELY(x) (x)
#define NETPRESS_UNLIKELY(x) (x)
#endif

/* Little-endian loads from anywhere; the caller has checked the bounds. */
NETPRESS_INLINE uint64_t netpress_load64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

NETPRESS_INLINE uint32_t netpress_load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    return value;
}

/* The items of a buffer; -1 with ValueError set when it is no whole number of them. */
NETPRESS_INLINE Py_ssize_t netpress_items(const Py_buffer *buffer, Py_ssize_t itemsize, const char *name) {
    if (buffer->len % itemsize) {
        PyErr_Format(PyExc_ValueError, "%s: %zd bytes are no whole number of items of %zd", name, buffer->len, itemsize);
        return -1;
    }
    return buffer->len / itemsize;
}

#endif
