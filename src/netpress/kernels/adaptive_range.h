/* A binary range coder (Martin 1979, with the carry kept as in Schindler's coder) with 16-bit probabilities.
 *
 * The interval is [low, low + range) in units of 2^-56; range stays at 2^48 and above, so that dividing it by 2^16 loses nothing
 * worth counting, however skewed a bit is. The stream is the shortest number in the last interval, without its trailing zero
 * bytes: a decoder reads zeros behind the end. The decoder follows `low`, too, and so knows what the encoder would have written:
 * exactly one stream is accepted for each sequence of bits.
 */
#ifndef NETPRESS_ADAPTIVE_RANGE_H
#define NETPRESS_ADAPTIVE_RANGE_H

#include "common.h"

#define RANGE_FULL ((uint64_t)1 << 56)
#define RANGE_LEAST ((uint64_t)1 << 48)

typedef struct {
    uint64_t low, range;
    uint64_t code;       /* decoder: the stream's number less low */
    uint8_t *out;        /* encoder: what it wrote; grows, and is the caller's to free */
    const uint8_t *in;   /* decoder: what it reads */
    Py_ssize_t at, room; /* bytes written or read; bytes there are */
    bool failed;         /* encoder: no memory */
} RangeCoder;

/* The carry runs into bytes already written; they cannot all be 255, since the number is below one. */
NETPRESS_INLINE void range_carry(RangeCoder *coder) {
    Py_ssize_t at = coder->at;
    while (at > 0 && ++coder->out[--at] == 0) {
    }
}

static void range_grow(RangeCoder *coder) {
    Py_ssize_t room = coder->room * 2 + 256;
    uint8_t *out = realloc(coder->out, (size_t)room);
    if (!out) { /* nothing of the stream can be used any more: begin anew in what there is, and say so at the end */
        coder->failed = true;
        coder->at = 0;
        return;
    }
    coder->out = out;
    coder->room = room;
}

NETPRESS_INLINE void range_put(RangeCoder *coder, uint8_t byte) {
    if (NETPRESS_UNLIKELY(coder->at == coder->room)) range_grow(coder);
    if (coder->room) coder->out[coder->at++] = byte;
}

/* p: chance of a one, 1 to 65535 of 65536. */
NETPRESS_INLINE void range_encode(RangeCoder *coder, uint32_t p, int bit) {
    uint64_t part = (coder->range >> 16) * p;
    if (bit) {
        coder->range = part;
    } else {
        coder->low += part;
        coder->range -= part;
        if (NETPRESS_UNLIKELY(coder->low >= RANGE_FULL)) {
            coder->low -= RANGE_FULL;
            range_carry(coder);
        }
    }
    while (coder->range < RANGE_LEAST) {
        range_put(coder, (uint8_t)(coder->low >> 48));
        coder->low = (coder->low & (RANGE_LEAST - 1)) << 8;
        coder->range <<= 8;
    }
}

NETPRESS_INLINE int range_decode(RangeCoder *coder, uint32_t p) {
    uint64_t part = (coder->range >> 16) * p;
    int bit = coder->code < part;
    if (bit) {
        coder->range = part;
    } else {
        coder->code -= part;
        coder->low = (coder->low + part) & (RANGE_FULL - 1);
        coder->range -= part;
    }
    while (coder->range < RANGE_LEAST) {
        coder->code = coder->code << 8 | (coder->at < coder->room ? coder->in[coder->at] : 0);
        coder->at++;
        coder->low = (coder->low & (RANGE_LEAST - 1)) << 8;
        coder->range <<= 8;
    }
    return bit;
}

static void range_start(RangeCoder *coder, const uint8_t *in, Py_ssize_t length) {
    memset(coder, 0, sizeof *coder);
    coder->range = RANGE_FULL - 1;
    if (!in) return;
    coder->in = in;
    coder->room = length;
    for (; coder->at < 7; coder->at++) coder->code = coder->code << 8 | (coder->at < length ? in[coder->at] : 0);
}

/* The number in [low, low + range) with the most zero bytes at its end; 2^56 and more stands for a carry. */
static uint64_t range_last(const RangeCoder *coder) {
    for (int bits = 56; bits > 0; bits -= 8) {
        uint64_t mask = ((uint64_t)1 << bits) - 1, value = (coder->low + mask) & ~mask;
        if (value - coder->low < coder->range) return value;
    }
    return coder->low;
}

/* Ends the stream and gives its length; nothing has been written if memory failed. */
static Py_ssize_t range_finish(RangeCoder *coder) {
    uint64_t value = range_last(coder);
    if (value >= RANGE_FULL) range_carry(coder);
    for (int shift = 48; shift >= 0; shift -= 8) range_put(coder, (uint8_t)(value >> shift));
    while (coder->at > 0 && coder->out[coder->at - 1] == 0) coder->at--;
    return coder->at;
}

/* Whether what was decoded is the whole of the stream, and the one that the encoder would have written. */
static bool range_ended(const RangeCoder *coder) {
    uint64_t value = range_last(coder), read = coder->low + coder->code;
    if (coder->code >= coder->range || (value & (RANGE_FULL - 1)) != (read & (RANGE_FULL - 1))) return false;
    if (coder->room > coder->at) return false;
    return coder->room == 0 || coder->in[coder->room - 1] != 0;
}

#endif
