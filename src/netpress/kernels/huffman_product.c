/* Products with matrices whose values are a canonical Huffman stream: all entries (HAM), or the nonzeros beside their indices
 * (sHAM); Marino, Petrini, Malchiodi and Frasca, Neurocomputing 520 (2023).
 *
 * Rows come in blocks, each from a whole byte on. Four blocks are decoded side by side, since one chain of look-ups waits for
 * itself most of the time. */
#include "huffman.h"
#include "product.h"

#define CHAINS 4
#define WINDOW 57 /* bits of a window that are sure to be the stream's */

typedef struct {
    const huffman_code *code;
    huffman_stream stream;
    const int64_t *rows, *bytes; /* bounds of the blocks: in rows, in bytes of the stream */
    int64_t blocks, columns, batch;
    const float *x;
    float *y;
    const float *x_end; /* x[columns, 0] */
    uint64_t flip;      /* zeros are runs of 0 bits in stream ^ flip */
    int64_t most_run;   /* zeros taken at a time: the window still holds a whole word behind them */
    const uint32_t *counts; /* sHAM: nonzeros of each row, from rows[0] on */
    const int64_t *starts;  /* sHAM: the first nonzero of each block */
    const void *indices;
    int index_size;
} job_t;

typedef struct {
    uint64_t position;
    int64_t row, row_end, left; /* left: entries of the row that have not been read */
    float sum, *y;
    int64_t held;
    const uint32_t *columns; /* sHAM: of this row */
    int64_t at;
    uint32_t *place; /* [columns] or [PRODUCT_CHUNK] */
    float *value;
    bool wrong;
} chain_t;

NETPRESS_INLINE void flush(const job_t *job, chain_t *c) {
    product_add(c->y, c->place, c->value, c->held, job->x, job->batch);
    c->held = 0;
}

/* Reads up to the next nonzero of a HAM row, or to its end. */
NETPRESS_INLINE void ham_step(const job_t *job, chain_t *c, bool runs, bool single) {
    uint64_t window = huffman_window(&job->stream, c->position);
    if (runs) {
        uint64_t ones = (window ^ job->flip) | 1;
        int64_t run = huffman_leading_zeros(ones);
        bool more = run > job->most_run;
        if (NETPRESS_UNLIKELY(more)) run = job->most_run;
        if (run >= c->left) {
            c->position += (uint64_t)c->left;
            c->left = 0;
            goto row;
        }
        c->left -= run;
        c->position += (uint64_t)run;
        if (NETPRESS_UNLIKELY(more)) return;
        window <<= run;
    }
    huffman_entry entry = huffman_look(job->code, window);
    c->position += entry.length;
    if (single) {
        c->sum += entry.value * job->x_end[-c->left];
    } else {
        c->place[c->held] = (uint32_t)(job->columns - c->left);
        c->value[c->held++] = entry.value;
        if (c->held == PRODUCT_CHUNK) flush(job, c);
    }
    c->left--;
    if (runs || c->left) return;
row:
    if (single) {
        *c->y = c->sum;
        c->sum = 0;
    } else {
        flush(job, c);
    }
    c->y += job->batch;
    c->row++;
    c->left = job->columns;
}

NETPRESS_INLINE void ham_begin(const job_t *job, chain_t *c, int64_t block) {
    c->position = (uint64_t)job->bytes[block] << 3;
    c->row = job->rows[block];
    c->row_end = job->rows[block + 1];
    c->y = job->y + (c->row - job->rows[0]) * job->batch;
    c->left = job->columns;
    c->sum = 0;
    c->held = 0;
}

NETPRESS_INLINE bool ham_run(const job_t *job, uint32_t *places, float *values, bool runs, bool single) {
    const job_t own = *job; /* so that no store to y makes its fields be loaded again */
    for (int64_t b = 0; b < own.blocks; b += CHAINS) {
        chain_t c[CHAINS];
        int64_t chains = own.blocks - b < CHAINS ? own.blocks - b : CHAINS;
        for (int64_t i = 0; i < chains; i++) {
            c[i].place = places + i * PRODUCT_CHUNK;
            c[i].value = values + i * PRODUCT_CHUNK;
            ham_begin(&own, &c[i], b + i);
        }
        if (chains == CHAINS) {
            chain_t c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3];
            while (c0.row < c0.row_end && c1.row < c1.row_end && c2.row < c2.row_end && c3.row < c3.row_end) {
                ham_step(&own, &c0, runs, single);
                ham_step(&own, &c1, runs, single);
                ham_step(&own, &c2, runs, single);
                ham_step(&own, &c3, runs, single);
            }
            c[0] = c0;
            c[1] = c1;
            c[2] = c2;
            c[3] = c3;
        }
        for (int64_t i = 0; i < chains; i++) {
            chain_t last = c[i];
            while (last.row < last.row_end) ham_step(&own, &last, runs, single);
            if ((int64_t)((last.position + 7) >> 3) != own.bytes[b + i + 1]) return false;
        }
    }
    return true;
}

static NETPRESS_CLONES bool ham_runs_single(const job_t *job, uint32_t *places, float *values) {
    return ham_run(job, places, values, true, true);
}
static NETPRESS_CLONES bool ham_runs(const job_t *job, uint32_t *places, float *values) {
    return ham_run(job, places, values, true, false);
}
static NETPRESS_CLONES bool ham_single(const job_t *job, uint32_t *places, float *values) {
    return ham_run(job, places, values, false, true);
}
static NETPRESS_CLONES bool ham_plain(const job_t *job, uint32_t *places, float *values) {
    return ham_run(job, places, values, false, false);
}

/* Begins rows until one has nonzeros: widens and checks its indices. */
NETPRESS_INLINE void sham_row(const job_t *job, chain_t *c) {
    while (c->row < c->row_end) {
        c->left = job->counts[c->row - job->rows[0]];
        c->held = 0;
        if (c->left) {
            if (product_widen(c->place, job->indices, job->index_size, c->at, c->left) >= job->columns) {
                c->wrong = true;
                c->row = c->row_end;
            }
            c->at += c->left;
            return;
        }
        c->row++;
        c->y += job->batch;
    }
}

NETPRESS_INLINE void sham_step(const job_t *job, chain_t *c) {
    uint64_t window = huffman_window(&job->stream, c->position);
    huffman_entry one = huffman_look(job->code, window);
    huffman_entry two = huffman_look(job->code, window << one.length);
    bool both = c->left > 1;
    c->value[c->held] = one.value;
    c->value[c->held + 1] = two.value; /* beyond the row where this was its last one: there is room for it */
    c->position += one.length + (both ? two.length : 0u);
    c->held += 2;
    c->left -= 2;
    if (c->left > 0) return;
    product_add(c->y, c->place, c->value, c->held + (both ? 0 : -1), job->x, job->batch);
    c->row++;
    c->y += job->batch;
    sham_row(job, c);
}

static NETPRESS_CLONES bool sham_run(const job_t *job, uint32_t *places, float *values, int64_t room) {
    const job_t own = *job;
    for (int64_t b = 0; b < own.blocks; b += CHAINS) {
        chain_t c[CHAINS];
        int64_t chains = own.blocks - b < CHAINS ? own.blocks - b : CHAINS;
        for (int64_t i = 0; i < chains; i++) {
            ham_begin(&own, &c[i], b + i);
            c[i].place = places + i * room;
            c[i].value = values + i * room;
            c[i].at = own.starts[b + i];
            c[i].wrong = false;
            sham_row(&own, &c[i]);
        }
        if (chains == CHAINS) {
            chain_t c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3];
            while (c0.row < c0.row_end && c1.row < c1.row_end && c2.row < c2.row_end && c3.row < c3.row_end) {
                sham_step(&own, &c0);
                sham_step(&own, &c1);
                sham_step(&own, &c2);
                sham_step(&own, &c3);
            }
            c[0] = c0;
            c[1] = c1;
            c[2] = c2;
            c[3] = c3;
        }
        for (int64_t i = 0; i < chains; i++) {
            chain_t last = c[i];
            while (last.row < last.row_end) sham_step(&own, &last);
            if (last.wrong || (int64_t)((last.position + 7) >> 3) != own.bytes[b + i + 1]) return false;
        }
    }
    return true;
}

/* Checks what both products are given; NULL, or what is wrong. */
static const char *checked(job_t *job, const Py_buffer *payload, const Py_buffer *lengths, const Py_buffer *values,
                           const Py_buffer *rows, const Py_buffer *bytes, const Py_buffer *x, const Py_buffer *y) {
    if (rows->len < 16 || rows->len % 8 || bytes->len != rows->len) return "rows, bytes: one bound more than there are blocks";
    if (values->len != lengths->len * 4) return "values: one a code length";
    job->stream = (huffman_stream){payload->buf, payload->len, payload->len - 8};
    job->rows = rows->buf;
    job->bytes = bytes->buf;
    job->blocks = rows->len / 8 - 1;
    for (int64_t b = 0; b < job->blocks; b++) {
        if (job->rows[b] < 0 || job->rows[b + 1] < job->rows[b]) return "rows: bounds that do not ascend";
        if (job->bytes[b] < 0 || job->bytes[b + 1] < job->bytes[b]) return "bytes: bounds that do not ascend";
    }
    if (job->bytes[job->blocks] > payload->len) return "a block reaches beyond the stream";
    int64_t count = job->rows[job->blocks] - job->rows[0], most = PY_SSIZE_T_MAX / 4;
    if (job->columns < 1 || job->columns > UINT32_MAX || job->batch < 1 || job->batch > most / job->columns)
        return "columns: 1 to 2^32 - 1; a batch of at least 1";
    if (x->len != job->columns * job->batch * 4) return "x: (columns, batch) of float32";
    if (count > most / job->batch || y->len != count * job->batch * 4) return "y: (rows, batch) of float32";
    job->x = x->buf;
    job->x_end = job->x + job->columns * job->batch;
    job->y = y->buf;
    return NULL;
}

static PyObject *ham(PyObject *module, PyObject *args) {
    Py_buffer payload, lengths, values, rows, bytes, x, y;
    job_t job = {0};
    long long columns, batch, zero;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*LLLy*w*", &payload, &lengths, &values, &rows, &bytes, &columns, &batch, &zero, &x, &y))
        return NULL;
    PyObject *result = NULL;
    huffman_code *code = malloc(sizeof *code);
    uint32_t *places = malloc(CHAINS * PRODUCT_CHUNK * sizeof *places);
    float *held = malloc(CHAINS * PRODUCT_CHUNK * sizeof *held);
    if (!code || !places || !held) {
        PyErr_NoMemory();
        goto done;
    }
    job.columns = columns;
    job.batch = batch;
    job.code = code;
    const char *wrong = checked(&job, &payload, &lengths, &values, &rows, &bytes, &x, &y);
    if (!wrong) wrong = huffman_build(code, lengths.buf, (size_t)lengths.len, values.buf);
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    bool runs = zero >= 0 && zero < lengths.len && code->longest && ((const uint8_t *)lengths.buf)[zero] == 1, good;
    if (runs) job.flip = code->order[0] == zero ? 0 : ~(uint64_t)0;
    job.most_run = WINDOW - (int64_t)code->longest;
    Py_BEGIN_ALLOW_THREADS
    memset(y.buf, 0, (size_t)y.len);
    if (job.batch == 1)
        good = runs ? ham_runs_single(&job, places, held) : ham_single(&job, places, held);
    else
        good = runs ? ham_runs(&job, places, held) : ham_plain(&job, places, held);
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(Py_None);
    else
        PyErr_SetString(PyExc_ValueError, "a block of code words does not end where it should");
done:
    free(code);
    free(places);
    free(held);
    PyBuffer_Release(&payload);
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&values);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&bytes);
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    return result;
}

static PyObject *sham(PyObject *module, PyObject *args) {
    Py_buffer payload, lengths, values, rows, bytes, x, y, counts, starts, indices;
    job_t job = {0};
    long long columns, batch;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*y*y*iLLy*w*", &payload, &lengths, &values, &rows, &bytes, &counts, &starts, &indices,
                          &job.index_size, &columns, &batch, &x, &y))
        return NULL;
    PyObject *result = NULL;
    huffman_code *code = malloc(sizeof *code);
    uint32_t *places = NULL;
    float *held = NULL;
    job.columns = columns;
    job.batch = batch;
    job.code = code;
    if (!code) {
        PyErr_NoMemory();
        goto done;
    }
    const char *wrong = checked(&job, &payload, &lengths, &values, &rows, &bytes, &x, &y);
    if (!wrong) wrong = huffman_build(code, lengths.buf, (size_t)lengths.len, values.buf);
    if (!wrong && job.index_size != 1 && job.index_size != 2 && job.index_size != 4) wrong = "indices: of 1, 2 or 4 bytes";
    if (!wrong && (counts.len != (job.rows[job.blocks] - job.rows[0]) * 4 || starts.len != job.blocks * 8))
        wrong = "counts: one a row; starts: one a block";
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    job.counts = counts.buf;
    job.starts = starts.buf;
    job.indices = indices.buf;
    int64_t room = 0, all = indices.len / job.index_size;
    for (int64_t b = 0; b < job.blocks && !wrong; b++) {
        int64_t at = job.starts[b];
        if (at < 0 || at > all) wrong = "starts: beyond the indices";
        for (int64_t r = job.rows[b]; r < job.rows[b + 1] && !wrong; r++) {
            uint32_t count = job.counts[r - job.rows[0]];
            if (count > job.columns || count > all - at) wrong = "more nonzeros in a row than there are";
            if (count > room) room = count;
            at += count;
        }
    }
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    room += 16;
    places = malloc((size_t)(CHAINS * room) * sizeof *places);
    held = malloc((size_t)(CHAINS * room) * sizeof *held);
    if (!places || !held) {
        PyErr_NoMemory();
        goto done;
    }
    bool good;
    Py_BEGIN_ALLOW_THREADS
    memset(y.buf, 0, (size_t)y.len);
    good = sham_run(&job, places, held, room);
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(Py_None);
    else
        PyErr_SetString(PyExc_ValueError, "an index beyond the columns, or a block of code words that does not end where it should");
done:
    free(code);
    free(places);
    free(held);
    PyBuffer_Release(&payload);
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&values);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&bytes);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&indices);
    PyBuffer_Release(&x);
    PyBuffer_Release(&y);
    return result;
}

static PyMethodDef functions[] = {
    {"ham", ham, METH_VARARGS,
     "ham(payload, lengths u8[k], values f32[k], rows i64[b + 1], bytes i64[b + 1], columns, batch, zero, x, y)\n\n"
     "y (rows, batch) = W x (columns, batch); rows, bytes: bounds of the blocks; zero: the symbol of 0.0, or -1."},
    {"sham", sham, METH_VARARGS,
     "sham(payload, lengths u8[k], values f32[k], rows i64[b + 1], bytes i64[b + 1], counts u32[rows], starts i64[b], indices, "
     "index_size, columns, batch, x, y)\n\ny = W x; counts: nonzeros a row; starts: the first nonzero of each block."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_huffman_product", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__huffman_product(void) { return PyModuleDef_Init(&definition); }
