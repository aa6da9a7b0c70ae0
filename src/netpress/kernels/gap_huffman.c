/* (gap, value) symbols by canonical Huffman codes of limited length: lengths, tables, coder, products. See gap_model.h.
 *
 * Every lane of a block has a bit stream of its own, the first bit lowest. One look-up gives the code's length, how far to go on
 * and the value; several symbols are decoded from one load of 64 bits. Lanes take turns, some symbols each, and do not wait for
 * each other: a processor that works out of order decodes several of them at once without any vector instruction.
 */
#include "gap_product.h"

#include <stddef.h>

#define HUFFMAN_BITS 56 /* of 64 loaded bits, what is left after dropping those of an earlier byte */

typedef struct {
    uint64_t weight;
    uint32_t symbol;
} Leaf;

static int by_weight(const void *a, const void *b) {
    const Leaf *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? -1 : 1;
    return x->symbol < y->symbol ? -1 : 1;
}

/* Lengths of an optimal code of at most `limit` bits, by package-merge (Larmore and Hirschberg, JACM 1990). Weights of 0: no code.
 * There are at most 2^limit others. */
static bool code_lengths(const uint64_t *weights, size_t count, int limit, uint8_t *lengths) {
    size_t used = 0, sizes[17] = {0};
    Leaf *leaves = malloc(count * sizeof(Leaf));
    uint64_t *list = malloc(4 * count * sizeof(uint64_t)), *next = list ? list + 2 * count : NULL;
    uint8_t *is_leaf = malloc((size_t)limit * 2 * count);
    bool fine = leaves && list && is_leaf;
    memset(lengths, 0, count);
    for (size_t i = 0; fine && i < count; i++)
        if (weights[i]) leaves[used++] = (Leaf){weights[i], (uint32_t)i};
    if (fine && used > 1) {
        qsort(leaves, used, sizeof(Leaf), by_weight);
        size_t packages = 0; /* of the level below, in `list` */
        for (int level = limit; level-- > 0;) {
            size_t leaf = 0, package = 0, size = 0;
            uint8_t *flags = is_leaf + (size_t)level * 2 * count;
            while (leaf < used || package < packages) {
                bool takes = package == packages || (leaf < used && leaves[leaf].weight <= list[package]);
                next[size] = takes ? leaves[leaf++].weight : list[package++];
                flags[size++] = takes;
            }
            sizes[level] = size;
            packages = size / 2;
            for (size_t i = 0; i < packages; i++) list[i] = next[2 * i] + next[2 * i + 1];
        }
        size_t take = 2 * used - 2;
        for (int level = 0; level < limit && take; level++) {
            size_t leaf = 0;
            if (take > sizes[level]) take = sizes[level];
            for (size_t i = 0; i < take; i++)
                if (is_leaf[(size_t)level * 2 * count + i]) lengths[leaves[leaf++].symbol]++;
            take = 2 * (take - leaf);
        }
    }
    free(leaves);
    free(list);
    free(is_leaf);
    return fine;
}

static PyObject *lengths(PyObject *module, PyObject *args) {
    Py_buffer value_levels, gap_levels, out;
    int limit;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*iw*", &value_levels, &gap_levels, &limit, &out)) return NULL;
    Py_ssize_t values = value_levels.len, gaps = gap_levels.len - 1;
    bool fine = false;
    uint64_t *weights = NULL;
    if (!gap_model_fits(values, gaps, limit, 0) || out.len != values * gaps + 1 ||
        !gap_levels_fit(value_levels.buf, values, gap_levels.buf, gaps) ||
        out.len - (((uint8_t *)gap_levels.buf)[gaps] > GAP_MOST_LEVEL) > (Py_ssize_t)1 << limit) {
        PyErr_SetString(PyExc_ValueError, "lengths: levels to 79, at most 2^limit symbols, room for all and the skip");
        goto done;
    }
    weights = malloc(out.len * sizeof(uint64_t));
    if (weights) {
        Py_BEGIN_ALLOW_THREADS
        gap_weights(value_levels.buf, values, gap_levels.buf, gaps, weights);
        fine = code_lengths(weights, out.len, limit, out.buf);
        Py_END_ALLOW_THREADS
    }
    if (!fine) PyErr_NoMemory();
done:
    free(weights);
    PyBuffer_Release(&value_levels);
    PyBuffer_Release(&gap_levels);
    PyBuffer_Release(&out);
    if (!fine) return NULL;
    Py_RETURN_NONE;
}

/* Canonical codes, first bit lowest: shorter codes first, equals by symbol. A code must be complete: symbols of length 0 have no
 * code, unless there is one symbol in all, `only`. */
static bool canonical_codes(const uint8_t *length, size_t count, bool skip, int limit, uint32_t *codes) {
    uint32_t numbers[18] = {0}, next[18] = {0};
    uint64_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        if (length[i] > limit) return false;
        numbers[length[i]]++;
        filled += length[i] ? (uint64_t)1 << (limit - length[i]) : 0;
    }
    if (filled != (uint64_t)1 << limit && !(filled == 0 && count == 2 && !skip)) return false;
    for (int l = 1; l <= limit; l++) next[l + 1] = (next[l] + numbers[l]) << 1;
    for (size_t i = 0; i < count; i++) {
        uint32_t code = length[i] ? next[length[i]]++ : 0, reversed = 0;
        for (int b = 0; b < length[i]; b++) reversed |= (code >> b & 1) << (length[i] - 1 - b);
        codes[i] = reversed;
    }
    return true;
}

/* An entry: bits to drop (6 bits, the raw ones included), how far to go on (16 bits from the 8th), length of the code alone
 * (from the 24th), payload (upper 32). */
static PyObject *table(PyObject *module, PyObject *args) {
    Py_buffer length, payloads, out;
    int limit, raw, skip;
    Py_ssize_t values, gaps;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nnipiy*w*", &length, &values, &gaps, &limit, &skip, &raw, &payloads, &out)) return NULL;
    Py_ssize_t count = length.len, room = netpress_items(&out, 8, "table");
    const uint8_t *bits = length.buf;
    uint32_t *codes = NULL;
    bool fine = room >= 0 && gap_model_fits(values, gaps, limit, raw) && count == values * gaps + 1 && payloads.len == 4 * count &&
                room == (Py_ssize_t)1 << limit;
    if (fine && !(codes = malloc(count * sizeof(uint32_t)))) {
        PyErr_NoMemory();
        goto done;
    }
    fine = fine && canonical_codes(bits, count, skip, limit, codes);
    if (!fine) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "table: sizes do not fit each other, or no complete code");
        goto done;
    }
    for (Py_ssize_t s = 0; s < count; s++) {
        bool is_skip = s == values * gaps, only = count == 2 && !skip;
        if (is_skip ? !skip : !bits[s] && !only) continue;
        uint64_t advance = is_skip ? (uint64_t)gaps << raw : ((uint64_t)(s / values) << raw) + 1;
        uint64_t entry = (uint64_t)((uint32_t *)payloads.buf)[s] << 32 | (uint64_t)bits[s] << 24 | advance << 8 |
                         (uint64_t)(bits[s] + (is_skip ? 0 : raw));
        for (uint32_t at = codes[s]; at < (uint32_t)1 << limit; at += (uint32_t)1 << bits[s]) ((uint64_t *)out.buf)[at] = entry;
    }
done:
    free(codes);
    PyBuffer_Release(&length);
    PyBuffer_Release(&payloads);
    PyBuffer_Release(&out);
    if (!fine) return NULL;
    Py_RETURN_NONE;
}

/* One lane's bits; gives the bytes they take. Room: 4 bytes a symbol and 8. */
static size_t encode_lane(const GapSymbol *symbols, size_t count, const uint8_t *length, const uint32_t *codes, uint8_t *out) {
    uint64_t held = 0;
    int bits = 0;
    uint8_t *at = out;
    for (size_t i = 0; i < count; i++) {
        GapSymbol s = symbols[i];
        held |= (codes[s.symbol] | (uint64_t)s.raw << length[s.symbol]) << bits;
        bits += length[s.symbol] + s.raw_bits;
        for (; bits >= 8; bits -= 8, held >>= 8) *at++ = (uint8_t)held;
    }
    if (bits) *at++ = (uint8_t)held;
    return (size_t)(at - out);
}

static Py_ssize_t encode_blocks(const uint32_t *gaps_of, const uint16_t *values_of, const int64_t *counts, Py_ssize_t blocks,
                                const uint8_t *length, const uint32_t *codes, Py_ssize_t values, Py_ssize_t gaps, int raw,
                                size_t lanes, int64_t *numbers, int64_t *sizes, uint8_t *out, Py_ssize_t room) {
    Py_ssize_t used = 0, most = 1;
    for (Py_ssize_t b = 0, at = 0; b < blocks; at += counts[b++]) {
        numbers[b] = (int64_t)gap_count_symbols(gaps_of + at, counts[b], gaps, raw);
        if (numbers[b] > most) most = numbers[b];
    }
    GapSymbol *symbols = malloc(most * sizeof(GapSymbol));
    uint8_t *scratch = malloc(4 * most + 8);
    if (!symbols || !scratch) used = -2;
    for (Py_ssize_t b = 0, event = 0; b < blocks && used >= 0; event += counts[b++]) {
        gap_symbols(gaps_of + event, values_of + event, counts[b], values, gaps, raw, symbols);
        for (size_t l = 0, at = 0; l < lanes && used >= 0; l++) {
            size_t share = gap_lane_symbols(numbers[b], lanes, l), size = encode_lane(symbols + at, share, length, codes, scratch);
            at += share;
            sizes[b * lanes + l] = (int64_t)size;
            if ((Py_ssize_t)size > room - used) {
                used = -1;
            } else {
                memcpy(out + used, scratch, size);
                used += size;
            }
        }
    }
    free(symbols);
    free(scratch);
    return used;
}

static PyObject *encode(PyObject *module, PyObject *args) {
    Py_buffer gaps_of, values_of, counts, length, numbers, sizes, out;
    Py_ssize_t values, gaps, lanes, used = 0, sum = 0;
    int limit, raw, skip;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*nnipinw*w*w*", &gaps_of, &values_of, &counts, &length, &values, &gaps, &limit, &skip, &raw,
                          &lanes, &numbers, &sizes, &out))
        return NULL;
    Py_ssize_t events = netpress_items(&gaps_of, 4, "gaps"), blocks = netpress_items(&counts, 8, "counts");
    bool fine = events >= 0 && blocks >= 0 && values_of.len == 2 * events && numbers.len == 8 * blocks &&
                gap_model_fits(values, gaps, limit, raw) && length.len == values * gaps + 1 && lanes >= 1 &&
                lanes <= GAP_MOST_LANES && sizes.len == 8 * blocks * lanes;
    for (Py_ssize_t b = 0; fine && b < blocks; b++) {
        int64_t count = ((int64_t *)counts.buf)[b];
        fine = count >= 0 && count <= events - sum;
        sum += (Py_ssize_t)count;
    }
    for (Py_ssize_t i = 0; fine && i < events; i++)
        fine = ((uint16_t *)values_of.buf)[i] < values && (skip || ((uint32_t *)gaps_of.buf)[i] < gaps << raw);
    uint32_t *codes = fine ? malloc(length.len * sizeof(uint32_t)) : NULL;
    if (fine && !codes) {
        PyErr_NoMemory();
    } else if (fine && sum == events && canonical_codes(length.buf, length.len, skip, limit, codes)) {
        Py_BEGIN_ALLOW_THREADS
        used = encode_blocks(gaps_of.buf, values_of.buf, counts.buf, blocks, length.buf, codes, values, gaps, raw, (size_t)lanes,
                             numbers.buf, sizes.buf, out.buf, out.len);
        Py_END_ALLOW_THREADS
        if (used == -1) PyErr_SetString(PyExc_ValueError, "out: too small");
        if (used == -2) PyErr_NoMemory();
    } else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "encode: sizes do not fit each other, or a value or gap is outside the model");
    }
    free(codes);
    PyBuffer_Release(&gaps_of);
    PyBuffer_Release(&values_of);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&length);
    PyBuffer_Release(&numbers);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(used);
}

#include "gap_huffman_run.h"

static PyMethodDef functions[] = {
    {"lengths", lengths, METH_VARARGS,
     "lengths(value_levels u8[v], gap_levels u8[g + 1], limit, out u8[v * g + 1]): bits of each symbol's code"},
    {"table", table, METH_VARARGS,
     "table(lengths u8[s], v, g, limit, skip, raw, payloads u32[s], out u64[2^limit])"},
    {"encode", encode, METH_VARARGS,
     "encode(gaps u32[n], values u16[n], counts i64[b], lengths u8[s], v, g, limit, skip, raw, lanes, numbers i64[b],\n"
     "sizes i64[b][lanes], out u8[room]) -> bytes used; numbers: symbols of each block, sizes: bytes of each lane"},
    {"check", check, METH_VARARGS,
     "check(*coded): decodes everything once and fills starts; ValueError when the streams are not such as `encode` makes"},
    {"place", place, METH_VARARGS, "place(*coded, out u16 or u32[positions]): the payloads to their places"},
    {"multiply", multiply, METH_VARARGS,
     "multiply(*coded, y f32[rows * n], first, last, n, x f32[columns * n]): the rows of blocks first to last - 1\n\n"
     "coded: stream u8, table u64, limit, raw, lanes, rows, columns, block_rows, numbers i64[b], offsets i64[b * lanes + 1],\n"
     "starts u32[b][lanes]. n is 1 or a multiple of 8; y is overwritten."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_gap_huffman", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__gap_huffman(void) { return PyModuleDef_Init(&definition); }
