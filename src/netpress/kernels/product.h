/* What products with coded matrices share: y[n] += sum over i of values[i] * x[columns[i], n], for a batch of n. */
#ifndef NETPRESS_PRODUCT_H
#define NETPRESS_PRODUCT_H

#include "common.h"

#define PRODUCT_CHUNK 512 /* how many (column, value) pairs are held at a time; they stay in the first cache */

#if defined(__GNUC__)
/* Columns [n, n + 4 * lanes) or [n, n + lanes) of the batch, sums in registers. */
#define PRODUCT_WIDTH(lanes)                                                                                                   \
    typedef float product_v##lanes __attribute__((vector_size(4 * lanes), aligned(4), may_alias));                             \
    NETPRESS_INLINE void product_4x##lanes(float *y, const uint32_t *columns, const float *values, int64_t count,              \
                                           const float *x, int64_t batch) {                                                    \
        product_v##lanes *out = (product_v##lanes *)y, a = out[0], b = out[1], c = out[2], d = out[3];                         \
        for (int64_t i = 0; i < count; i++) {                                                                                  \
            const product_v##lanes *in = (const product_v##lanes *)(x + (int64_t)columns[i] * batch);                          \
            a += values[i] * in[0];                                                                                            \
            b += values[i] * in[1];                                                                                            \
            c += values[i] * in[2];                                                                                            \
            d += values[i] * in[3];                                                                                            \
        }                                                                                                                      \
        out[0] = a;                                                                                                            \
        out[1] = b;                                                                                                            \
        out[2] = c;                                                                                                            \
        out[3] = d;                                                                                                            \
    }                                                                                                                          \
    NETPRESS_INLINE void product_1x##lanes(float *y, const uint32_t *columns, const float *values, int64_t count,              \
                                           const float *x, int64_t batch) {                                                    \
        product_v##lanes *out = (product_v##lanes *)y, a = out[0], b = {0};                                                    \
        int64_t i = 0;                                                                                                         \
        for (; i + 1 < count; i += 2) {                                                                                        \
            a += values[i] * *(const product_v##lanes *)(x + (int64_t)columns[i] * batch);                                     \
            b += values[i + 1] * *(const product_v##lanes *)(x + (int64_t)columns[i + 1] * batch);                             \
        }                                                                                                                      \
        if (i < count) a += values[i] * *(const product_v##lanes *)(x + (int64_t)columns[i] * batch);                          \
        out[0] = a + b;                                                                                                        \
    }
PRODUCT_WIDTH(16)
PRODUCT_WIDTH(8)
PRODUCT_WIDTH(4)
#endif

/* One column of the batch: four sums that do not wait for each other. */
NETPRESS_INLINE void product_one(float *y, const uint32_t *columns, const float *values, int64_t count, const float *x,
                                 int64_t batch) {
    float a = 0, b = 0, c = 0, d = 0;
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        a += values[i] * x[(int64_t)columns[i] * batch];
        b += values[i + 1] * x[(int64_t)columns[i + 1] * batch];
        c += values[i + 2] * x[(int64_t)columns[i + 2] * batch];
        d += values[i + 3] * x[(int64_t)columns[i + 3] * batch];
    }
    for (; i < count; i++) a += values[i] * x[(int64_t)columns[i] * batch];
    *y += (a + b) + (c + d);
}

/* y: one row of the result, (batch,); every column is below the rows of x (columns, batch). */
NETPRESS_INLINE void product_add(float *y, const uint32_t *columns, const float *values, int64_t count, const float *x,
                                 int64_t batch) {
    int64_t n = 0;
#if defined(__GNUC__)
    for (; n + 64 <= batch; n += 64) product_4x16(y + n, columns, values, count, x + n, batch);
    if (n + 32 <= batch) product_4x8(y + n, columns, values, count, x + n, batch), n += 32;
    if (n + 16 <= batch) product_1x16(y + n, columns, values, count, x + n, batch), n += 16;
    if (n + 8 <= batch) product_1x8(y + n, columns, values, count, x + n, batch), n += 8;
    if (n + 4 <= batch) product_1x4(y + n, columns, values, count, x + n, batch), n += 4;
#endif
    for (; n < batch; n++) product_one(y + n, columns, values, count, x + n, batch);
}

/* Items of a payload, which begin at any byte. */
#if defined(__GNUC__)
typedef uint16_t product_u16 __attribute__((aligned(1), may_alias));
typedef uint32_t product_u32 __attribute__((aligned(1), may_alias));
typedef uint64_t product_u64 __attribute__((aligned(1), may_alias));
typedef float product_f32 __attribute__((aligned(1), may_alias));
#else
typedef uint16_t product_u16;
typedef uint32_t product_u32;
typedef uint64_t product_u64;
typedef float product_f32;
#endif

/* Widens `count` unsigned integers of 1, 2 or 4 bytes; gives the largest. */
NETPRESS_INLINE uint32_t product_widen(uint32_t *to, const void *from, int size, int64_t at, int64_t count) {
    uint32_t most = 0;
    if (size == 1) {
        const uint8_t *items = (const uint8_t *)from + at;
        for (int64_t i = 0; i < count; i++) to[i] = items[i], most = to[i] > most ? to[i] : most;
    } else if (size == 2) {
        const product_u16 *items = (const product_u16 *)from + at;
        for (int64_t i = 0; i < count; i++) to[i] = items[i], most = to[i] > most ? to[i] : most;
    } else {
        const product_u32 *items = (const product_u32 *)from + at;
        for (int64_t i = 0; i < count; i++) to[i] = items[i], most = to[i] > most ? to[i] : most;
    }
    return most;
}

#endif
