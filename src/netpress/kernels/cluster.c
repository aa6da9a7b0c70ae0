/* Clusters on a line: sorted points with weights, cut into intervals.
 *
 * A cluster's squared error comes from running sums of weight, weight * value and weight * value^2. The error of a narrow cluster
 * is a tiny difference of large sums: a cluster that is 1/65536 of the range wide would keep no correct digit of double sums. So the
 * sums are pairs of doubles (high and low part), which leaves nine correct digits there.
 */
#include "common.h"

typedef struct {
    double weight, first, first_low, second, second_low;
} Sums; /* over all points before this one */

NETPRESS_INLINE void add(double *high, double *low, double x) { /* Knuth's two-sum: what rounding takes off goes to `low` */
    double sum = *high + x, part = sum - *high;
    *low += (*high - (sum - part)) + (x - part);
    *high = sum;
}

NETPRESS_INLINE double weight_of(const Sums *s, Py_ssize_t i, Py_ssize_t j) { return s[j].weight - s[i].weight; }

NETPRESS_INLINE double first_of(const Sums *s, Py_ssize_t i, Py_ssize_t j) {
    return (s[j].first - s[i].first) + (s[j].first_low - s[i].first_low);
}

/* The squared error of points i..j-1 around their mean. */
NETPRESS_INLINE double error_of(const Sums *s, Py_ssize_t i, Py_ssize_t j) {
    double first = first_of(s, i, j);
    double second = (s[j].second - s[i].second) + (s[j].second_low - s[i].second_low);
    double error = second - first * (first / weight_of(s, i, j));
    return error > 0 ? error : 0;
}

/* The partition with the least (error + penalty * clusters), by the queue of Galil and Giancarlo (1989): the error has the concave
 * Monge property, so a later start, once it is better than an earlier one, stays so. `from[q]` is the first end for which
 * candidate `queue[q]` is the best of the queue. */
static void shortest(const Sums *s, int32_t n, double penalty, double *best, int32_t *before, int32_t *queue, int32_t *from) {
    int32_t head = 0, tail = 0;
    best[0] = 0;
    queue[0] = 0;
    from[0] = 1;
    for (int32_t j = 1;; j++) {
        while (head < tail && from[head + 1] <= j) head++;
        best[j] = best[queue[head]] + error_of(s, queue[head], j) + penalty;
        before[j] = queue[head];
        if (j == n) return;
        int32_t place = j + 1;
        while (tail >= head) {
            place = from[tail] > j + 1 ? from[tail] : j + 1;
            if (best[j] + error_of(s, j, place) >= best[queue[tail]] + error_of(s, queue[tail], place)) break;
            tail--;
        }
        if (tail < head) {
            tail = head;
            queue[tail] = j;
            from[tail] = j + 1;
            continue;
        }
        /* Not better at `place`: look for the first end where it is, in growing strides and then by halving. */
        int32_t old = queue[tail], low = place, stride = 1, high;
        for (;;) {
            high = stride < n - low ? low + stride : n;
            if (best[j] + error_of(s, j, high) < best[old] + error_of(s, old, high)) break;
            if (high == n) goto never;
            low = high;
            stride *= 2;
        }
        while (high - low > 1) {
            int32_t middle = low + (high - low) / 2;
            if (best[j] + error_of(s, j, middle) < best[old] + error_of(s, old, middle))
                high = middle;
            else
                low = middle;
        }
        tail++;
        queue[tail] = j;
        from[tail] = high;
    never:;
    }
}

/* The first index from `guess` onwards or backwards whose value is not below x; strides grow, since boundaries move little. */
NETPRESS_INLINE int32_t not_below(const double *values, int32_t n, int32_t guess, double x) {
    int32_t low, high, stride = 1; /* values[low - 1] < x (or low == 0) and values[high] >= x (or high == n) */
    if (guess < n && values[guess] < x) {
        low = guess + 1;
        while ((high = stride < n - low ? low + stride : n) < n && values[high] < x) {
            low = high + 1;
            stride *= 2;
        }
    } else {
        high = guess;
        while ((low = stride < high ? high - stride : 0) > 0 && values[low - 1] >= x) {
            high = low - 1;
            stride *= 2;
        }
    }
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (values[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* From where on cluster b (centre to the right of a's) is nearer, when p costs bias[p] more. */
NETPRESS_INLINE double crossing(const double *centre, const double *bias, int32_t a, int32_t b) {
    double apart = centre[b] - centre[a];
    if (!(apart > 0)) return bias[b] < bias[a] ? -HUGE_VAL : HUGE_VAL;
    return (centre[a] + centre[b]) / 2 + (bias[b] - bias[a]) / (2 * apart);
}

/* Lloyd's iterations of min (value - centre)^2 - penalty * ln(share of the cluster) (Chou, Lookabaugh and Gray 1989). In one
 * dimension the cells are intervals: the lower envelope of parabolas of one curvature, hence of lines. Clusters left empty go.
 * Returns their number; starts[0..number] and the objective of that partition are written. */
static int32_t lloyd(const double *values, const Sums *s, int32_t n, int32_t *starts, int32_t k, double penalty, int32_t rounds,
                     double tolerance, double *centre, double *bias, int32_t *hull, double *objective) {
    double total = s[n].weight, last = HUGE_VAL;
    for (int32_t round = 0;; round++) {
        double sum = 0;
        for (int32_t c = 0; c < k; c++) {
            double weight = weight_of(s, starts[c], starts[c + 1]);
            centre[c] = first_of(s, starts[c], starts[c + 1]) / weight;
            bias[c] = penalty > 0 ? -penalty * log(weight / total) : 0;
            sum += error_of(s, starts[c], starts[c + 1]) + weight * bias[c];
        }
        *objective = sum;
        if (round == rounds || last - sum < tolerance * last) return k;
        last = sum;
        int32_t size = 0;
        for (int32_t c = 0; c < k; c++) {
            while (size > 0 && (size > 1 ? crossing(centre, bias, hull[size - 2], hull[size - 1]) >=
                                               crossing(centre, bias, hull[size - 1], c)
                                         : crossing(centre, bias, hull[0], c) <= values[0]))
                size--;
            hull[size++] = c;
        }
        int32_t kept = 0, place = 0;
        bool moved = false;
        for (int32_t h = 0; h < size; h++) {
            int32_t end = h + 1 < size ? not_below(values, n, starts[hull[h + 1]], crossing(centre, bias, hull[h], hull[h + 1])) : n;
            if (end <= place) continue;
            moved |= starts[kept] != place; /* the old starts up to hull[h] >= kept are used up */
            starts[kept++] = place;
            place = end;
        }
        starts[kept] = n;
        moved |= kept != k;
        k = kept;
        if (!moved) return k;
    }
}

/* How many cells rint(value / delta), the cell 0 apart, hold a value; stops once there are more than `most`. */
static Py_ssize_t occupied(const double *values, Py_ssize_t n, double delta, Py_ssize_t most) {
    Py_ssize_t cells = 0, i = 0;
    while (i < n && cells <= most) {
        double cell = rint(values[i] / delta);
        Py_ssize_t low = i, stride = 1, high;
        while ((high = stride < n - low ? low + stride : n) < n && rint(values[high] / delta) == cell) {
            low = high;
            stride *= 2;
        }
        while (high - low > 1) {
            Py_ssize_t middle = low + (high - low) / 2;
            if (rint(values[middle] / delta) == cell)
                low = middle;
            else
                high = middle;
        }
        i = high;
        cells += cell != 0;
    }
    return cells;
}

/* The most values of which any two lie more than `gap` apart; stops once there are more than `most`. */
static Py_ssize_t spread(const double *values, Py_ssize_t n, double gap, Py_ssize_t most) {
    Py_ssize_t found = 0, i = 0;
    while (i < n && found <= most) {
        double edge = values[i];
        Py_ssize_t low = i, stride = 1, high;
        while ((high = stride < n - low ? low + stride : n) < n && values[high] - edge <= gap) {
            low = high;
            stride *= 2;
        }
        while (high - low > 1) {
            Py_ssize_t middle = low + (high - low) / 2;
            if (values[middle] - edge <= gap)
                low = middle;
            else
                high = middle;
        }
        i = high;
        found++;
    }
    return found;
}

/* The number of points that `sums` stands for; -1 with ValueError set when it is none. */
static Py_ssize_t points_of(const Py_buffer *sums) {
    Py_ssize_t rows = netpress_items(sums, sizeof(Sums), "sums");
    if (rows < 0) return -1;
    if (rows < 2 || rows > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "sums: one row more than there are points, of which there must be 1 to 2^31 - 2");
        return -1;
    }
    return rows - 1;
}

static PyObject *py_sums(PyObject *module, PyObject *args) {
    Py_buffer values, weights, sums;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*w*", &values, &weights, &sums)) return NULL;
    PyObject *result = NULL;
    Py_ssize_t n = points_of(&sums);
    if (n < 0) goto done;
    if (values.len != n * 8 || weights.len != n * 8) {
        PyErr_SetString(PyExc_ValueError, "values, weights: one double a point");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    const double *v = values.buf, *w = weights.buf;
    Sums *s = sums.buf, running = {0, 0, 0, 0, 0};
    for (Py_ssize_t i = 0; i < n; i++) {
        s[i] = running;
        running.weight += w[i];
        add(&running.first, &running.first_low, w[i] * v[i]);
        add(&running.second, &running.second_low, w[i] * v[i] * v[i]);
    }
    s[n] = running;
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&values);
    PyBuffer_Release(&weights);
    PyBuffer_Release(&sums);
    return result;
}

static PyObject *py_partition(PyObject *module, PyObject *args) {
    Py_buffer sums, starts;
    double penalty;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*dw*", &sums, &penalty, &starts)) return NULL;
    PyObject *result = NULL;
    double *best = NULL;
    int32_t *work = NULL;
    Py_ssize_t n = points_of(&sums);
    if (n < 0) goto done;
    if (starts.len != (n + 1) * 4 || !(penalty >= 0)) {
        PyErr_SetString(PyExc_ValueError, "starts: room for one int32 more than there are points; penalty: 0 or more");
        goto done;
    }
    best = malloc(sizeof(double) * (size_t)(n + 1));
    work = malloc(sizeof(int32_t) * 3 * (size_t)(n + 1));
    if (!best || !work) {
        PyErr_NoMemory();
        goto done;
    }
    Py_ssize_t count = 0;
    double value = 0;
    Py_BEGIN_ALLOW_THREADS
    int32_t *before = work, *out = starts.buf;
    shortest(sums.buf, (int32_t)n, penalty, best, before, work + n + 1, work + 2 * (n + 1));
    value = best[n];
    for (int32_t j = (int32_t)n; j > 0; j = before[j]) count++;
    out[count] = (int32_t)n;
    for (int32_t j = before[n], c = (int32_t)count - 1; c >= 0; j = before[j], c--) out[c] = j;
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("nd", count, value);
done:
    free(best);
    free(work);
    PyBuffer_Release(&sums);
    PyBuffer_Release(&starts);
    return result;
}

/* starts[0] = 0 < starts[1] < ... < starts[k] = n */
static bool is_partition(const int32_t *starts, Py_ssize_t k, Py_ssize_t n) {
    if (k < 1 || starts[0] != 0 || starts[k] != n) return false;
    for (Py_ssize_t c = 0; c < k; c++)
        if (starts[c] >= starts[c + 1]) return false;
    return true;
}

static PyObject *py_lloyd(PyObject *module, PyObject *args) {
    Py_buffer values, sums, starts;
    double penalty, tolerance;
    int rounds;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*w*did", &values, &sums, &starts, &penalty, &rounds, &tolerance)) return NULL;
    PyObject *result = NULL;
    double *room = NULL;
    int32_t *hull = NULL;
    Py_ssize_t n = points_of(&sums), k = netpress_items(&starts, 4, "starts") - 1;
    if (n < 0 || k < -1) goto done;
    if (values.len != n * 8 || !(penalty >= 0 && penalty < HUGE_VAL) || rounds < 0 || !is_partition(starts.buf, k, n)) {
        PyErr_SetString(PyExc_ValueError, "values: one double a point; starts: ascending from 0 to the number of points; "
                                          "penalty: 0 or more, finite; rounds: 0 or more");
        goto done;
    }
    room = malloc(sizeof(double) * 2 * (size_t)k);
    hull = malloc(sizeof(int32_t) * (size_t)k);
    if (!room || !hull) {
        PyErr_NoMemory();
        goto done;
    }
    int32_t kept;
    double objective;
    Py_BEGIN_ALLOW_THREADS
    kept = lloyd(values.buf, sums.buf, (int32_t)n, starts.buf, (int32_t)k, penalty, rounds, tolerance, room, room + k, hull,
                 &objective);
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("id", (int)kept, objective);
done:
    free(room);
    free(hull);
    PyBuffer_Release(&values);
    PyBuffer_Release(&sums);
    PyBuffer_Release(&starts);
    return result;
}

static PyObject *counted(PyObject *args, Py_ssize_t (*count)(const double *, Py_ssize_t, double, Py_ssize_t)) {
    Py_buffer values;
    double width;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "y*dn", &values, &width, &most)) return NULL;
    PyObject *result = NULL;
    Py_ssize_t n = netpress_items(&values, 8, "values");
    if (n >= 0 && (!(width > 0 && width < HUGE_VAL) || most < 0)) {
        PyErr_SetString(PyExc_ValueError, "the width must be above 0 and finite, most 0 or more");
    } else if (n >= 0) {
        Py_ssize_t found;
        Py_BEGIN_ALLOW_THREADS
        found = count(values.buf, n, width, most);
        Py_END_ALLOW_THREADS
        result = PyLong_FromSsize_t(found);
    }
    PyBuffer_Release(&values);
    return result;
}

static PyObject *py_occupied(PyObject *module, PyObject *args) {
    (void)module;
    return counted(args, occupied);
}

static PyObject *py_spread(PyObject *module, PyObject *args) {
    (void)module;
    return counted(args, spread);
}

static PyMethodDef functions[] = {
    {"sums", py_sums, METH_VARARGS,
     "sums(values f64[n] ascending, weights f64[n], sums f64[5 (n + 1)])\n\nRunning sums, for the functions below."},
    {"partition", py_partition, METH_VARARGS,
     "partition(sums, penalty, starts i32[n + 1]) -> (clusters, objective)\n\n"
     "The intervals with the least squared error + penalty * clusters; starts[0..clusters] ends with n."},
    {"lloyd", py_lloyd, METH_VARARGS,
     "lloyd(values, sums, starts i32[k + 1], penalty, rounds, tolerance) -> (clusters, objective)\n\n"
     "Iterations of squared error - penalty * ln(share), until one lowers the objective by less than its share `tolerance`."},
    {"occupied", py_occupied, METH_VARARGS,
     "occupied(values f64[n] ascending, delta, most) -> cells rint(value / delta) other than 0 with a value; most + 1 if more"},
    {"spread", py_spread, METH_VARARGS,
     "spread(values f64[n] ascending, gap, most) -> the most values pairwise more than gap apart; most + 1 if more"},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_cluster", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__cluster(void) { return PyModuleDef_Init(&definition); }
