/* Rows of nonzeros: how many a row has, the column of each, the value of each (compressed sparse rows). */
#include "product.h"

/* How often each symbol occurs; four tables, so that equal neighbours do not wait for each other. */
static PyObject *count(PyObject *module, PyObject *args) {
    Py_buffer symbols, counts;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*", &symbols, &counts)) return NULL;
    PyObject *result = NULL;
    uint64_t *tables = NULL;
    Py_ssize_t n = netpress_items(&symbols, 2, "symbols"), known = netpress_items(&counts, 8, "counts");
    if (n < 0 || known < 0) goto done;
    const uint16_t *symbol = symbols.buf;
    uint16_t most = 0;
    for (Py_ssize_t i = 0; i < n; i++) most = symbol[i] > most ? symbol[i] : most;
    if (n && most >= known) {
        PyErr_SetString(PyExc_ValueError, "symbols: one is beyond the counts");
        goto done;
    }
    tables = calloc((size_t)known * 4 + 1, sizeof *tables);
    if (!tables) {
        PyErr_NoMemory();
        goto done;
    }
    uint64_t *out = counts.buf;
    Py_BEGIN_ALLOW_THREADS
    Py_ssize_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int t = 0; t < 4; t++) tables[t * known + symbol[i + t]]++;
    for (; i < n; i++) tables[symbol[i]]++;
    for (Py_ssize_t s = 0; s < known; s++)
        out[s] = tables[s] + tables[known + s] + tables[2 * known + s] + tables[3 * known + s];
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    free(tables);
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&counts);
    return result;
}

NETPRESS_INLINE void put_index(void *indices, int size, int64_t at, uint32_t index) {
    if (size == 1)
        ((uint8_t *)indices)[at] = (uint8_t)index;
    else if (size == 2)
        ((uint16_t *)indices)[at] = (uint16_t)index;
    else
        ((uint32_t *)indices)[at] = index;
}

NETPRESS_INLINE uint32_t get_index(const void *indices, int size, int64_t at) {
    if (size == 1) return ((const uint8_t *)indices)[at];
    if (size == 2) return ((const product_u16 *)indices)[at];
    return ((const product_u32 *)indices)[at];
}

/* For each width of items and of indices: the nonzeros of all rows. A row that is sure to fit is written without branches. Gives how
 * many there are, or -1 when there is no room. */
#define SPLIT(name, type)                                                                                                      \
    NETPRESS_INLINE int64_t split_##name(const type *items, type zero, int64_t rows, int64_t columns, uint32_t *counts,        \
                                         void *indices, int size, type *kept, int64_t room) {                                  \
        int64_t at = 0;                                                                                                        \
        for (int64_t r = 0; r < rows; r++, items += columns) {                                                                 \
            int64_t first = at;                                                                                                \
            if (room - at > columns) {                                                                                         \
                for (int64_t j = 0; j < columns; j++) {                                                                        \
                    kept[at] = items[j];                                                                                       \
                    put_index(indices, size, at, (uint32_t)j);                                                                 \
                    at += items[j] != zero;                                                                                    \
                }                                                                                                              \
            } else {                                                                                                           \
                for (int64_t j = 0; j < columns; j++) {                                                                        \
                    if (items[j] == zero) continue;                                                                            \
                    if (at == room) return -1;                                                                                 \
                    kept[at] = items[j];                                                                                       \
                    put_index(indices, size, at++, (uint32_t)j);                                                               \
                }                                                                                                              \
            }                                                                                                                  \
            counts[r] = (uint32_t)(at - first);                                                                                \
        }                                                                                                                      \
        return at;                                                                                                             \
    }                                                                                                                          \
    static int64_t split_any_##name(const void *items, uint64_t zero, int64_t rows, int64_t columns, uint32_t *counts,         \
                                    void *indices, int size, void *kept, int64_t room) {                                       \
        if (size == 1) return split_##name(items, (type)zero, rows, columns, counts, indices, 1, kept, room);                  \
        if (size == 2) return split_##name(items, (type)zero, rows, columns, counts, indices, 2, kept, room);                  \
        return split_##name(items, (type)zero, rows, columns, counts, indices, 4, kept, room);                                 \
    }
SPLIT(u8, uint8_t)
SPLIT(u16, uint16_t)
SPLIT(u32, uint32_t)
SPLIT(u64, uint64_t)

/* The inverse; `out` holds zeros already. False: an index out of its range or not above the one before it. */
#define MERGE(name, type, stored)                                                                                              \
    static bool merge_##name(const uint32_t *counts, int64_t rows, const void *indices, int size, const void *kept,            \
                             int64_t columns, void *out) {                                                                     \
        type *row = out;                                                                                                       \
        const stored *next = kept;                                                                                             \
        int64_t at = 0;                                                                                                        \
        for (int64_t r = 0; r < rows; r++, row += columns) {                                                                   \
            int64_t last = -1;                                                                                                 \
            for (int64_t end = at + counts[r]; at < end; at++) {                                                               \
                int64_t index = get_index(indices, size, at);                                                                  \
                if (index <= last || index >= columns) return false;                                                           \
                row[index] = next[at];                                                                                         \
                last = index;                                                                                                  \
            }                                                                                                                  \
        }                                                                                                                      \
        return true;                                                                                                           \
    }
MERGE(u8, uint8_t, uint8_t)
MERGE(u16, uint16_t, product_u16)
MERGE(u32, uint32_t, product_u32)
MERGE(u64, uint64_t, product_u64)

static bool good_sizes(int item_size, int index_size, long long columns) {
    bool item = item_size == 1 || item_size == 2 || item_size == 4 || item_size == 8;
    bool index = index_size == 1 || index_size == 2 || index_size == 4;
    if (item && index && columns >= 1 && columns <= (index_size == 4 ? UINT32_MAX : 1ll << (8 * index_size))) return true;
    PyErr_SetString(PyExc_ValueError, "items of 1, 2, 4 or 8 bytes; indices of 1, 2 or 4 that can count the columns");
    return false;
}

static PyObject *split(PyObject *module, PyObject *args) {
    Py_buffer items, counts, indices, kept;
    int item_size, index_size;
    unsigned long long zero;
    long long columns;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*iKLw*w*iw*", &items, &item_size, &zero, &columns, &counts, &indices, &index_size, &kept))
        return NULL;
    PyObject *result = NULL;
    if (!good_sizes(item_size, index_size, columns)) goto done;
    int64_t rows = counts.len / 4, room = kept.len / item_size, found;
    if (counts.len % 4 || kept.len % item_size || indices.len != room * index_size || items.len % (columns * item_size) ||
        items.len / (columns * item_size) != rows) {
        PyErr_SetString(PyExc_ValueError, "counts: one a row; indices and kept: one a nonzero");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    found = (item_size == 1   ? split_any_u8
             : item_size == 2 ? split_any_u16
             : item_size == 4 ? split_any_u32
                              : split_any_u64)(items.buf, zero, rows, columns, counts.buf, indices.buf, index_size, kept.buf, room);
    Py_END_ALLOW_THREADS
    if (found == room)
        result = Py_NewRef(Py_None);
    else
        PyErr_SetString(PyExc_ValueError, "indices and kept have no room for one item a nonzero, or too much");
done:
    PyBuffer_Release(&items);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&indices);
    PyBuffer_Release(&kept);
    return result;
}

/* Whether the counts of the rows add up to `found`. */
static bool add_up(const uint32_t *counts, int64_t rows, int64_t found) {
    int64_t sum = 0;
    for (int64_t r = 0; r < rows && sum <= found; r++) sum += counts[r];
    return sum == found;
}

static PyObject *merge(PyObject *module, PyObject *args) {
    Py_buffer counts, indices, kept, out;
    int item_size, index_size;
    long long columns;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*iy*iLw*", &counts, &indices, &index_size, &kept, &item_size, &columns, &out)) return NULL;
    PyObject *result = NULL;
    if (!good_sizes(item_size, index_size, columns)) goto done;
    int64_t rows = counts.len / 4, found = kept.len / item_size;
    bool good;
    if (counts.len % 4 || kept.len % item_size || indices.len != found * index_size || out.len % (columns * item_size) ||
        out.len / (columns * item_size) != rows || !add_up(counts.buf, rows, found)) {
        PyErr_SetString(PyExc_ValueError, "the counts of the rows do not add up to the nonzeros");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    good = (item_size == 1   ? merge_u8
            : item_size == 2 ? merge_u16
            : item_size == 4 ? merge_u32
                             : merge_u64)(counts.buf, rows, indices.buf, index_size, kept.buf, columns, out.buf);
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(Py_None);
    else
        PyErr_SetString(PyExc_ValueError, "column indices do not ascend within their row, or reach beyond it");
done:
    PyBuffer_Release(&counts);
    PyBuffer_Release(&indices);
    PyBuffer_Release(&kept);
    PyBuffer_Release(&out);
    return result;
}

/* The values of nonzeros `at` and on: through the palette, or (number_size 0) as they are; false: a number beyond the palette. */
NETPRESS_INLINE bool values_of(float *to, uint32_t *numbers, const void *from, int number_size, const float *palette,
                               int64_t known, int64_t at, int64_t count) {
    if (!number_size) {
        for (int64_t i = 0; i < count; i++) to[i] = ((const product_f32 *)from)[at + i];
        return true;
    }
    if (product_widen(numbers, from, number_size, at, count) >= known) return false;
    for (int64_t i = 0; i < count; i++) to[i] = palette[numbers[i]];
    return true;
}

static NETPRESS_CLONES bool multiply_rows(const uint32_t *counts, int64_t rows, int64_t at, const void *indices, int index_size,
                                          const void *values, int number_size, const float *palette, int64_t known,
                                          int64_t columns, int64_t batch, const float *x, float *y) {
    uint32_t places[PRODUCT_CHUNK], numbers[PRODUCT_CHUNK];
    float held[PRODUCT_CHUNK];
    for (int64_t r = 0; r < rows; r++, y += batch) {
        for (int64_t end = at + counts[r]; at < end;) {
            int64_t step = end - at < PRODUCT_CHUNK ? end - at : PRODUCT_CHUNK;
            if (product_widen(places, indices, index_size, at, step) >= columns) return false;
            if (!values_of(held, numbers, values, number_size, palette, known, at, step)) return false;
            product_add(y, places, held, step, x, batch);
            at += step;
        }
    }
    return true;
}

static PyObject *product(PyObject *module, PyObject *args) {
    Py_buffer counts, indices, values, palette, x, y;
    int index_size, number_size;
    long long start, columns, batch;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*Ly*iy*iy*LLy*w*", &counts, &start, &indices, &index_size, &values, &number_size, &palette,
                          &columns, &batch, &x, &y))
        return NULL;
    PyObject *result = NULL;
    if (!good_sizes(1, index_size, columns)) goto done;
    if (number_size < 0 || number_size > 2) {
        PyErr_SetString(PyExc_ValueError, "values: numbers of 1 or 2 bytes, or (0) float32");
        goto done;
    }
    int64_t rows = counts.len / 4, all = indices.len / index_size, left = all - start;
    for (int64_t r = 0; r < rows && left >= 0; r++) left -= ((const uint32_t *)counts.buf)[r];
    bool good = !(counts.len % 4 || palette.len % 4 || start < 0 || left < 0) && batch >= 1 &&
                values.len == all * (number_size ? number_size : 4) && batch <= PY_SSIZE_T_MAX / 4 / columns &&
                x.len == columns * batch * 4 && y.len / 4 / batch == rows && y.len == rows * batch * 4;
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "counts, indices, values, x (columns, batch) and y (rows, batch) do not fit each other");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    memset(y.buf, 0, (size_t)y.len);
    good = multiply_rows(counts.buf, rows, start, indices.buf, index_size, values.buf, number_size, palette.buf, palette.len / 4,
                         columns, batch, x.buf, y.buf);
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(Py_None);
    else
        PyErr_SetString(PyExc_ValueError, "an index beyond the columns, or a number beyond the palette");
done:
    PyBuffer_Release(&counts);
    PyBuffer_Release(&indices);
    PyBuffer_Release(&values);
    PyBuffer_Release(&palette);
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    return result;
}

static PyMethodDef functions[] = {
    {"count", count, METH_VARARGS, "count(symbols u16[n], counts u64[k])\n\nHow often each symbol below k occurs."},
    {"split", split, METH_VARARGS,
     "split(items, item_size, zero, columns, counts u32[rows], indices, index_size, kept)\n\nThe items that are not `zero`, row by "
     "row, with their columns; indices and kept have room for exactly those."},
    {"merge", merge, METH_VARARGS,
     "merge(counts u32[rows], indices, index_size, kept, item_size, columns, out)\n\nPuts the kept items to their places in out."},
    {"product", product, METH_VARARGS,
     "product(counts u32[rows], start, indices, index_size, values, number_size, palette f32[k], columns, batch, x, y)\n\n"
     "y (rows, batch) = W x (columns, batch) for the rows of counts, whose first nonzero is number `start`."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_sparse", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__sparse(void) { return PyModuleDef_Init(&definition); }
