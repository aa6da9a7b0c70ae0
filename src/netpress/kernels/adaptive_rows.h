/* Rows of levels through the model: to a stream, from a stream, to a count of bits, or to the levels worth their bits. */
#ifndef NETPRESS_ADAPTIVE_ROWS_H
#define NETPRESS_ADAPTIVE_ROWS_H

#include "adaptive_model.h"
#include "adaptive_range.h"

enum { ENCODE, DECODE, COUNT };

static float cost_table[65537]; /* -log2(p / 65536); for counting and choosing only, never for coding */

static void build_costs(void) {
    for (int p = 1; p <= 65536; p++) cost_table[p] = (float)(16.0 - log2((double)p));
    cost_table[0] = 32.0f;
}

typedef struct {
    RangeCoder range;
    double bits;
} Coder;

NETPRESS_INLINE int code_bit(Coder *coder, uint32_t p, int bit, int mode) {
    if (mode == ENCODE) range_encode(&coder->range, p, bit);
    if (mode == DECODE) bit = range_decode(&coder->range, p);
    if (mode == COUNT) coder->bits += cost_table[bit ? p : 65536 - p];
    return bit;
}

NETPRESS_INLINE int answer(Model *m, Coder *coder, const uint32_t *base, int bin, int bit, int mode) {
    bit = code_bit(coder, predict(m, base, bin), bit, mode);
    learn(m, bit);
    return bit;
}

/* A bit whose one slot is its whole context. */
NETPRESS_INLINE int plain_bit(Coder *coder, uint32_t *slot, int bit, int limit, int mode) {
    uint32_t p = *slot >> 16;
    bit = code_bit(coder, p < 16 ? 16 : p > 65520 ? 65520 : p, bit, mode);
    *slot = moved(*slot, bit, limit);
    return bit;
}

NETPRESS_INLINE uint32_t *tree_slots(Model *m, int class, int negative) { return m->tree + (negative * CLASSES + class) * TREE; }

/* One level in column c. Gives it back: when decoding it comes from the stream, and may lie outside the model's range. */
NETPRESS_INLINE int32_t code_level(Model *m, Coder *coder, Py_ssize_t c, int32_t level, int mode) {
    find_contexts(m, c);
    uint32_t magnitude = magnitude_of(level);
    int negative = level < 0, class = class_of(magnitude);
    if (m->low == m->high) return 0;
    if (!answer(m, coder, m->base, 0, level != 0, mode)) return 0;
    if (m->low < 0 && m->high > 0) {
        find_sign_contexts(m, c);
        negative = answer(m, coder, m->sign_base, 1, negative, mode);
    } else {
        negative = m->low < 0;
    }
    uint32_t most = negative ? magnitude_of(m->low) : magnitude_of(m->high);
    int top = class_of(most), at = 1;
    m->base[0] += negative ? 1 : 2; /* magnitudes may lie otherwise on the two sides */
    while (at < top && answer(m, coder, m->base, 1 + at, class > at, mode)) at++;
    uint32_t start = class_start(at), rest = magnitude - start, got = 0;
    uint32_t *slots = tree_slots(m, at, negative);
    int bits = class_bits(at);
    for (int depth = 0; depth < bits; depth++) {
        uint32_t *slot = depth < TREE_DEPTH ? slots + (1u << depth) + got : slots + (1u << TREE_DEPTH) + depth - TREE_DEPTH;
        int bit = plain_bit(coder, slot, (rest >> (bits - 1 - depth)) & 1, m->limit, mode);
        got = got << 1 | (uint32_t)bit;
    }
    magnitude = start + got;
    return negative ? -(int32_t)magnitude : (int32_t)magnitude;
}

/* Columns that are live: NULL for all. Decoding: false for a level outside the range. */
NETPRESS_INLINE bool code_row(Model *m, Coder *coder, int32_t *levels, const uint8_t *live, int mode) {
    begin_row(m);
    for (Py_ssize_t c = 0; c < m->columns; c++) {
        if (live && !live[c]) {
            if (mode == DECODE) levels[c] = 0;
            pass_over(m, c);
            continue;
        }
        int32_t level = code_level(m, coder, c, levels[c], mode);
        if (mode == DECODE) {
            if (NETPRESS_UNLIKELY(level < m->low || level > m->high)) return false;
            levels[c] = level;
        }
        enter(m, c, levels[c]);
    }
    return true;
}

NETPRESS_CLONES static bool encode_row(Model *m, Coder *coder, int32_t *levels, const uint8_t *live) {
    return code_row(m, coder, levels, live, ENCODE);
}
NETPRESS_CLONES static bool decode_row(Model *m, Coder *coder, int32_t *levels, const uint8_t *live) {
    return code_row(m, coder, levels, live, DECODE);
}
NETPRESS_CLONES static bool count_row(Model *m, Coder *coder, int32_t *levels, const uint8_t *live) {
    return code_row(m, coder, levels, live, COUNT);
}

/* Bits that the place of a magnitude within its class takes. */
NETPRESS_INLINE float rest_cost(Model *m, uint32_t magnitude, int class, int negative) {
    uint32_t rest = magnitude - class_start(class), got = 0;
    const uint32_t *slots = tree_slots(m, class, negative);
    int bits = class_bits(class);
    float cost = 0;
    for (int depth = 0; depth < bits; depth++) {
        uint32_t slot = depth < TREE_DEPTH ? slots[(1u << depth) + got] : slots[(1u << TREE_DEPTH) + depth - TREE_DEPTH];
        uint32_t p = slot >> 16, bit = (rest >> (bits - 1 - depth)) & 1;
        p = p < 16 ? 16 : p > 65520 ? 65520 : p;
        cost += cost_table[bit ? p : 65536 - p];
        got = got << 1 | bit;
    }
    return cost;
}

/* The level among 0 and the neighbours of `weight` that costs least; weight in steps, square errors times sensitivity. */
NETPRESS_INLINE int32_t choose_level(Model *m, Py_ssize_t c, float weight, float sensitivity, float lambda) {
    int negative = weight < 0;
    float size = negative ? -weight : weight;
    uint32_t most = negative ? magnitude_of(m->low) : magnitude_of(m->high);
    uint32_t low = size >= (float)most ? most : (uint32_t)size;
    uint32_t nearest = low < most && size - (float)low > 0.5f ? low + 1 : low;
    if (lambda == 0) return negative ? -(int32_t)nearest : (int32_t)nearest;
    /* Hardly further from zero than the nearest: else the model, once it thinks zeros rare, would make them rarer still. */
    uint32_t high = low < most && size - (float)low > 0.35f ? low + 1 : low;
    if (high == 0) return 0;
    find_contexts(m, c);
    uint32_t p = predict(m, m->base, 0);
    float bits = cost_table[p];
    uint32_t best = 0;
    float best_cost = sensitivity * size * size + lambda * cost_table[65536 - p];
    if (m->low < 0 && m->high > 0) {
        find_sign_contexts(m, c);
        p = predict(m, m->sign_base, 1);
        bits += cost_table[negative ? p : 65536 - p];
    }
    m->base[0] += negative ? 1 : 2;
    int top = class_of(most), at = 1;
    for (uint32_t magnitude = low ? low : 1; magnitude <= high; magnitude++) {
        int class = class_of(magnitude);
        float stop = 0;
        for (; at <= class && at < top; at++) {
            p = predict(m, m->base, 1 + at);
            if (at == class) {
                stop = cost_table[65536 - p];
                break;
            }
            bits += cost_table[p];
        }
        float error = size - (float)magnitude;
        float cost = sensitivity * error * error + lambda * (bits + stop + rest_cost(m, magnitude, class, negative));
        if (cost < best_cost) {
            best_cost = cost;
            best = magnitude;
        }
    }
    return negative ? -(int32_t)best : (int32_t)best;
}

NETPRESS_CLONES static void quantize_row(Model *m, Coder *coder, const float *weights, const float *sensitivity,
                                         Py_ssize_t stride, Py_ssize_t sensitivity_stride, float lambda, int32_t *levels) {
    begin_row(m);
    for (Py_ssize_t c = 0; c < m->columns; c++) {
        levels[c] = choose_level(m, c, weights[c * stride], sensitivity[c * sensitivity_stride], lambda);
        code_level(m, coder, c, levels[c], COUNT);
        enter(m, c, levels[c]);
    }
}

#endif
