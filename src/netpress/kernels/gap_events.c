/* A matrix of symbols as events: how many zeros, then which value. */
#include "common.h"

/* Four tables, so that runs of one symbol do not wait for each other's addition. */
static bool count_symbols(const uint16_t *symbols, size_t count, size_t most, int64_t *counts) {
    uint32_t *tables = calloc(4 * 65536, sizeof(uint32_t));
    if (!tables) return false;
    for (size_t begin = 0; begin < count; begin += (size_t)1 << 31) { /* so that 32 bits do */
        size_t end = count - begin > (size_t)1 << 31 ? begin + ((size_t)1 << 31) : count, i = begin;
        for (; i + 4 <= end; i += 4)
            for (int j = 0; j < 4; j++) tables[j * 65536 + symbols[i + j]]++;
        for (; i < end; i++) tables[symbols[i]]++;
        for (size_t s = 0; s < 65536; s++) {
            int64_t sum = 0;
            for (int j = 0; j < 4; j++) sum += tables[j * 65536 + s], tables[j * 65536 + s] = 0;
            if (s < most) counts[s] += sum;
        }
    }
    free(tables);
    return true;
}

static PyObject *histogram(PyObject *module, PyObject *args) {
    Py_buffer symbols, counts;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*", &symbols, &counts)) return NULL;
    bool fine = false;
    Py_ssize_t count = netpress_items(&symbols, 2, "symbols"), most = netpress_items(&counts, 8, "counts");
    if (count >= 0 && most >= 0) {
        memset(counts.buf, 0, counts.len);
        Py_BEGIN_ALLOW_THREADS
        fine = count_symbols(symbols.buf, count, most, counts.buf);
        Py_END_ALLOW_THREADS
        if (!fine) PyErr_NoMemory();
    }
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&counts);
    if (!fine) return NULL;
    Py_RETURN_NONE;
}

/* Places are written always and kept when the symbol is no zero: no branch that could be foretold wrongly. */
NETPRESS_CLONES static size_t find_events(const uint16_t *symbols, size_t count, uint32_t zero, uint32_t *places, uint16_t *values) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        places[found] = (uint32_t)i;
        values[found] = symbols[i];
        found += symbols[i] != zero;
    }
    return found;
}

static PyObject *events(PyObject *module, PyObject *args) {
    Py_buffer symbols, counts, gaps, values;
    Py_ssize_t positions;
    long zero;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*lnw*w*w*", &symbols, &zero, &positions, &counts, &gaps, &values)) return NULL;
    Py_ssize_t count = netpress_items(&symbols, 2, "symbols"), blocks = netpress_items(&counts, 8, "counts");
    Py_ssize_t room = netpress_items(&gaps, 4, "gaps"), value_room = netpress_items(&values, 2, "values"), total = -1;
    if (count < 0 || blocks < 0 || room < 0 || value_room < 0) goto done;
    if (positions < 1 || positions > INT32_MAX || blocks != count / positions + (count % positions != 0) || room != value_room) {
        PyErr_SetString(PyExc_ValueError, "events: positions in 1 to 2^31 - 1, a count for each block, gaps and values alike");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    total = 0;
    for (Py_ssize_t b = 0; b < blocks; b++) {
        const uint16_t *from = (const uint16_t *)symbols.buf + b * positions;
        Py_ssize_t length = b + 1 < blocks ? positions : count - b * positions, nonzeros = 0;
        for (Py_ssize_t i = 0; i < length; i++) nonzeros += from[i] != zero;
        if (nonzeros + 1 > room - total) {
            total = -1;
            break;
        }
        uint32_t *at = (uint32_t *)gaps.buf + total;
        size_t found = find_events(from, length, (uint32_t)zero, at, (uint16_t *)values.buf + total);
        for (size_t i = found; i-- > 1;) at[i] -= at[i - 1] + 1;
        ((int64_t *)counts.buf)[b] = (int64_t)found;
        total += (Py_ssize_t)found;
    }
    Py_END_ALLOW_THREADS
    if (total < 0) PyErr_SetString(PyExc_ValueError, "gaps: room for all events and one more");
done:
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&gaps);
    PyBuffer_Release(&values);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(total);
}

static PyMethodDef functions[] = {
    {"histogram", histogram, METH_VARARGS, "histogram(symbols u16[n], counts i64[k]): how often each symbol below k occurs"},
    {"events", events, METH_VARARGS,
     "events(symbols u16[n], zero, positions, counts i64[blocks], gaps u32[m], values u16[m]) -> events\n\n"
     "For each block of `positions` symbols and each symbol but `zero` (-1: none is): how many zeros stand before it in its\n"
     "block, and the symbol. counts: the events of each block. m must exceed the number of events."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_gap_events", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__gap_events(void) { return PyModuleDef_Init(&definition); }
