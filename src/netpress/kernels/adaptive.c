/* The adaptive coder's face to Python: whole matrices, rows one after the other, sizes, and rate-distortion quantization. */
#include "adaptive_rows.h"

#define COLUMN_FLAGS 1
#define ROW_FLAGS 2
#define MOST_SIDE ((Py_ssize_t)1 << 40)
#define SHAPE "nnnnnnnii" /* rows, columns, period, row_period, breadth, low, high, flags, profile */

static const int profiles[4][2] = {{1023, 32}, {255, 48}, {80, 96}, {1023, 4}}; /* limit, speed */

/* A matrix on its way through the coder. */
typedef struct {
    Model model;
    Coder coder;
    int flags;
    uint8_t *live;   /* columns, where flags say that some are not */
    int32_t *levels; /* one row */
    uint32_t column_flag[8], row_flag[4];
    int row_before;
} Work;

static bool work_start(Work *work, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t period, Py_ssize_t row_period, Py_ssize_t breadth, Py_ssize_t low,
                       Py_ssize_t high, int flags, int profile) {
    memset(work, 0, sizeof *work);
    if (rows < 1 || columns < 1 || rows > MOST_SIDE || columns > MOST_SIDE || low > 0 || high < 0 || low < -65535 || high > 65535 ||
        flags < 0 || flags > 3 || profile < 0 || profile > 3) {
        PyErr_SetString(PyExc_ValueError, "rows and columns: 1 or more; low: -65535 to 0; high: 0 to 65535; flags, profile: 0 to 3");
        return false;
    }
    Model *m = &work->model;
    m->rows = rows, m->columns = columns, m->period = period, m->row_period = row_period;
    m->breadth = breadth;
    m->low = (int32_t)low, m->high = (int32_t)high;
    m->limit = profiles[profile][0], m->speed = profiles[profile][1];
    work->flags = flags;
    work->levels = malloc(sizeof(int32_t) * (size_t)columns);
    work->live = flags & COLUMN_FLAGS ? calloc(1, (size_t)columns) : NULL;
    for (int i = 0; i < 8; i++) work->column_flag[i] = 1u << 31;
    for (int i = 0; i < 4; i++) work->row_flag[i] = 1u << 31;
    work->row_before = 3;
    if (!model_start(m) || !work->levels || (flags & COLUMN_FLAGS && !work->live)) {
        PyErr_NoMemory();
        return false;
    }
    return true;
}

static void work_end(Work *work) {
    model_end(&work->model);
    free(work->levels);
    free(work->live);
}

/* A flag for each column, in the light of those before it, one period before it, and before that. */
static void code_columns(Work *work, int mode) {
    if (!work->live) return;
    Py_ssize_t period = work->model.period > 1 ? work->model.period : 2;
    for (Py_ssize_t c = 0; c < work->model.columns; c++) {
        int context = (c >= 1 ? work->live[c - 1] : 1) | (c >= period ? work->live[c - period] : 1) << 1 |
                      (c >= 3 ? work->live[c - 3] : 1) << 2;
        work->live[c] = (uint8_t)plain_bit(&work->coder, work->column_flag + context, work->live[c], 60, mode);
    }
}

/* The row in work->levels; when decoding, false for a level outside the range. */
NETPRESS_INLINE bool work_row(Work *work, int mode) {
    Model *m = &work->model;
    if (work->flags & ROW_FLAGS) {
        int any = 0;
        if (mode != DECODE)
            for (Py_ssize_t c = 0; c < m->columns; c++) any |= work->levels[c];
        any = plain_bit(&work->coder, work->row_flag + work->row_before, any != 0, 60, mode);
        work->row_before = (work->row_before << 1 | any) & 3;
        if (!any) {
            if (mode == DECODE) memset(work->levels, 0, sizeof(int32_t) * (size_t)m->columns);
            skip_row(m);
            return true;
        }
    }
    if (mode == ENCODE) return encode_row(m, &work->coder, work->levels, work->live);
    if (mode == DECODE) return decode_row(m, &work->coder, work->levels, work->live);
    return count_row(m, &work->coder, work->levels, work->live);
}

/* Which columns hold anything but zeros; values: 2 bytes of symbols, or 4 of levels. */
static void find_live(Work *work, const uint16_t *symbols, const int32_t *levels, Py_ssize_t row_stride, Py_ssize_t column_stride) {
    const Model *m = &work->model;
    if (!work->live) return;
    for (Py_ssize_t r = 0; r < m->rows; r++)
        for (Py_ssize_t c = 0; c < m->columns; c++) {
            Py_ssize_t at = r * row_stride + c * column_stride;
            work->live[c] |= symbols ? symbols[at] != -m->low : levels[at] != 0;
        }
}

/* Whether places of a matrix with these strides lie within `count` items; sets the error. */
static bool within(Py_ssize_t count, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t row_stride, Py_ssize_t column_stride) {
    if (rows >= 1 && columns >= 1 && count > 0 && rows <= count && columns <= count / rows &&
        ((column_stride == 1 && row_stride == columns) || (row_stride == 1 && column_stride == rows)))
        return true;
    PyErr_SetString(PyExc_ValueError, "a matrix by rows or by columns, with an item for each place");
    return false;
}

static PyObject *encode(PyObject *module, PyObject *args) {
    Py_buffer symbols;
    Py_ssize_t rows, columns, period, row_period, breadth, low, high, row_stride, column_stride, most;
    int flags, profile;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nnn" SHAPE, &symbols, &row_stride, &column_stride, &most, &rows, &columns, &period, &row_period, &breadth,
                          &low, &high, &flags, &profile))
        return NULL;
    PyObject *result = NULL;
    Work work;
    memset(&work, 0, sizeof work);
    Py_ssize_t count = netpress_items(&symbols, 2, "symbols");
    if (count < 0 || !within(count, rows, columns, row_stride, column_stride) ||
        !work_start(&work, rows, columns, period, row_period, breadth, low, high, flags, profile))
        goto done;
    const uint16_t *from = symbols.buf;
    bool right = true, whole = true;
    Py_ssize_t length = 0;
    Py_BEGIN_ALLOW_THREADS
    find_live(&work, from, NULL, row_stride, column_stride);
    range_start(&work.coder.range, NULL, 0);
    code_columns(&work, ENCODE);
    for (Py_ssize_t r = 0; r < rows && right && whole; r++) {
        for (Py_ssize_t c = 0; c < columns; c++) {
            int32_t level = (int32_t)from[r * row_stride + c * column_stride] + work.model.low;
            if (level > work.model.high) right = false;
            work.levels[c] = level;
        }
        if (right) work_row(&work, ENCODE);
        whole = work.coder.range.at <= most; /* else it is longer than what is at hand already */
    }
    length = range_finish(&work.coder.range);
    Py_END_ALLOW_THREADS
    if (work.coder.range.failed) {
        PyErr_NoMemory();
    } else if (!right) {
        PyErr_SetString(PyExc_ValueError, "a symbol lies above the palette");
    } else if (!whole || length > most) { /* part of a stream may end in zeros, which are left out, and be short enough */
        result = Py_NewRef(Py_None);
    } else {
        result = PyBytes_FromStringAndSize((const char *)work.coder.range.out, length);
    }
done:
    free(work.coder.range.out);
    work_end(&work);
    PyBuffer_Release(&symbols);
    return result;
}

/* A stream being read. */
typedef struct {
    Work work;
    Py_buffer payload;
    Py_ssize_t rows_left;
    bool busy, broken;
} Reader;

static const char reader_name[] = "netpress.adaptive.reader";

static void reader_free(PyObject *capsule) {
    Reader *reader = PyCapsule_GetPointer(capsule, reader_name);
    if (!reader) return;
    work_end(&reader->work);
    PyBuffer_Release(&reader->payload);
    PyMem_Free(reader);
}

static PyObject *open_reader(PyObject *module, PyObject *args) {
    Py_buffer payload;
    Py_ssize_t rows, columns, period, row_period, breadth, low, high;
    int flags, profile;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*" SHAPE, &payload, &rows, &columns, &period, &row_period, &breadth, &low, &high, &flags, &profile)) return NULL;
    Reader *reader = PyMem_Malloc(sizeof *reader);
    if (!reader) {
        PyBuffer_Release(&payload);
        return PyErr_NoMemory();
    }
    memset(reader, 0, sizeof *reader);
    reader->payload = payload;
    reader->rows_left = rows;
    PyObject *capsule = NULL;
    if (work_start(&reader->work, rows, columns, period, row_period, breadth, low, high, flags, profile)) {
        range_start(&reader->work.coder.range, payload.len ? payload.buf : (void *)"", payload.len);
        code_columns(&reader->work, DECODE);
        capsule = PyCapsule_New(reader, reader_name, reader_free);
    }
    if (!capsule) {
        work_end(&reader->work);
        PyBuffer_Release(&payload);
        PyMem_Free(reader);
    }
    return capsule;
}

static PyObject *read_rows(PyObject *module, PyObject *args) {
    PyObject *capsule;
    Py_buffer symbols;
    Py_ssize_t rows, row_stride, column_stride;
    (void)module;
    if (!PyArg_ParseTuple(args, "Ow*nnn", &capsule, &symbols, &rows, &row_stride, &column_stride)) return NULL;
    Reader *reader = PyCapsule_GetPointer(capsule, reader_name);
    PyObject *result = NULL;
    Py_ssize_t count = netpress_items(&symbols, 2, "symbols");
    if (!reader || count < 0 || !within(count, rows, reader->work.model.columns, row_stride, column_stride)) goto done;
    if (reader->busy || reader->broken || rows > reader->rows_left) {
        PyErr_SetString(PyExc_ValueError, "the reader is at work in another thread, has failed, or has fewer rows left");
        goto done;
    }
    uint16_t *to = symbols.buf;
    bool right = true;
    reader->busy = true;
    Py_BEGIN_ALLOW_THREADS
    const Model *m = &reader->work.model;
    for (Py_ssize_t r = 0; r < rows && right; r++) {
        right = work_row(&reader->work, DECODE);
        if (right)
            for (Py_ssize_t c = 0; c < m->columns; c++)
                to[r * row_stride + c * column_stride] = (uint16_t)(reader->work.levels[c] - m->low);
    }
    Py_END_ALLOW_THREADS
    reader->busy = false;
    reader->rows_left -= rows;
    if (right && reader->rows_left == 0) right = range_ended(&reader->work.coder.range);
    if (right) {
        result = Py_NewRef(Py_None);
    } else {
        reader->broken = true;
        PyErr_SetString(PyExc_ValueError, "the stream is none that the adaptive coder writes");
    }
done:
    PyBuffer_Release(&symbols);
    return result;
}

static PyObject *bits(PyObject *module, PyObject *args) {
    Py_buffer levels;
    Py_ssize_t rows, columns, period, row_period, breadth, low, high, row_stride, column_stride;
    int flags, profile;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nn" SHAPE, &levels, &row_stride, &column_stride, &rows, &columns, &period, &row_period, &breadth, &low, &high,
                          &flags, &profile))
        return NULL;
    PyObject *result = NULL;
    Work work;
    memset(&work, 0, sizeof work);
    Py_ssize_t count = netpress_items(&levels, 4, "levels");
    if (count < 0 || !within(count, rows, columns, row_stride, column_stride) ||
        !work_start(&work, rows, columns, period, row_period, breadth, low, high, flags, profile))
        goto done;
    const int32_t *from = levels.buf;
    bool right = true;
    Py_BEGIN_ALLOW_THREADS
    find_live(&work, NULL, from, row_stride, column_stride);
    code_columns(&work, COUNT);
    for (Py_ssize_t r = 0; r < rows && right; r++) {
        for (Py_ssize_t c = 0; c < columns; c++) {
            work.levels[c] = from[r * row_stride + c * column_stride];
            right = right && work.levels[c] >= work.model.low && work.levels[c] <= work.model.high;
        }
        if (right) work_row(&work, COUNT);
    }
    Py_END_ALLOW_THREADS
    if (right)
        result = PyFloat_FromDouble(work.coder.bits);
    else
        PyErr_SetString(PyExc_ValueError, "a level lies outside low to high");
done:
    work_end(&work);
    PyBuffer_Release(&levels);
    return result;
}

static PyObject *quantize(PyObject *module, PyObject *args) {
    Py_buffer weights, sensitivity, levels;
    Py_ssize_t rows, columns, period, row_period, breadth, low, high, row_stride, column_stride;
    int flags, profile, passes;
    float lambda;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*w*fi" "nn" SHAPE, &weights, &sensitivity, &levels, &lambda, &passes, &row_stride, &column_stride,
                          &rows, &columns, &period, &row_period, &breadth, &low, &high, &flags, &profile))
        return NULL;
    PyObject *result = NULL;
    Work work;
    memset(&work, 0, sizeof work);
    Py_ssize_t count = netpress_items(&weights, 4, "weights"), weighed = netpress_items(&sensitivity, 4, "sensitivity");
    Py_ssize_t room = netpress_items(&levels, 4, "levels");
    if (count < 0 || weighed < 0 || room < 0 || !within(count, rows, columns, row_stride, column_stride)) goto done;
    if (room != count || (weighed != 1 && weighed != count) || !(lambda >= 0) || !isfinite(lambda) || passes < 1 || passes > 8) {
        PyErr_SetString(PyExc_ValueError, "levels: one for each weight; sensitivity: one, or one for each; lambda >= 0; passes 1 to 8");
        goto done;
    }
    if (!work_start(&work, rows, columns, period, row_period, breadth, low, high, flags, profile)) goto done;
    const float *w = weights.buf, *s = sensitivity.buf;
    int32_t *to = levels.buf;
    bool right = true;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count && right; i++) right = isfinite(w[i]);
    for (Py_ssize_t i = 0; i < weighed && right; i++) right = isfinite(s[i]) && s[i] >= 0;
    for (int pass = 0; pass < passes && right; pass++) {
        model_rewind(&work.model);
        work.coder.bits = 0;
        for (Py_ssize_t r = 0; r < rows; r++) {
            Py_ssize_t at = r * row_stride;
            quantize_row(&work.model, &work.coder, w + at, weighed == 1 ? s : s + at, column_stride, weighed == 1 ? 0 : column_stride,
                         lambda, work.levels);
            for (Py_ssize_t c = 0; c < columns; c++) to[at + c * column_stride] = work.levels[c];
        }
    }
    Py_END_ALLOW_THREADS
    if (right)
        result = PyFloat_FromDouble(work.coder.bits);
    else
        PyErr_SetString(PyExc_ValueError, "weights must be finite, sensitivities finite and not negative");
done:
    work_end(&work);
    PyBuffer_Release(&weights);
    PyBuffer_Release(&sensitivity);
    PyBuffer_Release(&levels);
    return result;
}

static PyObject *memory(PyObject *module, PyObject *args) {
    Py_ssize_t rows, columns, period, row_period, breadth, low, high;
    int flags, profile;
    (void)module;
    if (!PyArg_ParseTuple(args, SHAPE, &rows, &columns, &period, &row_period, &breadth, &low, &high, &flags, &profile)) return NULL;
    Work work;
    memset(&work, 0, sizeof work);
    PyObject *result = NULL;
    if (work_start(&work, rows, columns, period, row_period, breadth, low, high, flags, profile))
        result = PyLong_FromSize_t(sizeof(Reader) + model_bytes(&work.model) + (size_t)columns * (4 + (flags & COLUMN_FLAGS)));
    work_end(&work);
    return result;
}

#define SHAPE_TEXT "rows, columns, period, row_period, breadth, low, high, flags, profile"
static PyMethodDef functions[] = {
    {"encode", encode, METH_VARARGS,
     "encode(symbols u16[n], row_stride, column_stride, most, " SHAPE_TEXT ") -> bytes, or None if longer than most"},
    {"reader", open_reader, METH_VARARGS, "reader(payload, " SHAPE_TEXT ") -> capsule"},
    {"read_rows", read_rows, METH_VARARGS, "read_rows(reader, symbols u16[n], rows, row_stride, column_stride)"},
    {"bits", bits, METH_VARARGS, "bits(levels i32[n], row_stride, column_stride, " SHAPE_TEXT ") -> float"},
    {"quantize", quantize, METH_VARARGS,
     "quantize(weights f32[n], sensitivity f32[n or 1], levels i32[n], lambda, passes, row_stride, column_stride, " SHAPE_TEXT
     ") -> bits"},
    {"memory", memory, METH_VARARGS, "memory(" SHAPE_TEXT ") -> bytes that a reader takes"},
    {NULL, NULL, 0, NULL},
};
static int prepare(PyObject *module) {
    (void)module;
    build_tables();
    build_costs();
    return 0;
}
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)prepare}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_adaptive", NULL, 0, functions, slots, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__adaptive(void) { return PyModuleDef_Init(&definition); }
