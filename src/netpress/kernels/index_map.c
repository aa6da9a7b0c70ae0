/* Matrices of palette numbers, each in the same few bits: the first number in the lowest bits of the first byte. */
#include "product.h"

#define BLOCK_ROWS 4
#define BLOCK_COLUMNS 256

static PyObject *pack(PyObject *module, PyObject *args) {
    Py_buffer symbols, out;
    int width;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*iw*", &symbols, &width, &out)) return NULL;
    PyObject *result = NULL;
    Py_ssize_t n = netpress_items(&symbols, 2, "symbols");
    if (n < 0) goto done;
    if (width < 1 || width > 16 || n > PY_SSIZE_T_MAX / 16 || out.len != (n * width + 7) / 8) {
        PyErr_SetString(PyExc_ValueError, "width: 1 to 16; out: room for exactly n * width bits");
        goto done;
    }
    const uint16_t *symbol = symbols.buf;
    uint8_t *to = out.buf;
    unsigned beyond = 0;
    Py_BEGIN_ALLOW_THREADS
    uint64_t buffer = 0;
    int held = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        beyond |= (unsigned)symbol[i] >> width;
        buffer |= (uint64_t)symbol[i] << held;
        held += width;
        if (held >= 32) {
            for (int b = 0; b < 4; b++) *to++ = (uint8_t)(buffer >> (8 * b));
            buffer >>= 32;
            held -= 32;
        }
    }
    for (; held > 0; held -= 8, buffer >>= 8) *to++ = (uint8_t)buffer;
    Py_END_ALLOW_THREADS
    if (beyond)
        PyErr_SetString(PyExc_ValueError, "a symbol does not fit the width");
    else
        result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&out);
    return result;
}

typedef struct {
    const uint8_t *bytes;
    int64_t length;
    int width;
    uint32_t mask;
} packed_t;

NETPRESS_INLINE uint32_t near_end(const packed_t *from, int64_t bit) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int64_t byte = (bit >> 3) + i;
        if (byte < from->length) value |= (uint32_t)from->bytes[byte] << (8 * i);
    }
    return value >> (bit & 7) & from->mask;
}

/* Number `at` and on; gives the largest. */
NETPRESS_INLINE uint32_t numbers_of(uint16_t *to, const packed_t *from, int64_t at, int64_t count) {
    uint32_t most = 0;
    int64_t bit = at * from->width, i = 0;
    if (from->width == 8 || from->width == 16) {
        for (; i < count; i++) {
            uint16_t number = from->width == 8 ? from->bytes[at + i] : ((const product_u16 *)from->bytes)[at + i];
            to[i] = number;
            most = number > most ? number : most;
        }
        return most;
    }
    int64_t sure = from->length >= 8 ? ((from->length - 8) * 8 + 7 - bit) / from->width + 1 : 0; /* numbers in whole words */
    if (bit > (from->length - 8) * 8 + 7) sure = 0;
    if (sure > count) sure = count;
    for (; i < sure; i++, bit += from->width) {
        uint32_t number = (uint32_t)(netpress_load64(from->bytes + (bit >> 3)) >> (bit & 7)) & from->mask;
        to[i] = (uint16_t)number;
        most = number > most ? number : most;
    }
    for (; i < count; i++, bit += from->width) {
        uint32_t number = near_end(from, bit);
        to[i] = (uint16_t)number;
        most = number > most ? number : most;
    }
    return most;
}

static NETPRESS_CLONES uint32_t unpack_all(uint16_t *to, const packed_t *from, int64_t count) {
    const packed_t own = *from;
    return numbers_of(to, &own, 0, count);
}

/* NULL, or what is wrong with `count` numbers in these bytes. */
static const char *checked(packed_t *packed, const Py_buffer *payload, int width, int64_t count) {
    if (width < 1 || width > 16) return "width: 1 to 16 bits";
    if (count > PY_SSIZE_T_MAX / 16 || payload->len != (count * width + 7) / 8) return "the index matrix has another length";
    *packed = (packed_t){payload->buf, payload->len, width, (1u << width) - 1};
    int used = (int)(count * width & 7);
    return used && packed->bytes[payload->len - 1] >> used ? "the padding of the index matrix is not zero" : NULL;
}

static PyObject *unpack(PyObject *module, PyObject *args) {
    Py_buffer payload, symbols;
    int width;
    long long known;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*iLw*", &payload, &width, &known, &symbols)) return NULL;
    PyObject *result = NULL;
    packed_t packed;
    uint32_t most = 0;
    Py_ssize_t n = netpress_items(&symbols, 2, "symbols");
    if (n < 0) goto done;
    const char *wrong = checked(&packed, &payload, width, n);
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    most = unpack_all(symbols.buf, &packed, n);
    Py_END_ALLOW_THREADS
    if (n && most >= known)
        PyErr_SetString(PyExc_ValueError, "an index lies beyond the palette");
    else
        result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&payload);
    PyBuffer_Release(&symbols);
    return result;
}

#if defined(__GNUC__)
/* y[r, n ...] += w[r, j] * x[j, n ...] for four rows at a time, `parts` vectors of the batch in registers. */
#define DENSE(lanes, parts)                                                                                                    \
    NETPRESS_INLINE void dense_##parts##x##lanes(float *y, const float *w, int64_t count, const float *x, int64_t batch) {     \
        product_v##lanes sums[BLOCK_ROWS][parts];                                                                              \
        for (int r = 0; r < BLOCK_ROWS; r++)                                                                                   \
            for (int p = 0; p < parts; p++) sums[r][p] = *(product_v##lanes *)(y + r * batch + p * lanes);                     \
        for (int64_t j = 0; j < count; j++)                                                                                    \
            for (int p = 0; p < parts; p++) {                                                                                  \
                product_v##lanes in = *(const product_v##lanes *)(x + j * batch + p * lanes);                                  \
                for (int r = 0; r < BLOCK_ROWS; r++) sums[r][p] += w[r * BLOCK_COLUMNS + j] * in;                              \
            }                                                                                                                  \
        for (int r = 0; r < BLOCK_ROWS; r++)                                                                                   \
            for (int p = 0; p < parts; p++) *(product_v##lanes *)(y + r * batch + p * lanes) = sums[r][p];                     \
    }
DENSE(16, 4)
DENSE(16, 1)
DENSE(8, 1)
DENSE(4, 1)
#endif

NETPRESS_INLINE void dense_one(float *y, const float *w, int64_t count, const float *x, int64_t batch) {
    for (int r = 0; r < BLOCK_ROWS; r++, w += BLOCK_COLUMNS) {
        float sums[16] = {0};
        int64_t j = 0;
        if (batch == 1)
            for (; j + 16 <= count; j += 16)
                for (int l = 0; l < 16; l++) sums[l] += w[j + l] * x[j + l];
        for (; j < count; j++) sums[j & 15] += w[j] * x[j * batch];
        for (int half = 8; half; half /= 2)
            for (int l = 0; l < half; l++) sums[l] += sums[l + half];
        y[r * batch] += sums[0];
    }
}

/* y: (BLOCK_ROWS, batch); w: (BLOCK_ROWS, BLOCK_COLUMNS), `count` columns of it; x: (count, batch). */
NETPRESS_INLINE void dense_add(float *y, const float *w, int64_t count, const float *x, int64_t batch) {
    int64_t n = 0;
#if defined(__GNUC__)
    for (; n + 64 <= batch; n += 64) dense_4x16(y + n, w, count, x + n, batch);
    for (; n + 16 <= batch; n += 16) dense_1x16(y + n, w, count, x + n, batch);
    if (n + 8 <= batch) dense_1x8(y + n, w, count, x + n, batch), n += 8;
    if (n + 4 <= batch) dense_1x4(y + n, w, count, x + n, batch), n += 4;
#endif
    for (; n < batch; n++) dense_one(y + n, w, count, x + n, batch);
}

/* values: 2^width of them, of which `known` are true; sums: (BLOCK_ROWS, batch). */
static NETPRESS_CLONES bool multiply_rows(const packed_t *packed, const float *values, uint32_t known, int64_t row, int64_t rows,
                                          int64_t columns, int64_t batch, const float *x, float *y, float *sums) {
    const packed_t own = *packed;
    uint16_t numbers[BLOCK_COLUMNS];
    float w[BLOCK_ROWS * BLOCK_COLUMNS];
    for (int64_t r = 0; r < rows; r += BLOCK_ROWS) {
        int64_t high = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        memset(sums, 0, (size_t)(BLOCK_ROWS * batch) * sizeof *sums);
        memset(w, 0, sizeof w);
        for (int64_t j = 0; j < columns; j += BLOCK_COLUMNS) {
            int64_t wide = columns - j < BLOCK_COLUMNS ? columns - j : BLOCK_COLUMNS;
            for (int64_t i = 0; i < high; i++) {
                if (numbers_of(numbers, &own, (row + r + i) * columns + j, wide) >= known) return false;
                for (int64_t l = 0; l < wide; l++) w[i * BLOCK_COLUMNS + l] = values[numbers[l]];
            }
            dense_add(sums, w, wide, x + j * batch, batch);
        }
        memcpy(y + r * batch, sums, (size_t)(high * batch) * sizeof *sums);
    }
    return true;
}

static PyObject *product(PyObject *module, PyObject *args) {
    Py_buffer payload, values, x, y;
    int width;
    long long row, rows, all_rows, columns, batch;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*iy*LLLLLy*w*", &payload, &width, &values, &row, &rows, &all_rows, &columns, &batch, &x, &y))
        return NULL;
    PyObject *result = NULL;
    packed_t packed;
    float *table = NULL, *sums = NULL;
    int64_t known = values.len / 4;
    const char *wrong = NULL;
    if (columns < 1 || row < 0 || rows < 0 || all_rows < 0 || row > all_rows - rows || all_rows > PY_SSIZE_T_MAX / 16 / columns)
        wrong = "rows: within the matrix";
    else if (batch < 1 || batch > PY_SSIZE_T_MAX / 16 / columns || batch > PY_SSIZE_T_MAX / 16 / (rows + 1) ||
             x.len != columns * batch * 4 || y.len != rows * batch * 4)
        wrong = "x (columns, batch) and y (rows, batch) of float32";
    else
        wrong = checked(&packed, &payload, width, all_rows * columns);
    if (!wrong && (known < 1 || known > 1 << width)) wrong = "values: at most 2^width";
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    table = calloc((size_t)1 << width, sizeof *table);
    sums = malloc((size_t)(BLOCK_ROWS * batch) * sizeof *sums);
    if (!table || !sums) {
        PyErr_NoMemory();
        goto done;
    }
    memcpy(table, values.buf, (size_t)known * sizeof *table);
    bool good;
    Py_BEGIN_ALLOW_THREADS
    good = multiply_rows(&packed, table, (uint32_t)known, row, rows, columns, batch, x.buf, y.buf, sums);
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(Py_None);
    else
        PyErr_SetString(PyExc_ValueError, "an index lies beyond the palette");
done:
    free(table);
    free(sums);
    PyBuffer_Release(&payload);
    PyBuffer_Release(&values);
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    return result;
}

static PyMethodDef functions[] = {
    {"pack", pack, METH_VARARGS, "pack(symbols u16[n], width, out)\n\nEach symbol in `width` bits, 1 to 16."},
    {"unpack", unpack, METH_VARARGS, "unpack(payload, width, k, symbols u16[n])\n\nThe inverse; symbols of k or more are refused."},
    {"product", product, METH_VARARGS,
     "product(payload, width, values f32[k], row, rows, all_rows, columns, batch, x, y)\n\n"
     "y (rows, batch) = W x (columns, batch) for `rows` rows from `row` on."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_index_map", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__index_map(void) { return PyModuleDef_Init(&definition); }
