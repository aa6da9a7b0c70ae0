/* Levels of a quantized matrix chosen by rate and distortion, the distortion being a quadratic form of all weights of a row.
 *
 * With D = W - step * levels, (rows, columns), the cost is  sum_r importance[r] * D[r] H D[r]^T + tradeoff * bits(levels).
 * `feedback` fixes the columns in order and lets the later ones take up the error (Frantar et al., arXiv 2208.11110, 2210.17323);
 * `sweep` is coordinate descent on the same cost; `price` counts what levels cost and gives the tables for the next pass.
 *
 * Prices: a level's magnitude is a row of yes/no decisions (zero? one? two? ...), each with a probability a context, then a sign of
 * one bit. The context of a place is what its neighbours hold (the last two of the row, the one above, the same place of the kernel
 * one channel before) and how dense its row and column are.
 */
#include "common.h"

#define MOST 15 /* magnitudes above are priced by an Exp-Golomb tail */
#define NEAR 4
#define DENSE 6
#define CONTEXTS (NEAR * DENSE)
#define TABLE (MOST + 1)

typedef struct {
    Py_ssize_t rows, columns, places;
    int32_t *levels;
    int32_t *in_row, *in_column; /* nonzero levels of each */
    int64_t nonzero;
} Grid;

NETPRESS_INLINE int32_t size_of(int32_t level) { return level < 0 ? -level : level; }
NETPRESS_INLINE int32_t capped(int32_t level) {
    int32_t size = size_of(level);
    return size > 2 ? 2 : size;
}

/* The context of place (r, c), whatever the place itself holds. */
NETPRESS_INLINE int context_of(const Grid *g, Py_ssize_t r, Py_ssize_t c) {
    const int32_t *row = g->levels + r * g->columns;
    int own = row[c] != 0;
    int near = 0;
    if (c >= 1) near += 2 * capped(row[c - 1]);
    if (c >= 2) near += capped(row[c - 2]);
    if (r >= 1) near += 2 * capped(row[c - g->columns]);
    if (g->places > 2 && c >= g->places) near += 2 * capped(row[c - g->places]);
    int side = near == 0 ? 0 : near <= 2 ? 1 : near <= 5 ? 2 : 3;
    /* rows and columns taken as independent: density = row * column / all, of the other places */
    double row_density = (g->in_row[r] - own + 0.4) / (g->columns - 1 + 0.8);
    double column_density = (g->in_column[c] - own + 0.4) / (g->rows - 1 + 0.8);
    double all = (g->nonzero - own + 0.4) / ((double)g->rows * g->columns - 1 + 0.8);
    double density = row_density * column_density / all;
    int dense = density < 0.01 ? 0 : density < 0.04 ? 1 : density < 0.12 ? 2 : density < 0.3 ? 3 : density < 0.6 ? 4 : 5;
    return dense * NEAR + side;
}

NETPRESS_INLINE float price_of(const float *table, int32_t level) {
    int32_t size = size_of(level);
    if (size <= MOST) return table[size];
    int bits = 0;
    for (uint32_t rest = (uint32_t)(size - MOST); rest > 1; rest >>= 1) bits++;
    return table[MOST] + 2.0f * (float)bits;
}

NETPRESS_INLINE void put(Grid *g, Py_ssize_t r, Py_ssize_t c, int32_t level) {
    int32_t *at = g->levels + r * g->columns + c;
    int change = (level != 0) - (*at != 0);
    g->in_row[r] += change;
    g->in_column[c] += change;
    g->nonzero += change;
    *at = level;
}

/* The level of least cost for a weight whose best value is `target` and where a squared error costs `curvature`. */
NETPRESS_INLINE int32_t choose(const float *table, double target, double curvature, double step, double tradeoff) {
    double scaled = target / step;
    if (scaled > 1e6) scaled = 1e6;
    if (scaled < -1e6) scaled = -1e6;
    int32_t nearest = (int32_t)lrint(scaled), best = 0;
    double unit = curvature * step * step;
    double least = unit * scaled * scaled + tradeoff * price_of(table, 0);
    int32_t toward = nearest > 0 ? -1 : 1;
    for (int32_t k = 0; k < 3; k++) { /* the nearest level and the two below it in magnitude; zero always */
        int32_t level = nearest + k * toward;
        if (nearest == 0 || (level > 0) != (nearest > 0) || level == 0) break;
        double cost = unit * (scaled - level) * (scaled - level) + tradeoff * price_of(table, level);
        if (cost < least) {
            least = cost;
            best = level;
        }
    }
    return best;
}

static bool count(Grid *g) {
    g->in_row = calloc((size_t)g->rows + (size_t)g->columns, sizeof(int32_t));
    if (!g->in_row) return false;
    g->in_column = g->in_row + g->rows;
    g->nonzero = 0;
    for (Py_ssize_t r = 0; r < g->rows; r++)
        for (Py_ssize_t c = 0; c < g->columns; c++)
            if (g->levels[r * g->columns + c]) {
                g->in_row[r]++;
                g->in_column[c]++;
                g->nonzero++;
            }
    return true;
}

NETPRESS_CLONES
static void add_scaled(float *restrict to, const float *restrict from, float by, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) to[i] += by * from[i];
}

static void feed(Grid *g, float *weights, const float *factor, const float *importance, const float *rates, const uint8_t *fixed,
                 double step, double tradeoff) {
    Py_ssize_t n = g->columns;
    for (Py_ssize_t r = 0; r < g->rows; r++) {
        float *w = weights + r * n;
        for (Py_ssize_t c = 0; c < n; c++) {
            double pivot = factor[c * n + c]; /* 1 / pivot^2: what an error here costs once the later columns have answered it */
            int32_t level = 0;
            if (!fixed[r * n + c])
                level = choose(rates + context_of(g, r, c) * TABLE, w[c], importance[r] / (pivot * pivot), step, tradeoff);
            put(g, r, c, level);
            float error = (float)((w[c] - level * step) / pivot);
            if (error != 0) add_scaled(w + c + 1, factor + c * n + c + 1, -error, n - c - 1);
        }
    }
}

/* errors = (W - step * levels) H, kept so; or G (W - step * levels) H where `coupling` G (rows, rows) is given. */
static Py_ssize_t descend(Grid *g, float *errors, const float *hessian, const float *importance, const float *coupling,
                          const float *rates, const uint8_t *fixed, double step, double tradeoff) {
    Py_ssize_t n = g->columns, changed = 0;
    for (Py_ssize_t r = 0; r < g->rows; r++) {
        for (Py_ssize_t c = 0; c < n; c++) {
            if (fixed[r * n + c]) continue;
            int32_t old = g->levels[r * n + c];
            double own = coupling ? coupling[r * g->rows + r] : importance[r];
            double curvature = hessian[c * n + c] * own, target = 0;
            if (curvature > 0) target = old * step + errors[r * n + c] / (coupling ? curvature : hessian[c * n + c]);
            int32_t level = choose(rates + context_of(g, r, c) * TABLE, target, curvature, step, tradeoff);
            if (level == old) continue;
            put(g, r, c, level);
            changed++;
            float move = (float)((level - old) * step);
            if (!coupling) {
                add_scaled(errors + r * n, hessian + c * n, -move, n);
            } else {
                for (Py_ssize_t s = 0; s < g->rows; s++) {
                    float by = coupling[s * g->rows + r];
                    if (by != 0) add_scaled(errors + s * n, hessian + c * n, -move * by, n);
                }
            }
        }
    }
    return changed;
}

static double estimate(const Grid *g, float *rates) {
    double yes[CONTEXTS][MOST], all[CONTEXTS][MOST], bits = 0;
    for (int k = 0; k < CONTEXTS; k++)
        for (int m = 0; m < MOST; m++) {
            yes[k][m] = 0.4;
            all[k][m] = 0.8;
        }
    for (Py_ssize_t r = 0; r < g->rows; r++)
        for (Py_ssize_t c = 0; c < g->columns; c++) {
            int k = context_of(g, r, c);
            int32_t size = size_of(g->levels[r * g->columns + c]);
            for (int m = 0; m < MOST && m <= size; m++) {
                bool more = size > m;
                bits -= log2((more ? yes[k][m] : all[k][m] - yes[k][m]) / all[k][m]);
                yes[k][m] += more;
                all[k][m] += 1;
            }
            if (size) bits += 1;
            if (size > MOST) {
                for (uint32_t rest = (uint32_t)(size - MOST); rest > 1; rest >>= 1) bits += 2;
            }
        }
    for (int k = 0; k < CONTEXTS; k++) {
        double so_far = 0;
        for (int m = 0; m < MOST; m++) {
            double p = yes[k][m] / all[k][m];
            rates[k * TABLE + m] = (float)(so_far - log2(1 - p) + (m > 0));
            so_far -= log2(p);
        }
        rates[k * TABLE + MOST] = (float)(so_far + 1);
    }
    return bits;
}

static bool fits(const Py_buffer *buffer, Py_ssize_t itemsize, Py_ssize_t items, const char *name) {
    if (buffer->len == itemsize * items) return true;
    PyErr_Format(PyExc_ValueError, "%s: %zd bytes where %zd are needed", name, buffer->len, itemsize * items);
    return false;
}

static bool shaped(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t places) {
    if (rows >= 1 && columns >= 1 && places >= 1 && rows <= (1 << 24) && columns <= (1 << 24)) return true;
    PyErr_SetString(PyExc_ValueError, "rows, columns and places: 1 to 2**24");
    return false;
}

static PyObject *feedback(PyObject *module, PyObject *args) {
    Py_buffer w, f, i, t, z, l;
    Grid g = {0};
    double step, tradeoff;
    (void)module;
    if (!PyArg_ParseTuple(args, "w*y*y*y*y*w*nnndd", &w, &f, &i, &t, &z, &l, &g.rows, &g.columns, &g.places, &step, &tradeoff))
        return NULL;
    PyObject *result = NULL;
    Py_ssize_t n = g.columns, all = g.rows * g.columns;
    if (!shaped(g.rows, g.columns, g.places) || !fits(&w, 4, all, "weights") || !fits(&f, 4, n * n, "factor") ||
        !fits(&i, 4, g.rows, "importance") || !fits(&t, 4, CONTEXTS * TABLE, "rates") || !fits(&z, 1, all, "fixed") ||
        !fits(&l, 4, all, "levels"))
        goto done;
    if (!(step > 0) || !(tradeoff >= 0)) {
        PyErr_SetString(PyExc_ValueError, "step: above 0; tradeoff: 0 or more");
        goto done;
    }
    g.levels = l.buf;
    bool counted = false;
    Py_BEGIN_ALLOW_THREADS
    counted = count(&g);
    if (counted) feed(&g, w.buf, f.buf, i.buf, t.buf, z.buf, step, tradeoff);
    Py_END_ALLOW_THREADS
    if (!counted) PyErr_NoMemory();
    else result = Py_NewRef(Py_None);
done:
    free(g.in_row);
    PyBuffer_Release(&w);
    PyBuffer_Release(&f);
    PyBuffer_Release(&i);
    PyBuffer_Release(&t);
    PyBuffer_Release(&z);
    PyBuffer_Release(&l);
    return result;
}

static PyObject *sweep(PyObject *module, PyObject *args) {
    Py_buffer e, h, i, t, z, l;
    Grid g = {0};
    double step, tradeoff;
    int coupled;
    (void)module;
    if (!PyArg_ParseTuple(args, "w*y*y*y*y*w*nnnddp", &e, &h, &i, &t, &z, &l, &g.rows, &g.columns, &g.places, &step, &tradeoff,
                          &coupled))
        return NULL;
    PyObject *result = NULL;
    Py_ssize_t n = g.columns, all = g.rows * g.columns, changed = -1;
    if (!shaped(g.rows, g.columns, g.places) || !fits(&e, 4, all, "errors") || !fits(&h, 4, n * n, "hessian") ||
        !fits(&i, 4, coupled ? g.rows * g.rows : g.rows, "importance") || !fits(&t, 4, CONTEXTS * TABLE, "rates") ||
        !fits(&z, 1, all, "fixed") || !fits(&l, 4, all, "levels"))
        goto done;
    if (!(step > 0) || !(tradeoff >= 0)) {
        PyErr_SetString(PyExc_ValueError, "step: above 0; tradeoff: 0 or more");
        goto done;
    }
    g.levels = l.buf;
    Py_BEGIN_ALLOW_THREADS
    if (count(&g)) changed = descend(&g, e.buf, h.buf, i.buf, coupled ? i.buf : NULL, t.buf, z.buf, step, tradeoff);
    Py_END_ALLOW_THREADS
    result = changed < 0 ? PyErr_NoMemory() : PyLong_FromSsize_t(changed);
done:
    free(g.in_row);
    PyBuffer_Release(&e);
    PyBuffer_Release(&h);
    PyBuffer_Release(&i);
    PyBuffer_Release(&t);
    PyBuffer_Release(&z);
    PyBuffer_Release(&l);
    return result;
}

static PyObject *price(PyObject *module, PyObject *args) {
    Py_buffer l, t;
    Grid g = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "w*nnnw*", &l, &g.rows, &g.columns, &g.places, &t)) return NULL;
    PyObject *result = NULL;
    double bits = -1;
    if (!shaped(g.rows, g.columns, g.places) || !fits(&l, 4, g.rows * g.columns, "levels") ||
        !fits(&t, 4, CONTEXTS * TABLE, "rates"))
        goto done;
    g.levels = l.buf;
    Py_BEGIN_ALLOW_THREADS
    if (count(&g)) bits = estimate(&g, t.buf);
    Py_END_ALLOW_THREADS
    result = bits < 0 ? PyErr_NoMemory() : PyFloat_FromDouble(bits);
done:
    free(g.in_row);
    PyBuffer_Release(&l);
    PyBuffer_Release(&t);
    return result;
}

static PyObject *contexts(PyObject *module, PyObject *args) {
    Py_buffer l, k;
    Grid g = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "w*nnnw*", &l, &g.rows, &g.columns, &g.places, &k)) return NULL;
    PyObject *result = NULL;
    Py_ssize_t all = g.rows * g.columns;
    if (!shaped(g.rows, g.columns, g.places) || !fits(&l, 4, all, "levels") || !fits(&k, 1, all, "contexts")) goto done;
    g.levels = l.buf;
    bool counted = false;
    Py_BEGIN_ALLOW_THREADS
    counted = count(&g);
    if (counted)
        for (Py_ssize_t r = 0; r < g.rows; r++)
            for (Py_ssize_t c = 0; c < g.columns; c++) ((uint8_t *)k.buf)[r * g.columns + c] = (uint8_t)context_of(&g, r, c);
    Py_END_ALLOW_THREADS
    if (!counted) PyErr_NoMemory();
    else result = Py_NewRef(Py_None);
done:
    free(g.in_row);
    PyBuffer_Release(&l);
    PyBuffer_Release(&k);
    return result;
}

static PyMethodDef functions[] = {
    {"feedback", feedback, METH_VARARGS,
     "feedback(weights f32[rc], factor f32[cc], importance f32[r], rates f32[24*16], fixed u8[rc], levels i32[rc], rows, columns,\n"
     "         places, step, tradeoff)\n\n"
     "factor: upper Cholesky factor of the inverse of H. weights are used up; levels, as they come, tell the contexts."},
    {"sweep", sweep, METH_VARARGS,
     "sweep(errors f32[rc], hessian f32[cc], importance f32[r] or f32[rr], rates, fixed u8[rc], levels i32[rc], rows, columns,\n"
     "      places, step, tradeoff, coupled) -> levels changed\n\n"
     "errors: (W - step * levels) H, times G from the left where coupled; kept so."},
    {"price", price, METH_VARARGS, "price(levels i32[rc], rows, columns, places, rates f32[24*16]) -> bits; fills rates"},
    {"contexts", contexts, METH_VARARGS, "contexts(levels i32[rc], rows, columns, places, contexts u8[rc]): the row of rates of each place"},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_compensate", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__compensate(void) { return PyModuleDef_Init(&definition); }
