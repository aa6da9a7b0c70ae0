/* Rows whose entries are grouped by value (CSER: Wiedemann, Mueller and Samek 2018, arXiv 1805.10692): the column indices of each
 * value that occurs in a row stand together; the most frequent value of the matrix is not written. */
#include "product.h"

NETPRESS_INLINE uint32_t item(const void *items, int size, int64_t at) {
    if (size == 1) return ((const uint8_t *)items)[at];
    if (size == 2) return ((const product_u16 *)items)[at];
    return ((const product_u32 *)items)[at];
}

static int ascending(const void *a, const void *b) { return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b; }

/* Counting sort of each row. Gives the number of groups, or -1 when there is no room. fill: k zeros; seen: k. */
static int64_t group_rows(const uint16_t *symbols, int64_t rows, int64_t columns, uint16_t implicit, uint32_t *groups,
                          uint16_t *numbers, uint32_t *sizes, uint32_t *indices, int64_t room, uint32_t *fill, uint16_t *seen) {
    int64_t group = 0, at = 0;
    for (int64_t r = 0; r < rows; r++, symbols += columns) {
        int64_t found = 0;
        for (int64_t j = 0; j < columns; j++) {
            uint16_t s = symbols[j];
            if (s != implicit && !fill[s]++) seen[found++] = s;
        }
        qsort(seen, (size_t)found, sizeof *seen, ascending);
        int64_t start = at;
        for (int64_t g = 0; g < found; g++) {
            uint32_t size = fill[seen[g]];
            if (size > room - at) return -1;
            numbers[group + g] = seen[g];
            sizes[group + g] = size;
            fill[seen[g]] = (uint32_t)(at - start);
            at += size;
        }
        for (int64_t j = 0; j < columns; j++)
            if (symbols[j] != implicit) indices[start + fill[symbols[j]]++] = (uint32_t)j;
        for (int64_t g = 0; g < found; g++) fill[seen[g]] = 0;
        groups[r] = (uint32_t)found;
        group += found;
    }
    return at == room ? group : -1;
}

static PyObject *group(PyObject *module, PyObject *args) {
    Py_buffer symbols, groups, numbers, sizes, indices;
    long long columns, known;
    int implicit;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*LLiw*w*w*w*", &symbols, &columns, &known, &implicit, &groups, &numbers, &sizes, &indices))
        return NULL;
    PyObject *result = NULL;
    uint32_t *fill = NULL;
    uint16_t *seen = NULL;
    int64_t rows = groups.len / 4, room = indices.len / 4, n = symbols.len / 2, found = -1;
    bool good = columns >= 1 && columns <= UINT32_MAX && known >= 1 && known <= 65536 && groups.len % 4 == 0 && n % columns == 0 &&
                n / columns == rows && symbols.len % 2 == 0 && indices.len % 4 == 0 && sizes.len == indices.len &&
                numbers.len == room * 2;
    for (int64_t i = 0; good && i < n; i++) good = ((const uint16_t *)symbols.buf)[i] < known;
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "groups: one a row; numbers, sizes and indices: one an entry that is not implicit");
        goto done;
    }
    fill = calloc((size_t)known, sizeof *fill);
    seen = malloc((size_t)known * sizeof *seen);
    if (!fill || !seen) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    found = group_rows(symbols.buf, rows, columns, (uint16_t)implicit, groups.buf, numbers.buf, sizes.buf, indices.buf, room, fill,
                       seen);
    Py_END_ALLOW_THREADS
    if (found < 0)
        PyErr_SetString(PyExc_ValueError, "indices: room for exactly the entries that are not implicit");
    else
        result = PyLong_FromLongLong(found);
done:
    free(fill);
    free(seen);
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&groups);
    PyBuffer_Release(&numbers);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&indices);
    return result;
}

typedef struct {
    const uint32_t *groups;
    const void *numbers, *sizes, *indices;
    int number_size, count_size, index_size;
    int64_t rows, columns, known, implicit, first_group, first_index;
} rows_t;

/* Checks all but the indices: counts that fit the buffers, numbers that ascend within a row and are known. */
static const char *checked(rows_t *job, const Py_buffer *groups, const Py_buffer *numbers, const Py_buffer *sizes,
                           const Py_buffer *indices, bool whole) {
    int widths[3] = {job->number_size, job->count_size, job->index_size};
    for (int i = 0; i < 3; i++)
        if (widths[i] != 1 && widths[i] != 2 && widths[i] != 4) return "integers of 1, 2 or 4 bytes";
    if (job->columns < 1 || job->columns > UINT32_MAX || job->first_group < 0 || job->first_index < 0 || groups->len % 4)
        return "columns: 1 to 2^32 - 1";
    job->groups = groups->buf;
    job->numbers = numbers->buf;
    job->sizes = sizes->buf;
    job->indices = indices->buf;
    job->rows = groups->len / 4;
    int64_t all = numbers->len / job->number_size, entries = indices->len / job->index_size;
    int64_t g = job->first_group, at = job->first_index;
    if (sizes->len / job->count_size != all || g > all || at > entries) return "numbers and sizes: one a group";
    for (int64_t r = 0; r < job->rows; r++) {
        int64_t last = -1, row = 0;
        if (job->groups[r] > all - g) return "more groups in a row than there are";
        for (int64_t end = g + job->groups[r]; g < end; g++) {
            int64_t number = item(job->numbers, job->number_size, g), size = item(job->sizes, job->count_size, g);
            if (number <= last || number >= job->known || number == job->implicit) return "a group's value is none";
            if (size < 1 || size > job->columns - row || size > entries - at) return "a group's size cannot be";
            last = number;
            row += size;
            at += size;
        }
    }
    return whole && (g != all || at != entries) ? "groups or indices are left over" : NULL;
}

static bool spread(const rows_t *job, uint16_t *symbols) {
    int64_t at = job->first_index, g = job->first_group;
    for (int64_t r = 0; r < job->rows; r++, symbols += job->columns)
        for (int64_t end = g + job->groups[r]; g < end; g++) {
            uint16_t number = (uint16_t)item(job->numbers, job->number_size, g);
            int64_t last = -1;
            for (int64_t stop = at + item(job->sizes, job->count_size, g); at < stop; at++) {
                int64_t index = item(job->indices, job->index_size, at);
                if (index <= last || index >= job->columns || symbols[index] != job->implicit) return false;
                symbols[index] = number;
                last = index;
            }
        }
    return true;
}

static PyObject *ungroup(PyObject *module, PyObject *args) {
    Py_buffer groups, numbers, sizes, indices, symbols;
    rows_t job = {0};
    long long columns, known;
    int implicit;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*iy*iy*iLLiw*", &groups, &numbers, &job.number_size, &sizes, &job.count_size, &indices,
                          &job.index_size, &columns, &known, &implicit, &symbols))
        return NULL;
    job.columns = columns;
    job.known = known;
    job.implicit = implicit;
    const char *wrong = known > 65536 || implicit < 0 || implicit >= known
                            ? "at most 65536 values; the implicit one is one of them"
                            : checked(&job, &groups, &numbers, &sizes, &indices, true);
    if (!wrong && (symbols.len % (2 * columns) || symbols.len / (2 * columns) != job.rows)) wrong = "symbols: (rows, columns) of u16";
    if (!wrong) {
        bool good;
        Py_BEGIN_ALLOW_THREADS
        uint16_t *to = symbols.buf;
        for (int64_t i = 0; i < job.rows * columns; i++) to[i] = (uint16_t)implicit;
        good = spread(&job, to);
        Py_END_ALLOW_THREADS
        if (!good) wrong = "column indices do not ascend within their group, stand twice, or reach beyond their row";
    }
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    PyBuffer_Release(&groups);
    PyBuffer_Release(&numbers);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&indices);
    PyBuffer_Release(&symbols);
    return wrong ? NULL : Py_NewRef(Py_None);
}

/* sums[n] = sum over the places of x[place, n]. */
NETPRESS_INLINE void sum_columns(float *sums, const uint32_t *places, int64_t count, const float *x, int64_t batch) {
    int64_t n = 0;
#if defined(__GNUC__)
#define SUM_WIDTH(lanes)                                                                                                       \
    for (; n + lanes <= batch; n += lanes) {                                                                                   \
        product_v##lanes a = {0}, b = {0};                                                                                     \
        int64_t i = 0;                                                                                                         \
        for (; i + 1 < count; i += 2) {                                                                                        \
            a += *(const product_v##lanes *)(x + (int64_t)places[i] * batch + n);                                              \
            b += *(const product_v##lanes *)(x + (int64_t)places[i + 1] * batch + n);                                          \
        }                                                                                                                      \
        if (i < count) a += *(const product_v##lanes *)(x + (int64_t)places[i] * batch + n);                                   \
        *(product_v##lanes *)(sums + n) = a + b;                                                                               \
    }
    SUM_WIDTH(16)
    SUM_WIDTH(8)
    SUM_WIDTH(4)
#endif
    for (; n < batch; n++) {
        float a = 0, b = 0, c = 0, d = 0;
        int64_t i = 0;
        for (; i + 4 <= count; i += 4) {
            a += x[(int64_t)places[i] * batch + n];
            b += x[(int64_t)places[i + 1] * batch + n];
            c += x[(int64_t)places[i + 2] * batch + n];
            d += x[(int64_t)places[i + 3] * batch + n];
        }
        for (; i < count; i++) a += x[(int64_t)places[i] * batch + n];
        sums[n] = (a + b) + (c + d);
    }
}

/* places: [columns]; sums: [batch]; others: [batch], sums over all groups of the row, wanted where the implicit value is not 0. */
static NETPRESS_CLONES bool multiply_rows(const rows_t *job, const float *values, const double *totals, int64_t batch,
                                          const float *x, float *y, uint32_t *places, float *sums, double *others) {
    int64_t at = job->first_index, g = job->first_group;
    float implicit = values[job->implicit];
    for (int64_t r = 0; r < job->rows; r++, y += batch) {
        int64_t entries = 0, done = 0, end = g + job->groups[r];
        for (int64_t i = g; i < end; i++) entries += item(job->sizes, job->count_size, i);
        if (entries && product_widen(places, job->indices, job->index_size, at, entries) >= job->columns) return false;
        memset(others, 0, (size_t)batch * sizeof *others);
        for (; g < end; g++) {
            int64_t size = item(job->sizes, job->count_size, g);
            float value = values[item(job->numbers, job->number_size, g)];
            if (batch == 1) {
                sum_columns(sums, places + done, size, x, 1);
                y[0] += value * sums[0];
            } else {
                sum_columns(sums, places + done, size, x, batch);
                for (int64_t n = 0; n < batch; n++) y[n] += value * sums[n];
            }
            if (implicit != 0)
                for (int64_t n = 0; n < batch; n++) others[n] += sums[n];
            done += size;
        }
        if (implicit != 0 && entries < job->columns)
            for (int64_t n = 0; n < batch; n++) y[n] += implicit * (float)(totals[n] - others[n]);
        at += entries;
    }
    return true;
}

static PyObject *product(PyObject *module, PyObject *args) {
    Py_buffer groups, numbers, sizes, indices, values, totals, x, y;
    rows_t job = {0};
    long long first_group, first_index, columns, batch;
    int implicit;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*LLy*iy*iy*iy*iLLy*y*w*", &groups, &first_group, &first_index, &numbers, &job.number_size, &sizes,
                          &job.count_size, &indices, &job.index_size, &values, &implicit, &columns, &batch, &totals, &x, &y))
        return NULL;
    PyObject *result = NULL;
    uint32_t *places = NULL;
    float *sums = NULL;
    double *others = NULL;
    job.first_group = first_group;
    job.first_index = first_index;
    job.columns = columns;
    job.known = values.len / 4;
    job.implicit = implicit;
    const char *wrong = implicit < 0 || implicit >= job.known ? "implicit: the number of a value"
                                                              : checked(&job, &groups, &numbers, &sizes, &indices, false);
    if (!wrong && (batch < 1 || batch > PY_SSIZE_T_MAX / 8 / columns || x.len != columns * batch * 4 || totals.len != batch * 8 ||
                   y.len / 4 / batch != job.rows || y.len != job.rows * batch * 4))
        wrong = "x (columns, batch), y (rows, batch) of float32; totals (batch,) of float64";
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    places = malloc((size_t)columns * sizeof *places);
    sums = malloc((size_t)batch * sizeof *sums);
    others = malloc((size_t)batch * sizeof *others);
    if (!places || !sums || !others) {
        PyErr_NoMemory();
        goto done;
    }
    bool good;
    Py_BEGIN_ALLOW_THREADS
    memset(y.buf, 0, (size_t)y.len);
    good = multiply_rows(&job, values.buf, totals.buf, batch, x.buf, y.buf, places, sums, others);
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(Py_None);
    else
        PyErr_SetString(PyExc_ValueError, "a column index reaches beyond its row");
done:
    free(places);
    free(sums);
    free(others);
    PyBuffer_Release(&groups);
    PyBuffer_Release(&numbers);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&indices);
    PyBuffer_Release(&values);
    PyBuffer_Release(&totals);
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    return result;
}

static PyMethodDef functions[] = {
    {"group", group, METH_VARARGS,
     "group(symbols u16[rows * columns], columns, k, implicit, groups u32[rows], numbers u16[e], sizes u32[e], indices u32[e]) -> "
     "groups\n\ne: the entries that are not implicit; numbers and sizes are used up to the result."},
    {"ungroup", ungroup, METH_VARARGS,
     "ungroup(groups u32[rows], numbers, number_size, sizes, count_size, indices, index_size, columns, k, implicit, symbols)"},
    {"product", product, METH_VARARGS,
     "product(groups u32[rows], first_group, first_index, numbers, number_size, sizes, count_size, indices, index_size, "
     "values f32[k], implicit, columns, batch, totals f64[batch], x, y)\n\ny = W x; totals: the sums over the rows of x."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_shared_rows", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__shared_rows(void) { return PyModuleDef_Init(&definition); }
