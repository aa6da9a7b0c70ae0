/* (gap, value) symbols by interleaved range ANS: frequencies, tables, coder, products. See gap_model.h and gap_ans.h. */
#include "gap_ans.h"

#include <stddef.h>

typedef struct {
    uint64_t rest;
    uint32_t index;
} Remainder;

static int by_rest(const void *a, const void *b) {
    const Remainder *x = a, *y = b;
    if (x->rest != y->rest) return x->rest < y->rest ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

/* Frequencies that add up to 2^precision: weights below one slot get one, the others their share by largest remainder. */
static bool share_slots(uint64_t *weights, uint64_t total, size_t count, int precision, uint32_t *frequencies) {
    Remainder *order = malloc(count * sizeof(Remainder));
    if (!order) return false;
    int shift = 0;
    while (total >> shift >> 46) shift++;
    uint64_t sum = 0, slots = (uint64_t)1 << precision;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        frequencies[i] = 0;
        if (!weights[i]) continue;
        weights[i] >>= shift;
        if (!weights[i]) weights[i] = 1;
        sum += weights[i];
        order[used++].index = (uint32_t)i;
    }
    for (bool again = true; again && used;) { /* pin the small ones until none is left */
        size_t kept = 0;
        uint64_t all = sum, free_slots = slots;
        for (size_t i = 0; i < used; i++) {
            uint32_t symbol = order[i].index;
            if (weights[symbol] * free_slots < all && slots) {
                frequencies[symbol] = 1;
                slots--;
                sum -= weights[symbol];
            } else {
                order[kept++].index = symbol;
            }
        }
        again = kept < used;
        used = kept;
    }
    uint64_t left = slots;
    for (size_t i = 0; i < used; i++) {
        uint64_t share = weights[order[i].index] * slots;
        frequencies[order[i].index] = (uint32_t)(share / sum);
        order[i].rest = share % sum;
        left -= share / sum;
    }
    if (used) qsort(order, used, sizeof(Remainder), by_rest);
    for (size_t i = 0; i < left && i < used; i++) frequencies[order[i].index]++;
    free(order);
    return true;
}

static PyObject *frequencies(PyObject *module, PyObject *args) {
    Py_buffer value_levels, gap_levels, out;
    int precision;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*iw*", &value_levels, &gap_levels, &precision, &out)) return NULL;
    Py_ssize_t values = value_levels.len, gaps = gap_levels.len - 1, room = netpress_items(&out, 4, "frequencies");
    bool fine = false;
    uint64_t *weights = NULL;
    if (room < 0) goto done;
    if (!gap_model_fits(values, gaps, precision, 0) || room != values * gaps + 1 ||
        !gap_levels_fit(value_levels.buf, values, gap_levels.buf, gaps) ||
        room - (((uint8_t *)gap_levels.buf)[gaps] > GAP_MOST_LEVEL) > (Py_ssize_t)1 << precision) {
        PyErr_SetString(PyExc_ValueError, "frequencies: levels to 79, at most 2^precision symbols, room for all and the skip");
        goto done;
    }
    weights = malloc(room * sizeof(uint64_t));
    if (weights) {
        Py_BEGIN_ALLOW_THREADS
        uint64_t total = gap_weights(value_levels.buf, values, gap_levels.buf, gaps, weights);
        fine = share_slots(weights, total, room, precision, out.buf);
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

/* Frequencies must fill the slots exactly. */
static bool frequencies_fill(const uint32_t *of, size_t count, int precision) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += of[i];
    return sum == (uint64_t)1 << precision;
}

static PyObject *table(PyObject *module, PyObject *args) {
    Py_buffer of, payloads, out, advances;
    int precision, raw, wide;
    Py_ssize_t values, gaps;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nniiy*pw*w*", &of, &values, &gaps, &precision, &raw, &payloads, &wide, &out, &advances))
        return NULL;
    Py_ssize_t count = netpress_items(&of, 4, "frequencies"), room = netpress_items(&out, 8, "table");
    bool fine = false;
    if (count < 0 || room < 0) goto done;
    if (!gap_model_fits(values, gaps, precision, raw) || count != values * gaps + 1 || payloads.len != 4 * count ||
        advances.len != count + 4 || room != (Py_ssize_t)1 << precision || !frequencies_fill(of.buf, count, precision)) {
        PyErr_SetString(PyExc_ValueError, "table: sizes do not fit each other, or frequencies do not fill it");
        goto done;
    }
    uint64_t *entries = out.buf;
    const uint32_t *symbol_payloads = payloads.buf;
    fine = true;
    memset((uint8_t *)advances.buf + count, 0, 4);
    for (Py_ssize_t s = 0; s < count && fine; s++) {
        uint32_t frequency = ((uint32_t *)of.buf)[s];
        bool skip = s == values * gaps;
        uint32_t advance = skip ? (uint32_t)gaps : (uint32_t)(s / values) + (raw == 0);
        ((uint8_t *)advances.buf)[s] = (uint8_t)advance;
        if (!wide && frequency > ANS_NARROW) {
            PyErr_SetString(PyExc_ValueError, "table: a frequency is too large for narrow entries");
            fine = false;
        }
        for (uint32_t i = 0; i < frequency && fine; i++)
            *entries++ = wide ? (uint64_t)s << 32 | i << 16 | (frequency - 1)
                              : (uint64_t)symbol_payloads[s] << 32 | frequency << 20 | i << 8 | advance;
    }
done:
    PyBuffer_Release(&of);
    PyBuffer_Release(&payloads);
    PyBuffer_Release(&out);
    PyBuffer_Release(&advances);
    if (!fine) return NULL;
    Py_RETURN_NONE;
}

/* The bytes of one block at `end` backwards; gives where they begin. */
static uint8_t *encode_block(const GapSymbol *symbols, size_t count, const uint32_t *of, const uint32_t *starts, int precision,
                             size_t lanes, uint8_t *end) {
    uint32_t states[GAP_MOST_LANES], ranks[GAP_MOST_LANES + 1];
    uint8_t *at = end;
    ranks[0] = 0;
    for (size_t l = 0; l < lanes; l++) {
        states[l] = ANS_LOW;
        ranks[l + 1] = ranks[l] + (uint32_t)gap_lane_symbols(count, lanes, l);
    }
    for (size_t t = (count + lanes - 1) / lanes; t-- > 0;)
        for (size_t l = t == count / lanes ? count % lanes : lanes; l-- > 0;) {
            GapSymbol s = symbols[ranks[l] + t];
            uint32_t state = states[l], frequency = of[s.symbol];
            if (state >= (uint64_t)frequency << (32 - precision - s.raw_bits)) {
                at -= 2;
                at[0] = (uint8_t)state;
                at[1] = (uint8_t)(state >> 8);
                state >>= 16;
            }
            state = state << s.raw_bits | s.raw;
            states[l] = ((state / frequency) << precision) + state % frequency + starts[s.symbol];
        }
    for (size_t l = lanes; l-- > 0;) {
        at -= 4;
        for (int i = 0; i < 4; i++) at[i] = (uint8_t)(states[l] >> 8 * i);
    }
    return at;
}

/* What `encode` was given, checked; everything of the model that the coder needs. */
static Py_ssize_t encode_blocks(const uint32_t *gaps_of, const uint16_t *values_of, const int64_t *counts, Py_ssize_t blocks,
                                const uint32_t *of, Py_ssize_t values, Py_ssize_t gaps, int precision, int raw, size_t lanes,
                                int64_t *sizes, uint8_t *out, Py_ssize_t room) {
    Py_ssize_t used = 0, most = 1;
    uint32_t *starts = malloc((values * gaps + 1) * sizeof(uint32_t));
    GapSymbol *symbols = NULL;
    uint8_t *scratch = NULL;
    for (Py_ssize_t b = 0, at = 0; b < blocks; at += counts[b++]) {
        sizes[2 * b] = (int64_t)gap_count_symbols(gaps_of + at, counts[b], gaps, raw);
        if (sizes[2 * b] > most) most = sizes[2 * b];
    }
    symbols = malloc(most * sizeof(GapSymbol));
    scratch = malloc(2 * most + 4 * GAP_MOST_LANES);
    if (!starts || !symbols || !scratch) used = -2;
    for (uint32_t s = 0, sum = 0; used == 0 && s <= values * gaps; sum += of[s++]) starts[s] = sum;
    for (Py_ssize_t b = 0, event = 0; b < blocks && used >= 0; event += counts[b++]) {
        size_t count = (size_t)sizes[2 * b];
        gap_symbols(gaps_of + event, values_of + event, counts[b], values, gaps, raw, symbols);
        for (size_t i = 0; i < count && used >= 0; i++)
            if (!of[symbols[i].symbol]) used = -3;
        if (used < 0) break;
        uint8_t *end = scratch + 2 * most + 4 * GAP_MOST_LANES;
        uint8_t *begin = encode_block(symbols, count, of, starts, precision, count < lanes ? count : lanes, end);
        if (end - begin > room - used) {
            used = -1;
            break;
        }
        memcpy(out + used, begin, end - begin);
        sizes[2 * b + 1] = end - begin;
        used += end - begin;
    }
    free(starts);
    free(symbols);
    free(scratch);
    return used;
}

static PyObject *encode(PyObject *module, PyObject *args) {
    Py_buffer gaps_of, values_of, counts, of, sizes, out;
    Py_ssize_t values, gaps, lanes, used = 0;
    int precision, raw;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*nniinw*w*", &gaps_of, &values_of, &counts, &of, &values, &gaps, &precision, &raw, &lanes,
                          &sizes, &out))
        return NULL;
    Py_ssize_t events = netpress_items(&gaps_of, 4, "gaps"), blocks = netpress_items(&counts, 8, "counts");
    Py_ssize_t symbols = netpress_items(&of, 4, "frequencies");
    bool fine = events >= 0 && blocks >= 0 && symbols >= 0 && values_of.len == 2 * events && sizes.len == 16 * blocks &&
                gap_model_fits(values, gaps, precision, raw) && symbols == values * gaps + 1 && lanes >= 1 &&
                lanes <= GAP_MOST_LANES && frequencies_fill(of.buf, symbols, precision);
    Py_ssize_t sum = 0;
    for (Py_ssize_t b = 0; fine && b < blocks; b++) {
        int64_t count = ((int64_t *)counts.buf)[b];
        fine = count >= 0 && count <= events - sum;
        sum += (Py_ssize_t)count;
    }
    for (Py_ssize_t i = 0; fine && i < events; i++) fine = ((uint16_t *)values_of.buf)[i] < values;
    if (fine && sum == events) {
        Py_BEGIN_ALLOW_THREADS
        used = encode_blocks(gaps_of.buf, values_of.buf, counts.buf, blocks, of.buf, values, gaps, precision, raw, (size_t)lanes,
                             sizes.buf, out.buf, out.len);
        Py_END_ALLOW_THREADS
        if (used == -1) PyErr_SetString(PyExc_ValueError, "out: too small");
        if (used == -2) PyErr_NoMemory();
        if (used == -3) PyErr_SetString(PyExc_ValueError, "frequencies: a symbol that occurs has none");
    } else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "encode: sizes do not fit each other, or a value is outside the model");
    }
    PyBuffer_Release(&gaps_of);
    PyBuffer_Release(&values_of);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&of);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(used);
}

#include "gap_ans_run.h"

static PyObject *vectors(PyObject *module, PyObject *args) {
    int most;
    (void)module;
    if (!PyArg_ParseTuple(args, "i", &most)) return NULL;
    ans_vectors = ans_ask_processor(most);
    return PyLong_FromLong(ans_vectors);
}

static PyMethodDef functions[] = {
    {"frequencies", frequencies, METH_VARARGS,
     "frequencies(value_levels u8[v], gap_levels u8[g + 1], precision, out u32[v * g + 1]): slots of each symbol"},
    {"table", table, METH_VARARGS,
     "table(frequencies u32[s], v, g, precision, raw, payloads u32[s], wide, out u64[2^precision], advances u8[s + 4])"},
    {"encode", encode, METH_VARARGS,
     "encode(gaps u32[n], values u16[n], counts i64[b], frequencies u32[s], v, g, precision, raw, lanes, sizes i64[b][2],\n"
     "out u8[room]) -> bytes used; sizes: symbols and bytes of each block"},
    {"check", check, METH_VARARGS,
     "check(*coded): decodes everything once and fills starts; ValueError when the streams are not such as `encode` makes"},
    {"place", place, METH_VARARGS, "place(*coded, out u16 or u32[positions]): the payloads to their places"},
    {"multiply", multiply, METH_VARARGS,
     "multiply(*coded, y f32[rows * n], first, last, n, x f32[columns * n]): the rows of blocks first to last - 1\n\n"
     "coded: stream u8, table u64, advances u8, payloads u32, wide, g, precision, raw, lanes, rows, columns, block_rows,\n"
     "blocks i64[b][3] (offset, bytes, symbols), starts u32[b][lanes]. n is 1 or a multiple of 8; y is overwritten."},
    {"vectors", vectors, METH_VARARGS,
     "vectors(most) -> bits of the vectors used from now on: 512, 256 or 0, at most `most` and what the processor has.\n\n"
     "Not while another thread decodes. All ways give the same symbols; products differ by rounding."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_gap_ans", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__gap_ans(void) {
    ans_vectors = ans_ask_processor(512);
    return PyModuleDef_Init(&definition);
}
