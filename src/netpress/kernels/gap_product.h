/* What is done with decoded (end of position, value) pairs: products with x, symbols written to their places.
 *
 * A block's lanes are decoded side by side, some steps at a time, into two small arrays [step][lane]; each lane has a run of
 * positions of its own, which may begin and end within a row. Then each lane's pairs are multiplied one after the other, its
 * sums in registers.
 */
#ifndef NETPRESS_GAP_PRODUCT_H
#define NETPRESS_GAP_PRODUCT_H

#include "gap_model.h"

typedef struct {
    uint32_t ends[GAP_STEPS * GAP_MOST_LANES];     /* position behind the value, from the block's begin */
    uint32_t payloads[GAP_STEPS * GAP_MOST_LANES]; /* the value's bits, or its symbol */
} GapPairs;

#if defined(__GNUC__)
typedef float GapEight __attribute__((vector_size(32), aligned(4), may_alias));
#define GAP_EIGHTS 8
#endif

/* Adds the pairs of one lane to the columns [0, width) of y; false: a position lies outside. y and x have `n` columns. */
#define GAP_ROW_CHANGE(SAVE, LOAD)                                                     \
    if (NETPRESS_UNLIKELY(end > limit)) {                                              \
        SAVE;                                                                          \
        row = end - limit > columns ? (end - 1) / columns : row + 1;                   \
        if (row >= rows) return false;                                                 \
        limit = (uint64_t)(row + 1) * columns;                                         \
        LOAD;                                                                          \
    }

NETPRESS_INLINE bool gap_lane_one(const GapPairs *pairs, size_t steps, size_t lanes, size_t lane, uint32_t columns,
                                  uint32_t rows, uint32_t *lane_row, const float *x, float *y) {
    uint32_t row = *lane_row;
    uint64_t limit = (uint64_t)(row + 1) * columns;
    uint64_t shift = columns - limit - 1;
    float sum = y[row];
    for (size_t t = 0; t < steps; t++) {
        uint64_t end = pairs->ends[t * lanes + lane];
        float value;
        memcpy(&value, &pairs->payloads[t * lanes + lane], 4);
        GAP_ROW_CHANGE(y[row] = sum, sum = y[row]; shift = columns - limit - 1)
        sum += value * x[end + shift];
    }
    y[row] = sum;
    *lane_row = row;
    return true;
}

#if defined(__GNUC__)
NETPRESS_INLINE bool gap_lane_eights(const GapPairs *pairs, size_t steps, size_t lanes, size_t lane, uint32_t columns,
                                     uint32_t rows, uint32_t *lane_row, const float *x, float *y, size_t n, int eights) {
    uint32_t row = *lane_row;
    uint64_t limit = (uint64_t)(row + 1) * columns;
    GapEight sums[GAP_EIGHTS], *at = (GapEight *)(y + row * n);
    for (int j = 0; j < eights; j++) sums[j] = at[j];
    for (size_t t = 0; t < steps; t++) {
        uint64_t end = pairs->ends[t * lanes + lane];
        float value;
        memcpy(&value, &pairs->payloads[t * lanes + lane], 4);
        GAP_ROW_CHANGE(for (int j = 0; j < eights; j++) at[j] = sums[j],
                       at = (GapEight *)(y + row * n); for (int j = 0; j < eights; j++) sums[j] = at[j])
        const GapEight *from = (const GapEight *)(x + (end + columns - limit - 1) * n);
        for (int j = 0; j < eights; j++) sums[j] += value * from[j];
    }
    for (int j = 0; j < eights; j++) at[j] = sums[j];
    *lane_row = row;
    return true;
}
#endif

/* Adds all pairs to y (rows, n): n is 1 or a multiple of 8. rows_of: the row each lane is in, moved on. */
NETPRESS_CLONES static bool gap_multiply_pairs(const GapPairs *pairs, size_t steps, size_t lanes, size_t stride, uint32_t columns,
                                               uint32_t rows, uint32_t *rows_of, const float *x, float *y, size_t n) {
    for (size_t lane = 0; lane < lanes; lane++) {
        if (n == 1) {
            if (!gap_lane_one(pairs, steps, stride, lane, columns, rows, &rows_of[lane], x, y)) return false;
            continue;
        }
        uint32_t row = rows_of[lane];
        for (size_t j = 0; j < n;) {
            row = rows_of[lane];
#if defined(__GNUC__)
            bool fine;
            if (n - j >= 64) fine = gap_lane_eights(pairs, steps, stride, lane, columns, rows, &row, x + j, y + j, n, 8), j += 64;
            else if (n - j >= 32) fine = gap_lane_eights(pairs, steps, stride, lane, columns, rows, &row, x + j, y + j, n, 4), j += 32;
            else if (n - j >= 16) fine = gap_lane_eights(pairs, steps, stride, lane, columns, rows, &row, x + j, y + j, n, 2), j += 16;
            else fine = gap_lane_eights(pairs, steps, stride, lane, columns, rows, &row, x + j, y + j, n, 1), j += 8;
            if (!fine) return false;
#else
            uint64_t limit = (uint64_t)(row + 1) * columns;
            for (size_t t = 0; t < steps; t++) {
                uint64_t end = pairs->ends[t * stride + lane];
                float value;
                memcpy(&value, &pairs->payloads[t * stride + lane], 4);
                GAP_ROW_CHANGE(;, ;)
                const float *from = x + (end + columns - limit - 1) * n + j;
                for (int i = 0; i < 8; i++) y[row * n + j + i] += value * from[i];
            }
            j += 8;
#endif
        }
        rows_of[lane] = row;
    }
    return true;
}

/* Where decoded payloads go: items of 2 bytes (symbols) or of 4 (bits of values). */
typedef struct {
    void *items;
    int size;
} GapPlaces;

/* The buffer as a matrix (rows, columns); size 0: it is none. */
NETPRESS_INLINE GapPlaces gap_places(const Py_buffer *out, Py_ssize_t rows, Py_ssize_t columns) {
    for (int size = 2; size <= 4; size += 2)
        if (out->len / size / columns == rows && out->len == size * rows * columns) return (GapPlaces){out->buf, size};
    return (GapPlaces){NULL, 0};
}

NETPRESS_INLINE GapPlaces gap_places_from(GapPlaces out, Py_ssize_t position) {
    return (GapPlaces){(char *)out.items + out.size * position, out.size};
}

/* Writes payloads to their places in out (positions of the block); false: a position lies outside. */
NETPRESS_INLINE bool gap_place_pairs(const GapPairs *pairs, size_t steps, size_t lanes, size_t stride, uint32_t positions,
                                     GapPlaces out) {
    uint16_t *symbols = out.items;
    uint32_t *bits = out.items;
    for (size_t t = 0; t < steps; t++)
        for (size_t lane = 0; lane < lanes; lane++) {
            uint32_t end = pairs->ends[t * stride + lane], payload = pairs->payloads[t * stride + lane];
            if (end - 1 >= positions) return false;
            if (out.size == 4) bits[end - 1] = payload;
            else symbols[end - 1] = (uint16_t)payload;
        }
    return true;
}
#endif
