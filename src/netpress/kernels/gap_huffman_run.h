/* Reading coded blocks: the check of a stream, its symbols, its products. Part of gap_huffman.c. */
#ifndef NETPRESS_GAP_HUFFMAN_RUN_H
#define NETPRESS_GAP_HUFFMAN_RUN_H

#include "gap_product.h"

typedef struct {
    Py_buffer stream, table, numbers, offsets, starts;
    int limit, raw;
    Py_ssize_t lanes, rows, columns, block_rows, count;
} HuffmanCoded;

typedef struct {
    uint64_t bits[GAP_MOST_LANES]; /* where the next code begins, from the stream's begin */
    uint32_t ends[GAP_MOST_LANES];
    uint64_t stops[GAP_MOST_LANES]; /* bits */
    size_t lanes;
} HuffmanLanes;

static void release(HuffmanCoded *coded) {
    PyBuffer_Release(&coded->stream);
    PyBuffer_Release(&coded->table);
    PyBuffer_Release(&coded->numbers);
    PyBuffer_Release(&coded->offsets);
    PyBuffer_Release(&coded->starts);
}

static bool coded_fits(HuffmanCoded *coded) {
    Py_ssize_t length = coded->stream.len - GAP_PAD;
    coded->count = coded->numbers.len / 8;
    if (coded->limit < 1 || coded->limit > 16 || coded->raw < 0 || coded->raw > GAP_MOST_RAW || coded->limit + coded->raw > 16 ||
        coded->lanes < 1 || coded->lanes > GAP_MOST_LANES || coded->rows < 1 || coded->columns < 1 || coded->block_rows < 1 ||
        coded->block_rows > INT32_MAX / coded->columns || coded->count != (coded->rows - 1) / coded->block_rows + 1 ||
        coded->numbers.len % 8 || coded->offsets.len != 8 * (coded->lanes * coded->count + 1) ||
        coded->starts.len != 4 * coded->lanes * coded->count || coded->table.len != (Py_ssize_t)8 << coded->limit)
        return false;
    const int64_t *offsets = coded->offsets.buf;
    for (Py_ssize_t i = 0; i <= coded->lanes * coded->count; i++)
        if (offsets[i] < (i ? offsets[i - 1] : 0) || offsets[i] > length) return false;
    for (Py_ssize_t b = 0; b < coded->count; b++) {
        int64_t number = ((int64_t *)coded->numbers.buf)[b];
        if (number < 0 || number > INT32_MAX) return false;
    }
    /* Every entry must go on by at least one position, and never drop more bits than were loaded for it. */
    bool fine = true;
    const uint64_t *entries = coded->table.buf;
    for (size_t i = 0; i < (size_t)1 << coded->limit; i++) {
        uint64_t drop = entries[i] & 0xff, alone = entries[i] >> 24 & 0xff;
        fine &= (entries[i] >> 8 & 0xffff) >= 1 && alone <= drop && drop <= alone + coded->raw && alone <= (uint64_t)coded->limit;
    }
    return fine;
}

/* Reads what `check`, `place` and `multiply` have in common; false with an error set, buffers released. */
static bool read_coded(PyObject *args, HuffmanCoded *coded, const char *format, Py_buffer *x, Py_buffer *y, Py_ssize_t more[3]) {
    if (!PyArg_ParseTuple(args, format, &coded->stream, &coded->table, &coded->limit, &coded->raw, &coded->lanes, &coded->rows,
                          &coded->columns, &coded->block_rows, &coded->numbers, &coded->offsets, &coded->starts, y, &more[0],
                          &more[1], &more[2], x))
        return false;
    if (coded_fits(coded)) return true;
    PyErr_SetString(PyExc_ValueError, "coded: sizes, tables and blocks do not fit each other");
    release(coded);
    return false;
}
#define CODED "y*y*iinnnny*y*"

/* One symbol from `window`, which then holds the bits behind it. */
NETPRESS_INLINE uint32_t huffman_symbol(const uint64_t *table, uint64_t mask, bool has_raw, uint64_t *window, uint64_t *bits,
                                        uint64_t *entry) {
    *entry = table[*window & mask];
    uint64_t drop = *entry & 63;
    uint32_t advance = (uint32_t)(*entry >> 8) & 0xffff;
    if (has_raw) {
        uint64_t alone = *entry >> 24 & 31;
        advance += (uint32_t)(*window >> alone) & ((1u << (drop - alone)) - 1);
    }
    *window >>= drop;
    *bits += drop;
    return advance;
}

#define HUFFMAN_PAIR                                                             \
    {                                                                            \
        end += huffman_symbol(table, mask, has_raw, &window, &bits, &entry);     \
        pairs->ends[t * lanes->lanes + lane] = end;                              \
        pairs->payloads[t * lanes->lanes + lane] = (uint32_t)(entry >> 32);      \
    }

NETPRESS_INLINE void huffman_pairs(const HuffmanCoded *coded, HuffmanLanes *lanes, GapPairs *pairs, size_t steps, size_t active,
                                   bool has_raw) {
    const uint64_t *table = coded->table.buf, mask = ((uint64_t)1 << coded->limit) - 1;
    const size_t group = coded->limit + coded->raw <= HUFFMAN_BITS / 4 ? 4 : 3;
    const uint8_t *stream = coded->stream.buf;
    for (size_t lane = 0; lane < active; lane++) {
        uint64_t bits = lanes->bits[lane];
        uint32_t end = lanes->ends[lane];
        for (size_t t = 0; t < steps;) {
            uint64_t window = netpress_load64(stream + (bits >> 3)) >> (bits & 7), entry;
            size_t stop = steps - t < group ? steps : t + group;
            if (NETPRESS_LIKELY(stop - t == 4)) {
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++, t++) HUFFMAN_PAIR
            } else {
                for (; t < stop; t++) HUFFMAN_PAIR
            }
        }
        lanes->bits[lane] = bits;
        lanes->ends[lane] = end;
    }
}

NETPRESS_CLONES static void decode_pairs(const HuffmanCoded *coded, HuffmanLanes *lanes, GapPairs *pairs, size_t steps,
                                         size_t active) {
    if (coded->raw) huffman_pairs(coded, lanes, pairs, steps, active, true);
    else huffman_pairs(coded, lanes, pairs, steps, active, false);
}

static bool within(const HuffmanLanes *lanes) {
    bool fine = true;
    for (size_t l = 0; l < lanes->lanes; l++) fine &= lanes->bits[l] <= lanes->stops[l];
    return fine;
}

static void begin_block(const HuffmanCoded *coded, Py_ssize_t b, HuffmanLanes *lanes) {
    const int64_t *offsets = (const int64_t *)coded->offsets.buf + b * coded->lanes;
    lanes->lanes = (size_t)coded->lanes;
    for (size_t l = 0; l < lanes->lanes; l++) {
        lanes->bits[l] = 8 * (uint64_t)offsets[l];
        lanes->stops[l] = 8 * (uint64_t)offsets[l + 1];
        lanes->ends[l] = 0;
    }
}

NETPRESS_INLINE uint32_t block_positions(const HuffmanCoded *coded, Py_ssize_t b) {
    Py_ssize_t rows = coded->rows - b * coded->block_rows;
    return (uint32_t)((rows < coded->block_rows ? rows : coded->block_rows) * coded->columns);
}

static bool check_block(const HuffmanCoded *coded, Py_ssize_t b, GapPairs *pairs) {
    const int64_t symbols = ((int64_t *)coded->numbers.buf)[b];
    uint32_t *starts = (uint32_t *)coded->starts.buf + b * coded->lanes, positions = block_positions(coded, b);
    HuffmanLanes lanes;
    begin_block(coded, b, &lanes);
    if (symbols > positions) return false;
    size_t left = symbols / lanes.lanes;
    for (size_t steps; left; left -= steps) {
        steps = left < GAP_STEPS ? left : GAP_STEPS;
        decode_pairs(coded, &lanes, pairs, steps, lanes.lanes);
        if (!within(&lanes)) return false;
        for (size_t l = 0; l < lanes.lanes; l++)
            if (lanes.ends[l] > positions) return false;
    }
    decode_pairs(coded, &lanes, pairs, 1, symbols % lanes.lanes);
    uint64_t sum = 0;
    for (size_t l = 0; l < lanes.lanes; l++) {
        starts[l] = (uint32_t)sum;
        sum += lanes.ends[l];
        if (sum > positions || lanes.bits[l] > lanes.stops[l] || lanes.stops[l] - lanes.bits[l] >= 8) return false;
        if (lanes.bits[l] & 7 && ((const uint8_t *)coded->stream.buf)[lanes.bits[l] >> 3] >> (lanes.bits[l] & 7)) return false;
    }
    return true;
}

static PyObject *check(PyObject *module, PyObject *args) {
    HuffmanCoded coded;
    Py_buffer none;
    Py_ssize_t more[3];
    (void)module;
    if (!read_coded(args, &coded, CODED "w*", &none, &none, more)) return NULL;
    bool fine = true;
    Py_BEGIN_ALLOW_THREADS
    GapPairs pairs;
    for (Py_ssize_t b = 0; fine && b < coded.count; b++) fine = check_block(&coded, b, &pairs);
    Py_END_ALLOW_THREADS
    release(&coded);
    if (!fine) return PyErr_Format(PyExc_ValueError, "stream: not one that the coder makes");
    Py_RETURN_NONE;
}

/* All whole groups of symbols of a block by a vector x, without a detour over pairs; gives how many steps that were.
 * rows_of and lanes->ends: row of each lane, and the end of its last position within it. */
NETPRESS_INLINE bool huffman_vector(const HuffmanCoded *coded, HuffmanLanes *lanes, size_t rounds, uint32_t columns, uint32_t rows,
                                    uint32_t *rows_of, const float *x, float *y, bool has_raw, int group) {
    const uint64_t *table = coded->table.buf, mask = ((uint64_t)1 << coded->limit) - 1;
    const uint8_t *stream = coded->stream.buf;
    float sums[GAP_MOST_LANES] = {0};
    for (size_t round = 0; round < rounds; round++) {
        if (round % 4 == 3 && !within(lanes)) return false;
        for (size_t lane = 0; lane < lanes->lanes; lane++) {
            uint64_t bits = lanes->bits[lane], window = netpress_load64(stream + (bits >> 3)) >> (bits & 7), entry;
            uint32_t end = lanes->ends[lane];
            float sum = sums[lane];
#pragma GCC unroll 4
            for (int i = 0; i < group; i++) {
                end += huffman_symbol(table, mask, has_raw, &window, &bits, &entry);
                if (NETPRESS_UNLIKELY(end > columns)) {
                    uint32_t on = (end - 1) / columns;
                    y[rows_of[lane]] += sum;
                    sum = 0;
                    rows_of[lane] += on;
                    end -= on * columns;
                    if (rows_of[lane] >= rows) return false;
                }
                uint32_t payload = (uint32_t)(entry >> 32);
                float value;
                memcpy(&value, &payload, 4);
                sum += value * x[end - 1];
            }
            sums[lane] = sum;
            lanes->bits[lane] = bits;
            lanes->ends[lane] = end;
        }
    }
    for (size_t lane = 0; lane < lanes->lanes; lane++) y[rows_of[lane]] += sums[lane];
    return within(lanes);
}

NETPRESS_CLONES static bool multiply_vector(const HuffmanCoded *coded, HuffmanLanes *lanes, size_t rounds, uint32_t columns,
                                            uint32_t rows, uint32_t *rows_of, const float *x, float *y, int group) {
    if (coded->raw) {
        if (group == 4) return huffman_vector(coded, lanes, rounds, columns, rows, rows_of, x, y, true, 4);
        return huffman_vector(coded, lanes, rounds, columns, rows, rows_of, x, y, true, 3);
    }
    if (group == 4) return huffman_vector(coded, lanes, rounds, columns, rows, rows_of, x, y, false, 4);
    return huffman_vector(coded, lanes, rounds, columns, rows, rows_of, x, y, false, 3);
}

/* Decodes a block and hands over its pairs: to places in `out`, or to the product with x where there is no `out`. */
static bool run_block(const HuffmanCoded *coded, Py_ssize_t b, GapPairs *pairs, GapPlaces out, const float *x, float *y, size_t n) {
    const size_t symbols = (size_t)((int64_t *)coded->numbers.buf)[b];
    const uint32_t *starts = (const uint32_t *)coded->starts.buf + b * coded->lanes, positions = block_positions(coded, b);
    const uint32_t columns = (uint32_t)coded->columns, rows = positions / columns;
    uint32_t rows_of[GAP_MOST_LANES];
    HuffmanLanes lanes;
    begin_block(coded, b, &lanes);
    for (size_t l = 0; l < lanes.lanes; l++) {
        if (starts[l] >= positions && gap_lane_symbols(symbols, lanes.lanes, l)) return false;
        lanes.ends[l] = starts[l] < positions ? starts[l] : 0;
        rows_of[l] = lanes.ends[l] / columns;
    }
    size_t left = symbols / lanes.lanes;
    if (!out.items && n == 1) {
        int group = coded->limit + coded->raw <= HUFFMAN_BITS / 4 ? 4 : 3;
        for (size_t l = 0; l < lanes.lanes; l++) lanes.ends[l] -= rows_of[l] * columns;
        if (!multiply_vector(coded, &lanes, left / group, columns, rows, rows_of, x, y, group)) return false;
        for (size_t l = 0; l < lanes.lanes; l++) lanes.ends[l] += rows_of[l] * columns;
        left %= group;
    }
    for (bool rest = false; !rest;) {
        size_t steps = left < GAP_STEPS ? left : GAP_STEPS, active = lanes.lanes;
        if (!left) { /* the last step, in which some lanes take part */
            rest = true;
            active = symbols % lanes.lanes;
            steps = active != 0;
        }
        decode_pairs(coded, &lanes, pairs, steps, active);
        if (out.items ? !gap_place_pairs(pairs, steps, active, lanes.lanes, positions, out)
                : !gap_multiply_pairs(pairs, steps, active, lanes.lanes, columns, rows, rows_of, x, y, n))
            return false;
        left -= rest ? 0 : steps;
        if (!within(&lanes)) return false;
    }
    return true;
}

static PyObject *place(PyObject *module, PyObject *args) {
    HuffmanCoded coded;
    Py_buffer out, none;
    Py_ssize_t more[3];
    (void)module;
    if (!read_coded(args, &coded, CODED "y*w*", &none, &out, more)) return NULL;
    GapPlaces places = gap_places(&out, coded.rows, coded.columns);
    bool fine = places.size;
    Py_BEGIN_ALLOW_THREADS
    GapPairs pairs;
    for (Py_ssize_t b = 0; fine && b < coded.count; b++)
        fine = run_block(&coded, b, &pairs, gap_places_from(places, b * coded.block_rows * coded.columns), NULL, NULL, 0);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&out);
    release(&coded);
    if (!fine) return PyErr_Format(PyExc_ValueError, "place: out has another size, or the stream was not checked");
    Py_RETURN_NONE;
}

static PyObject *multiply(PyObject *module, PyObject *args) {
    HuffmanCoded coded;
    Py_buffer x, y;
    Py_ssize_t more[3];
    (void)module;
    if (!read_coded(args, &coded, CODED "y*w*nnny*", &x, &y, more)) return NULL;
    Py_ssize_t first = more[0], last = more[1], n = more[2];
    bool fine = n >= 1 && (n == 1 || n % 8 == 0) && first >= 0 && last <= coded.count && first <= last &&
                x.len / 4 / n == coded.columns && x.len == 4 * n * coded.columns && y.len / 4 / n == coded.rows &&
                y.len == 4 * n * coded.rows;
    Py_BEGIN_ALLOW_THREADS
    GapPairs pairs;
    for (Py_ssize_t b = first; fine && b < last; b++) {
        float *to = (float *)y.buf + b * coded.block_rows * n;
        memset(to, 0, sizeof(float) * n * (block_positions(&coded, b) / coded.columns));
        fine = run_block(&coded, b, &pairs, (GapPlaces){NULL, 0}, x.buf, to, (size_t)n);
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    release(&coded);
    if (!fine) return PyErr_Format(PyExc_ValueError, "multiply: sizes do not fit each other, or the stream was not checked");
    Py_RETURN_NONE;
}
#endif
