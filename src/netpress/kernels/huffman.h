/* Canonical Huffman codes: the decoding table, and a window on a stream of bits.
 *
 * A code is given by the lengths of its words, one byte a symbol, 0 for a symbol that never occurs. Words are handed out in the
 * order of length, then of symbol (Schwartz and Kallick 1964), so that lengths alone make the code. Streams hold the first bit in
 * the top bit of the first byte. A code with one symbol is written as length 1 and takes no bits at all.
 *
 * Words of up to HUFFMAN_FIRST bits are found by one look-up; a longer one by comparing with the end of each length's range,
 * which keeps the tables small for every code that a stream may bring. */
#ifndef NETPRESS_HUFFMAN_H
#define NETPRESS_HUFFMAN_H

#include "common.h"

#define HUFFMAN_LONGEST 24
#define HUFFMAN_FIRST 11
#define HUFFMAN_SYMBOLS 65536
#define HUFFMAN_BEYOND 255 /* the length of an entry whose word is longer than the table's index */

typedef struct {
    float value; /* of the symbol, where the code was built with values */
    uint16_t symbol;
    uint8_t length, unused;
} huffman_entry;

typedef struct {
    unsigned shortest, longest, shift; /* shift: from a window of 64 bits to an index of the table */
    uint32_t first[HUFFMAN_LONGEST + 1], offset[HUFFMAN_LONGEST + 1]; /* first word of a length; its place in `order` */
    uint32_t end[HUFFMAN_LONGEST + 1]; /* where a length's words end, in units of 2^-24 */
    const float *values;
    uint16_t order[HUFFMAN_SYMBOLS]; /* symbols in the order of their words */
    huffman_entry table[1 << HUFFMAN_FIRST];
} huffman_code;

/* Counts the lengths; gives NULL, or what is wrong with them as a code. */
NETPRESS_INLINE const char *huffman_counts(const uint8_t *lengths, size_t symbols, uint32_t *counts, uint32_t *used) {
    uint64_t kraft = 0;
    memset(counts, 0, (HUFFMAN_LONGEST + 1) * sizeof *counts);
    if (!symbols || symbols > HUFFMAN_SYMBOLS) return "lengths: 1 to 65536 symbols";
    for (size_t s = 0; s < symbols; s++) {
        if (lengths[s] > HUFFMAN_LONGEST) return "a code word is longer than 24 bits";
        counts[lengths[s]]++;
    }
    *used = (uint32_t)symbols - counts[0];
    counts[0] = 0;
    for (unsigned l = 1; l <= HUFFMAN_LONGEST; l++) kraft += (uint64_t)counts[l] << (HUFFMAN_LONGEST - l);
    if (*used == 0) return "a code without symbols";
    if (*used == 1) return counts[1] == 1 ? NULL : "the only symbol of a code must have length 1";
    if (kraft > 1u << HUFFMAN_LONGEST) return "the code is over-subscribed";
    if (kraft < 1u << HUFFMAN_LONGEST) return "the code is incomplete";
    return NULL;
}

/* Makes the tables; values: one a symbol, or NULL. Gives NULL, or what is wrong. */
static const char *huffman_build(huffman_code *code, const uint8_t *lengths, size_t symbols, const float *values) {
    uint32_t counts[HUFFMAN_LONGEST + 1], next[HUFFMAN_LONGEST + 1], used, word = 0, place = 0;
    const char *wrong = huffman_counts(lengths, symbols, counts, &used);
    if (wrong) return wrong;
    code->shortest = HUFFMAN_LONGEST;
    code->longest = 0;
    for (unsigned l = 1; l <= HUFFMAN_LONGEST; l++) {
        word <<= 1;
        code->first[l] = word;
        code->offset[l] = next[l] = place;
        word += counts[l];
        place += counts[l];
        code->end[l] = word << (HUFFMAN_LONGEST - l);
        if (!counts[l]) continue;
        code->longest = l;
        if (l < code->shortest) code->shortest = l;
    }
    for (size_t s = 0; s < symbols; s++)
        if (lengths[s]) code->order[next[lengths[s]]++] = (uint16_t)s;
    code->values = values;
    unsigned bits = code->longest < HUFFMAN_FIRST ? code->longest : HUFFMAN_FIRST;
    code->shift = 64 - bits;
    uint32_t at = 0;
    for (uint32_t i = 0; i < used; i++) {
        uint16_t symbol = code->order[i];
        if (lengths[symbol] > bits) break;
        huffman_entry entry = {values ? values[symbol] : 0.0f, symbol, lengths[symbol], 0};
        for (uint32_t end = at + (1u << (bits - lengths[symbol])); at < end; at++) code->table[at] = entry;
    }
    if (used == 1) {
        code->shortest = code->longest = 0;
        code->table[0].length = 0;
        code->table[1] = code->table[0];
        at = 2;
    }
    for (; at < 1u << bits; at++) code->table[at].length = HUFFMAN_BEYOND;
    return NULL;
}

/* The entry of the word at the top of a window of at least 24 bits. */
NETPRESS_INLINE huffman_entry huffman_look(const huffman_code *code, uint64_t window) {
    huffman_entry entry = code->table[window >> code->shift];
    if (NETPRESS_UNLIKELY(entry.length == HUFFMAN_BEYOND)) {
        uint32_t top = (uint32_t)(window >> (64 - HUFFMAN_LONGEST));
        unsigned l = HUFFMAN_FIRST + 1;
        while (l < code->longest && top >= code->end[l]) l++;
        entry.symbol = code->order[code->offset[l] + (top >> (HUFFMAN_LONGEST - l)) - code->first[l]];
        entry.value = code->values ? code->values[entry.symbol] : 0.0f;
        entry.length = (uint8_t)l;
    }
    return entry;
}

/* A stream of bytes; behind its end lie zeros. */
typedef struct {
    const uint8_t *bytes;
    int64_t length, whole; /* whole: the last place from which eight bytes can be read; negative where there is none */
} huffman_stream;

NETPRESS_INLINE uint64_t huffman_big_endian(const uint8_t *at) {
    uint64_t value = netpress_load64(at);
#if defined(__GNUC__)
    return __builtin_bswap64(value);
#else
    return _byteswap_uint64(value);
#endif
}

/* Of a value that is not 0. */
NETPRESS_INLINE int huffman_leading_zeros(uint64_t value) {
#if defined(__GNUC__)
    return __builtin_clzll(value);
#else
    int zeros = 0;
    for (; !(value >> 63); value <<= 1) zeros++;
    return zeros;
#endif
}

static uint64_t huffman_tail(const huffman_stream *stream, int64_t byte) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | (byte + i < stream->length ? stream->bytes[byte + i] : 0);
    return value;
}

/* At least 57 bits from bit `position` on, the first one at the top. */
NETPRESS_INLINE uint64_t huffman_window(const huffman_stream *stream, uint64_t position) {
    int64_t byte = (int64_t)(position >> 3);
    uint64_t value;
    if (NETPRESS_UNLIKELY(byte > stream->whole))
        value = huffman_tail(stream, byte);
    else
        value = huffman_big_endian(stream->bytes + byte);
    return value << (position & 7);
}

#endif
