/* Canonical Huffman coding of 16-bit symbols: code lengths, their packed form, streams in blocks. */
#include "huffman.h"

/* ---- lengths ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t weight;
    uint32_t symbol;
} leaf;

static int by_weight(const void *a, const void *b) {
    const leaf *p = a, *q = b;
    if (p->weight != q->weight) return p->weight < q->weight ? -1 : 1;
    return p->symbol < q->symbol ? -1 : p->symbol > q->symbol;
}

/* Huffman's code (1952) by two queues; gives the longest length. depth and weights: 2 * count items of room. */
static uint32_t huffman_depths(const leaf *leaves, size_t count, uint64_t *weights, uint32_t *parents, uint32_t *depths) {
    size_t leaf_at = 0, node_at = count, end = count;
    for (size_t i = 0; i < count; i++) weights[i] = leaves[i].weight;
    while (end < 2 * count - 1) {
        uint64_t sum = 0;
        for (int pick = 0; pick < 2; pick++) {
            bool take_leaf = leaf_at < count && (node_at >= end || weights[leaf_at] <= weights[node_at]);
            size_t taken = take_leaf ? leaf_at++ : node_at++;
            sum += weights[taken];
            parents[taken] = (uint32_t)end;
        }
        weights[end++] = sum;
    }
    uint32_t longest = 0;
    depths[end - 1] = 0;
    for (size_t i = end - 1; i-- > 0;) {
        depths[i] = depths[parents[i]] + 1;
        if (depths[i] > longest) longest = depths[i];
    }
    return longest;
}

/* The best code with words of at most `limit` bits: package-merge (Larmore and Hirschberg 1990). At each level the leaves are
 * merged with pairs of the level below; which item of a level is a leaf is all that must be kept. */
static void package_merge(const leaf *leaves, size_t count, unsigned limit, uint64_t *now, uint64_t *below, uint8_t *is_leaf,
                          uint32_t *depths) {
    size_t room = 2 * count, items = 0;
    for (unsigned level = 0; level < limit; level++) {
        uint8_t *marks = is_leaf + level * room;
        size_t pairs = items / 2, l = 0, p = 0, made = 0;
        uint64_t *swap = below;
        below = now;
        now = swap;
        while (l < count || p < pairs) {
            uint64_t package = p < pairs ? below[2 * p] + below[2 * p + 1] : 0;
            bool take_leaf = l < count && (p >= pairs || leaves[l].weight <= package);
            marks[made] = take_leaf;
            now[made++] = take_leaf ? leaves[l].weight : package;
            if (take_leaf)
                l++;
            else
                p++;
        }
        items = made;
    }
    memset(depths, 0, count * sizeof *depths);
    size_t take = 2 * count - 2;
    for (unsigned level = limit; level-- > 0;) {
        const uint8_t *marks = is_leaf + level * room;
        size_t taken = 0;
        for (size_t i = 0; i < take; i++)
            if (marks[i]) depths[taken++]++;
        take = 2 * (take - taken);
    }
}

static PyObject *lengths_of(PyObject *module, PyObject *args) {
    Py_buffer frequencies, lengths;
    unsigned limit;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*I", &frequencies, &lengths, &limit)) return NULL;
    PyObject *result = NULL;
    leaf *leaves = NULL;
    uint64_t *weights = NULL;
    uint32_t *numbers = NULL;
    uint8_t *is_leaf = NULL;
    Py_ssize_t symbols = netpress_items(&frequencies, 8, "frequencies");
    if (symbols < 0) goto done;
    if (symbols < 1 || symbols > HUFFMAN_SYMBOLS || lengths.len != symbols || limit < 1 || limit > HUFFMAN_LONGEST) {
        PyErr_SetString(PyExc_ValueError, "1 to 65536 frequencies, as many lengths, a limit of 1 to 24");
        goto done;
    }
    size_t count = 0;
    uint64_t sum = 0;
    const uint64_t *frequency = frequencies.buf;
    uint8_t *out = lengths.buf;
    for (Py_ssize_t s = 0; s < symbols; s++) {
        count += frequency[s] != 0;
        if (frequency[s] > UINT64_MAX / 64 - sum) {
            PyErr_SetString(PyExc_ValueError, "frequencies: their sum overflows");
            goto done;
        }
        sum += frequency[s];
    }
    if (!count || count > (size_t)1 << limit) {
        PyErr_SetString(PyExc_ValueError, "between one symbol and 2^limit symbols must occur");
        goto done;
    }
    leaves = malloc(count * sizeof *leaves);
    weights = malloc(4 * count * sizeof *weights);
    numbers = malloc(4 * count * sizeof *numbers);
    is_leaf = malloc(2 * count * limit);
    if (!leaves || !weights || !numbers || !is_leaf) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    size_t at = 0;
    for (Py_ssize_t s = 0; s < symbols; s++)
        if (frequency[s]) leaves[at++] = (leaf){frequency[s], (uint32_t)s};
    qsort(leaves, count, sizeof *leaves, by_weight);
    uint32_t *depths = numbers + 2 * count;
    if (count == 1)
        depths[0] = 1;
    else if (huffman_depths(leaves, count, weights, numbers, depths) > limit)
        package_merge(leaves, count, limit, weights, weights + 2 * count, is_leaf, depths);
    memset(out, 0, (size_t)symbols);
    for (size_t i = 0; i < count; i++) out[leaves[i].symbol] = (uint8_t)depths[i];
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    free(leaves);
    free(weights);
    free(numbers);
    free(is_leaf);
    PyBuffer_Release(&frequencies);
    PyBuffer_Release(&lengths);
    return result;
}

/* ---- the packed form of lengths --------------------------------------------------------------------------------------- */

/* A bit that says whether some symbol is absent; then, symbol by symbol, a bit for presence (only where that first bit is set)
 * and the difference from the length before, zigzag, in the Exp-Golomb code of order 0: neighbours in a sorted palette occur
 * about equally often. Before the first, the length is 1. */
typedef struct {
    uint8_t *bytes;
    const uint8_t *from;
    size_t bits, room; /* room: in bits */
    bool failed;
} bit_string;

static void put(bit_string *to, uint32_t value, unsigned width) {
    while (width--) {
        if (to->bits >= to->room) {
            to->failed = true;
            return;
        }
        if (value >> width & 1) to->bytes[to->bits >> 3] |= (uint8_t)(128 >> (to->bits & 7));
        to->bits++;
    }
}

static uint32_t take(bit_string *from, unsigned width) {
    uint32_t value = 0;
    while (width--) {
        if (from->bits >= from->room) {
            from->failed = true;
            return 0;
        }
        value = value << 1 | (from->from[from->bits >> 3] >> (7 - (from->bits & 7)) & 1);
        from->bits++;
    }
    return value;
}

static unsigned width_of(uint32_t value) {
    unsigned width = 0;
    for (; value; value >>= 1) width++;
    return width;
}

static PyObject *pack_lengths(PyObject *module, PyObject *args) {
    Py_buffer lengths;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*", &lengths)) return NULL;
    PyObject *result = NULL;
    uint32_t counts[HUFFMAN_LONGEST + 1], used;
    const uint8_t *length = lengths.buf;
    size_t symbols = (size_t)lengths.len;
    uint8_t *bytes = NULL;
    const char *wrong = huffman_counts(length, symbols, counts, &used);
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    size_t room = (symbols * 12 + 8) / 8 + 1;
    bytes = calloc(room, 1);
    if (!bytes) {
        PyErr_NoMemory();
        goto done;
    }
    bit_string to = {bytes, NULL, 0, room * 8, false};
    bool absent = used < symbols;
    int last = 1;
    put(&to, absent, 1);
    for (size_t s = 0; s < symbols; s++) {
        if (absent) put(&to, length[s] != 0, 1);
        if (!length[s]) continue;
        int difference = length[s] - last;
        uint32_t zigzag = (uint32_t)(difference < 0 ? -2 * difference - 1 : 2 * difference) + 1;
        unsigned width = width_of(zigzag);
        put(&to, 0, width - 1);
        put(&to, zigzag, width);
        last = length[s];
    }
    if (to.failed)
        PyErr_SetString(PyExc_ValueError, "no room for the lengths");
    else
        result = PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)((to.bits + 7) / 8));
done:
    free(bytes);
    PyBuffer_Release(&lengths);
    return result;
}

static PyObject *unpack_lengths(PyObject *module, PyObject *args) {
    Py_buffer payload, lengths;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*w*", &payload, &lengths)) return NULL;
    PyObject *result = NULL;
    uint8_t *length = lengths.buf;
    size_t symbols = (size_t)lengths.len;
    uint32_t counts[HUFFMAN_LONGEST + 1], used;
    const char *wrong = NULL;
    bit_string from = {NULL, payload.buf, 0, (size_t)payload.len * 8, false};
    bool absent = take(&from, 1) != 0;
    int last = 1;
    for (size_t s = 0; s < symbols && !wrong; s++) {
        length[s] = 0;
        if (absent && !take(&from, 1)) {
            if (from.failed) break;
            continue;
        }
        unsigned zeros = 0;
        while (zeros < 6 && !from.failed && !take(&from, 1)) zeros++;
        uint32_t zigzag = (zeros < 6 ? 1u << zeros | take(&from, zeros) : 64) - 1;
        last += zigzag & 1 ? -(int)((zigzag + 1) / 2) : (int)(zigzag / 2);
        if (zeros == 6 || last < 1 || last > HUFFMAN_LONGEST) wrong = "a code word's length is not 1 to 24";
        if (from.failed) break;
        length[s] = (uint8_t)last;
    }
    if (from.failed) wrong = "the payload ends within its code lengths";
    unsigned padding = (unsigned)(-from.bits & 7);
    if (!wrong && take(&from, padding)) wrong = "the padding of the code lengths is not zero";
    if (!wrong) wrong = huffman_counts(length, symbols, counts, &used);
    if (!wrong && absent && used == symbols) wrong = "code lengths speak of absent symbols where there are none";
    if (wrong)
        PyErr_SetString(PyExc_ValueError, wrong);
    else
        result = PyLong_FromSize_t(from.bits / 8);
    PyBuffer_Release(&payload);
    PyBuffer_Release(&lengths);
    return result;
}

/* ---- streams ---------------------------------------------------------------------------------------------------------- */

/* bounds: symbol numbers 0 = b[0] <= b[1] <= ... <= b[blocks] = count. */
static bool good_bounds(const int64_t *bounds, Py_ssize_t items, int64_t count) {
    if (items < 2 || bounds[0] != 0 || bounds[items - 1] != count) return false;
    for (Py_ssize_t b = 1; b < items; b++)
        if (bounds[b] < bounds[b - 1]) return false;
    return true;
}

/* Gives the bytes written, or -1 when there is no room or a symbol has no word. */
static int64_t write_block(const uint16_t *symbols, int64_t count, const uint32_t *words, const uint8_t *lengths, size_t known,
                           uint8_t *out, int64_t room) {
    uint64_t buffer = 0;
    unsigned held = 0; /* bits of the buffer, at its low end */
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        uint16_t symbol = symbols[i];
        if (symbol >= known || !lengths[symbol]) return -1;
        buffer = buffer << lengths[symbol] | words[symbol];
        held += lengths[symbol];
        if (held >= 32) {
            if (at + 4 > room) return -1;
            uint32_t top = (uint32_t)(buffer >> (held - 32));
            out[at] = (uint8_t)(top >> 24);
            out[at + 1] = (uint8_t)(top >> 16);
            out[at + 2] = (uint8_t)(top >> 8);
            out[at + 3] = (uint8_t)top;
            at += 4;
            held -= 32;
        }
    }
    for (; held; held = held > 8 ? held - 8 : 0) {
        if (at >= room) return -1;
        out[at++] = (uint8_t)(held >= 8 ? buffer >> (held - 8) : buffer << (8 - held));
    }
    return at;
}

static PyObject *encode(PyObject *module, PyObject *args) {
    Py_buffer symbols, lengths, bounds, out, sizes;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*w*w*", &symbols, &lengths, &bounds, &out, &sizes)) return NULL;
    PyObject *result = NULL;
    huffman_code *code = malloc(sizeof *code);
    uint32_t *words = calloc((size_t)lengths.len + 1, sizeof *words);
    Py_ssize_t count = netpress_items(&symbols, 2, "symbols"), items = netpress_items(&bounds, 8, "bounds");
    if (count < 0 || items < 0) goto done;
    if (!code || !words) {
        PyErr_NoMemory();
        goto done;
    }
    if (!good_bounds(bounds.buf, items, count) || sizes.len != (items - 1) * 8) {
        PyErr_SetString(PyExc_ValueError, "bounds: ascending from 0 to the number of symbols; sizes: one a block");
        goto done;
    }
    const char *wrong = huffman_build(code, lengths.buf, (size_t)lengths.len, NULL);
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    const uint8_t *length = lengths.buf;
    const int64_t *bound = bounds.buf;
    int64_t *size = sizes.buf, at = 0, wrote = 0;
    Py_BEGIN_ALLOW_THREADS
    for (unsigned l = code->shortest; l && l <= code->longest; l++) {
        uint32_t end = l < HUFFMAN_LONGEST ? code->offset[l + 1] : code->offset[l] + (code->end[l] - code->first[l]);
        for (uint32_t i = code->offset[l]; i < end; i++) words[code->order[i]] = code->first[l] + (i - code->offset[l]);
    }
    for (Py_ssize_t b = 0; b + 1 < items && wrote >= 0; b++) {
        wrote = code->longest ? write_block((const uint16_t *)symbols.buf + bound[b], bound[b + 1] - bound[b], words, length,
                                            (size_t)lengths.len, (uint8_t *)out.buf + at, out.len - at)
                              : 0;
        size[b] = wrote;
        at += wrote;
    }
    Py_END_ALLOW_THREADS
    if (wrote < 0)
        PyErr_SetString(PyExc_ValueError, "a symbol has no code word, or the output has no room");
    else
        result = PyLong_FromLongLong(at);
done:
    free(code);
    free(words);
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&bounds);
    PyBuffer_Release(&out);
    PyBuffer_Release(&sizes);
    return result;
}

/* Whether a block's last word ends in its last byte and the bits behind it are zero. */
static bool ends_well(const huffman_stream *stream, uint64_t position, int64_t end) {
    if ((int64_t)((position + 7) >> 3) != end) return false;
    return !(position & 7) || !(uint8_t)(stream->bytes[end - 1] << (position & 7));
}

#define STEP(c)                                                     \
    do {                                                            \
        uint64_t window = huffman_window(stream, at[c]);            \
        huffman_entry one = huffman_look(code, window);             \
        huffman_entry two = huffman_look(code, window << one.length); \
        to[c][0] = one.symbol;                                      \
        to[c][1] = two.symbol;                                      \
        to[c] += 2;                                                 \
        at[c] += one.length + two.length;                           \
    } while (0)

/* Decodes blocks side by side, four at a time: four chains of look-ups that do not wait for each other. */
static NETPRESS_CLONES bool read_blocks(const huffman_code *code, const huffman_stream *stream, const int64_t *bounds,
                                        const int64_t *sizes, int64_t blocks, uint16_t *out) {
    int64_t byte = 0;
    for (int64_t b = 0; b < blocks; b += 4) {
        int64_t chains = blocks - b < 4 ? blocks - b : 4, together = INT64_MAX, ends[4];
        uint64_t at[4] = {0};
        uint16_t *to[4] = {0}, *stop[4];
        for (int64_t c = 0; c < chains; c++) {
            at[c] = (uint64_t)byte << 3;
            byte += sizes[b + c];
            ends[c] = byte;
            to[c] = out + bounds[b + c];
            stop[c] = out + bounds[b + c + 1];
            if (stop[c] - to[c] < together) together = stop[c] - to[c];
        }
        for (int64_t i = chains == 4 ? together / 2 : 0; i > 0; i--) {
            STEP(0);
            STEP(1);
            STEP(2);
            STEP(3);
        }
        for (int64_t c = 0; c < chains; c++) {
            while (to[c] + 1 < stop[c]) STEP(c);
            if (to[c] < stop[c]) {
                huffman_entry last = huffman_look(code, huffman_window(stream, at[c]));
                *to[c] = last.symbol;
                at[c] += last.length;
            }
            if (!ends_well(stream, at[c], ends[c])) return false;
        }
    }
    return true;
}

static PyObject *decode(PyObject *module, PyObject *args) {
    Py_buffer payload, lengths, bounds, sizes, symbols;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*", &payload, &lengths, &bounds, &sizes, &symbols)) return NULL;
    PyObject *result = NULL;
    huffman_code *code = malloc(sizeof *code);
    Py_ssize_t count = netpress_items(&symbols, 2, "symbols"), items = netpress_items(&bounds, 8, "bounds");
    if (count < 0 || items < 0) goto done;
    if (!code) {
        PyErr_NoMemory();
        goto done;
    }
    if (!good_bounds(bounds.buf, items, count) || sizes.len != (items - 1) * 8) {
        PyErr_SetString(PyExc_ValueError, "bounds: ascending from 0 to the number of symbols; sizes: one a block");
        goto done;
    }
    const int64_t *size = sizes.buf;
    int64_t left = payload.len;
    for (Py_ssize_t b = 0; b + 1 < items; b++) {
        if (size[b] < 0 || size[b] > left) {
            PyErr_SetString(PyExc_ValueError, "a block reaches beyond the stream");
            goto done;
        }
        left -= size[b];
    }
    const char *wrong = left ? "bytes follow the last block" : huffman_build(code, lengths.buf, (size_t)lengths.len, NULL);
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        goto done;
    }
    bool good;
    huffman_stream stream = {payload.buf, payload.len, payload.len - 8};
    Py_BEGIN_ALLOW_THREADS
    good = read_blocks(code, &stream, bounds.buf, size, items - 1, symbols.buf);
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(Py_None);
    else
        PyErr_SetString(PyExc_ValueError, "a block of code words does not end where it should");
done:
    free(code);
    PyBuffer_Release(&payload);
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&bounds);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&symbols);
    return result;
}

static PyMethodDef functions[] = {
    {"lengths", lengths_of, METH_VARARGS,
     "lengths(frequencies u64[k], lengths u8[k], limit)\n\nThe lengths of an optimal code with words of at most limit bits; 0 where the "
     "frequency is, 1 for an only symbol."},
    {"pack_lengths", pack_lengths, METH_VARARGS, "pack_lengths(lengths u8[k]) -> bytes"},
    {"unpack_lengths", unpack_lengths, METH_VARARGS, "unpack_lengths(payload, lengths u8[k]) -> bytes taken"},
    {"encode", encode, METH_VARARGS,
     "encode(symbols u16[n], lengths u8[k], bounds i64[b + 1], out, sizes i64[b]) -> bytes written\n\nBlock i holds the symbols "
     "bounds[i] to bounds[i + 1], from a whole byte on; sizes: the bytes of each."},
    {"decode", decode, METH_VARARGS,
     "decode(payload, lengths u8[k], bounds i64[b + 1], sizes i64[b], symbols u16[n])\n\nThe inverse of encode."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_huffman", NULL, 0, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__huffman(void) { return PyModuleDef_Init(&definition); }
