/* Reading coded blocks: the check of a stream, its symbols, its products. Part of gap_ans.c. */
#ifndef NETPRESS_GAP_ANS_RUN_H
#define NETPRESS_GAP_ANS_RUN_H

#include "gap_ans_vectors.h"

typedef struct {
    Py_buffer stream, table, advances, payloads, blocks, starts;
    AnsModel model;
    Py_ssize_t lanes, rows, columns, block_rows, count;
} AnsCoded;

static void release(AnsCoded *coded) {
    PyBuffer_Release(&coded->stream);
    PyBuffer_Release(&coded->table);
    PyBuffer_Release(&coded->advances);
    PyBuffer_Release(&coded->payloads);
    PyBuffer_Release(&coded->blocks);
    PyBuffer_Release(&coded->starts);
}

/* Every entry must go on by at least one position and stay within the tables of symbols: what keeps the loops inside x. */
static bool table_fits(const AnsCoded *coded) {
    const AnsModel *model = &coded->model;
    const uint64_t *entries = model->table;
    size_t symbols = (size_t)coded->payloads.len / 4, slots = (size_t)1 << model->precision;
    bool fine = true;
    if (model->wide) {
        for (size_t i = 0; i < slots; i++) fine &= entries[i] >> 32 < symbols;
        for (size_t s = 0; s < symbols; s++) fine &= model->raw ? model->advances[s] <= model->gaps : model->advances[s] >= 1;
    } else {
        for (size_t i = 0; i < slots; i++) fine &= model->raw ? (entries[i] & 0xff) <= model->gaps : (entries[i] & 0xff) >= 1;
    }
    return fine;
}

static bool coded_fits(AnsCoded *coded, Py_ssize_t gaps) {
    const AnsModel *model = &coded->model;
    coded->count = coded->blocks.len / 24;
    if (model->precision < 1 || model->precision > 16 || model->raw < 0 || model->raw > GAP_MOST_RAW || gaps < 1 ||
        gaps > GAP_MOST_GAPS || coded->lanes < 1 ||
        coded->lanes > GAP_MOST_LANES || coded->rows < 1 || coded->columns < 1 || coded->block_rows < 1 ||
        coded->block_rows > INT32_MAX / coded->columns || coded->count != (coded->rows - 1) / coded->block_rows + 1 ||
        coded->blocks.len % 24 || coded->starts.len != 4 * coded->lanes * coded->count ||
        coded->table.len != (Py_ssize_t)8 << model->precision || coded->payloads.len % 4 ||
        (model->wide && coded->advances.len != coded->payloads.len / 4 + 4) || !table_fits(coded))
        return false;
    for (Py_ssize_t b = 0; b < coded->count; b++) {
        const GapBlock *block = (const GapBlock *)coded->blocks.buf + b;
        int64_t states = block->symbols < coded->lanes ? block->symbols : coded->lanes;
        if (block->offset < 0 || block->length < 4 * states || block->symbols < 0 || block->symbols > INT32_MAX ||
            block->length > coded->stream.len || block->offset > coded->stream.len - GAP_PAD - block->length)
            return false;
    }
    return true;
}

/* Reads what `check`, `place` and `multiply` have in common; false with an error set, buffers released. */
static bool read_coded(PyObject *args, AnsCoded *coded, const char *format, Py_buffer *x, Py_buffer *y, Py_ssize_t more[3]) {
    int wide;
    Py_ssize_t gaps;
    if (!PyArg_ParseTuple(args, format, &coded->stream, &coded->table, &coded->advances, &coded->payloads, &wide, &gaps,
                          &coded->model.precision, &coded->model.raw, &coded->lanes, &coded->rows, &coded->columns,
                          &coded->block_rows, &coded->blocks, &coded->starts, y, &more[0], &more[1], &more[2], x))
        return false;
    coded->model.table = coded->table.buf;
    coded->model.advances = coded->advances.buf;
    coded->model.payloads = coded->payloads.buf;
    coded->model.wide = wide;
    coded->model.gaps = (uint32_t)gaps;
    if (coded_fits(coded, gaps)) return true;
    PyErr_SetString(PyExc_ValueError, "coded: sizes, tables and blocks do not fit each other");
    release(coded);
    return false;
}
#define CODED "y*y*y*y*pniinnnny*"

NETPRESS_INLINE bool full_vectors(size_t lanes) { return lanes == 16 || lanes == 32 || lanes == 64; }

static void decode_pairs(const AnsModel *model, AnsLanes *lanes, GapPairs *pairs, size_t steps, size_t active) {
#ifdef GAP_VECTORS
    if (ans_vectors == 512 && active == lanes->lanes && full_vectors(active)) {
        ans_pairs_dispatch_512(model, lanes, pairs, steps);
        return;
    }
    if (ans_vectors >= 256 && active == lanes->lanes && active % 8 == 0 && !model->wide) {
        ans_pairs_256(model, lanes, pairs, steps);
        return;
    }
#endif
    if (model->wide && model->raw) ans_scalar(model, lanes, pairs, steps, active, true, true);
    else if (model->wide) ans_scalar(model, lanes, pairs, steps, active, true, false);
    else if (model->raw) ans_scalar(model, lanes, pairs, steps, active, false, true);
    else ans_scalar(model, lanes, pairs, steps, active, false, false);
}

static void begin_block(const AnsCoded *coded, Py_ssize_t b, AnsLanes *lanes) {
    const GapBlock *block = (const GapBlock *)coded->blocks.buf + b;
    const uint8_t *at = (const uint8_t *)coded->stream.buf + block->offset;
    lanes->lanes = (size_t)(block->symbols < coded->lanes ? block->symbols : coded->lanes);
    for (size_t l = 0; l < lanes->lanes; l++, at += 4) lanes->states[l] = netpress_load32(at);
    memset(lanes->ends, 0, sizeof lanes->ends);
    lanes->at = at;
    lanes->stop = (const uint8_t *)coded->stream.buf + block->offset + block->length;
}

NETPRESS_INLINE uint32_t block_positions(const AnsCoded *coded, Py_ssize_t b) {
    Py_ssize_t rows = coded->rows - b * coded->block_rows;
    return (uint32_t)((rows < coded->block_rows ? rows : coded->block_rows) * coded->columns);
}

static bool check_block(const AnsCoded *coded, Py_ssize_t b, GapPairs *pairs) {
    const GapBlock *block = (const GapBlock *)coded->blocks.buf + b;
    uint32_t *starts = (uint32_t *)coded->starts.buf + b * coded->lanes, positions = block_positions(coded, b);
    AnsLanes lanes;
    begin_block(coded, b, &lanes);
    if (block->symbols > positions) return false;
    for (size_t l = 0; l < lanes.lanes; l++)
        if (lanes.states[l] < ANS_LOW) return false;
    size_t left = lanes.lanes ? block->symbols / lanes.lanes : 0;
    for (size_t steps; left; left -= steps) {
        steps = left < GAP_STEPS ? left : GAP_STEPS;
        decode_pairs(&coded->model, &lanes, pairs, steps, lanes.lanes);
        if (lanes.at > lanes.stop) return false;
        for (size_t l = 0; l < lanes.lanes; l++)
            if (lanes.ends[l] > positions) return false;
    }
    if (lanes.lanes) decode_pairs(&coded->model, &lanes, pairs, 1, block->symbols % lanes.lanes);
    uint64_t sum = 0;
    for (size_t l = 0; l < lanes.lanes; l++) {
        if (lanes.states[l] != ANS_LOW) return false;
        starts[l] = (uint32_t)sum;
        sum += lanes.ends[l];
        if (sum > positions) return false;
    }
    return lanes.at == lanes.stop;
}

static PyObject *check(PyObject *module, PyObject *args) {
    AnsCoded coded;
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

/* Decodes a block and hands over its pairs: to places in `out`, or to the product with x where there is no `out`. */
static bool run_block(const AnsCoded *coded, Py_ssize_t b, GapPairs *pairs, GapPlaces out, const float *x, float *y, size_t n) {
    const GapBlock *block = (const GapBlock *)coded->blocks.buf + b;
    const uint32_t *starts = (const uint32_t *)coded->starts.buf + b * coded->lanes, positions = block_positions(coded, b);
    const uint32_t columns = (uint32_t)coded->columns, rows = positions / columns;
    uint32_t rows_of[GAP_MOST_LANES];
    AnsLanes lanes;
    begin_block(coded, b, &lanes);
    for (size_t l = 0; l < lanes.lanes; l++) {
        if (starts[l] >= positions) return false;
        lanes.ends[l] = starts[l];
        rows_of[l] = starts[l] / columns;
    }
    size_t left = lanes.lanes ? block->symbols / lanes.lanes : 0;
#ifdef GAP_VECTORS
    if (ans_vectors == 512 && !out.items && n == 1 && full_vectors(lanes.lanes)) {
        float sums[GAP_MOST_LANES];
        for (size_t l = 0; l < lanes.lanes; l++) lanes.ends[l] -= rows_of[l] * columns;
        if (!ans_vector_dispatch_512(&coded->model, &lanes, left, columns, rows, rows_of, sums, x, y)) return false;
        for (size_t l = 0; l < lanes.lanes; l++) {
            lanes.ends[l] += rows_of[l] * columns;
            y[rows_of[l]] += sums[l];
        }
        left = 0;
    }
#endif
    for (bool rest = false; !rest;) {
        size_t steps = left < GAP_STEPS ? left : GAP_STEPS, active = lanes.lanes;
        if (!left) { /* the last step, in which some lanes take part */
            rest = true;
            active = lanes.lanes ? block->symbols % lanes.lanes : 0;
            steps = active != 0;
        }
        decode_pairs(&coded->model, &lanes, pairs, steps, active);
        if (out.items ? !gap_place_pairs(pairs, steps, active, lanes.lanes, positions, out)
                : !gap_multiply_pairs(pairs, steps, active, lanes.lanes, columns, rows, rows_of, x, y, n))
            return false;
        left -= rest ? 0 : steps;
        if (lanes.at > lanes.stop) return false;
    }
    return true;
}

static PyObject *place(PyObject *module, PyObject *args) {
    AnsCoded coded;
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
    AnsCoded coded;
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
