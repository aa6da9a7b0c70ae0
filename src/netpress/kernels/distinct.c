/* Distinct 32-bit patterns of a long array, found with one pass over an open hash table. */
#include "common.h"

#define MOST_BITS 18 /* table slots: four for each of the 65,536 patterns that are kept at most */

NETPRESS_INLINE uint32_t slot_of(uint32_t pattern) { return (pattern * 2654435769u) >> (32 - MOST_BITS); }

/* Gives the number of distinct patterns, in order of first sight, or -1 when there are more than `most`. */
static Py_ssize_t collect(const uint32_t *bits, Py_ssize_t count, Py_ssize_t most, uint32_t *values, uint16_t *numbers,
                          uint32_t *keys, int32_t *slots) {
    Py_ssize_t found = 0;
    uint32_t last = 0, last_number = 0;
    bool any = false;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint32_t pattern = bits[i];
        if (any && pattern == last) { /* zeros come in runs */
            numbers[i] = (uint16_t)last_number;
            continue;
        }
        uint32_t slot = slot_of(pattern);
        while (slots[slot] >= 0 && keys[slot] != pattern) slot = (slot + 1) & ((1u << MOST_BITS) - 1);
        if (slots[slot] < 0) {
            if (found == most) return -1;
            slots[slot] = (int32_t)found;
            keys[slot] = pattern;
            values[found++] = pattern;
        }
        last = pattern;
        last_number = (uint32_t)slots[slot];
        any = true;
        numbers[i] = (uint16_t)last_number;
    }
    return found;
}

static PyObject *distinct(PyObject *module, PyObject *args) {
    Py_buffer bits, values, numbers;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*w*", &bits, &values, &numbers)) return NULL;
    PyObject *result = NULL;
    uint32_t *keys = NULL;
    int32_t *slots = NULL;
    Py_ssize_t count = netpress_items(&bits, 4, "bits"), most = netpress_items(&values, 4, "values");
    Py_ssize_t room = netpress_items(&numbers, 2, "numbers");
    if (count < 0 || most < 0 || room < 0) goto done;
    if (room != count || most < 1 || most > 65536) {
        PyErr_SetString(PyExc_ValueError, "numbers: one for each pattern; values: room for 1 to 65536");
        goto done;
    }
    keys = malloc(sizeof(uint32_t) << MOST_BITS);
    slots = malloc(sizeof(int32_t) << MOST_BITS);
    if (!keys || !slots) {
        PyErr_NoMemory();
        goto done;
    }
    Py_ssize_t found;
    Py_BEGIN_ALLOW_THREADS
    memset(slots, 0xff, sizeof(int32_t) << MOST_BITS);
    found = collect(bits.buf, count, most, values.buf, numbers.buf, keys, slots);
    Py_END_ALLOW_THREADS
    result = PyLong_FromSsize_t(found);
done:
    free(keys);
    free(slots);
    PyBuffer_Release(&bits);
    PyBuffer_Release(&values);
    PyBuffer_Release(&numbers);
    return result;
}

static PyMethodDef functions[] = {
    {"distinct", distinct, METH_VARARGS,
     "distinct(bits u32[n], values u32[k], numbers u16[n]) -> how many, or -1 when more than k\n\n"
     "values: the patterns in order of first sight; numbers: for each place the index of its pattern."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_distinct", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__distinct(void) { return PyModuleDef_Init(&definition); }
