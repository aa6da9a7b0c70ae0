/* The decoder of interleaved range ANS (Duda 2013; interleaving and vectors after Giesen 2014, arXiv 1402.3392).
 *
 * A block has up to 64 states of 32 bits, each with its own share of the block's symbols, and one sequence of 16-bit words.
 * States take turns: in each step every lane decodes one symbol; a state that fell below 2^16 takes the next word. Vectors of
 * lanes do so at once: which lanes take a word is a mask, and expanding the next words by that mask hands them out in order.
 */
#ifndef NETPRESS_GAP_ANS_H
#define NETPRESS_GAP_ANS_H

#include "gap_product.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define GAP_VECTORS
#include <immintrin.h>
#endif

#define ANS_LOW 65536u
#define ANS_NARROW 0xfff /* the largest frequency with which one entry of 8 bytes holds all of a slot */

/* A slot's entry, narrow: advance 8 bits, offset within the symbol 12, frequency 12, payload 32.
 * Wide: frequency - 1 in 16 bits, offset in 16, symbol in 32; advance and payload are looked up by symbol.
 * Advance: with raw = 0 the positions to go on; else the gap's quotient, or `gaps` for the skip. */
typedef struct {
    const uint64_t *table;
    const uint8_t *advances; /* wide alone: by symbol */
    const uint32_t *payloads;
    bool wide;
    int precision, raw;
    uint32_t gaps;
} AnsModel;

typedef struct {
    uint32_t states[GAP_MOST_LANES], ends[GAP_MOST_LANES];
    const uint8_t *at, *stop;
    size_t lanes;
} AnsLanes;

NETPRESS_INLINE uint32_t ans_load16(const uint8_t *at) { return at[0] | (uint32_t)at[1] << 8; }

NETPRESS_INLINE void ans_scalar(const AnsModel *model, AnsLanes *lanes, GapPairs *pairs, size_t steps, size_t active, bool wide,
                                bool has_raw) {
    const uint64_t *table = model->table;
    const uint8_t *at = lanes->at;
    const uint32_t mask = (1u << model->precision) - 1, raw_mask = (1u << model->raw) - 1;
    for (size_t t = 0; t < steps; t++)
        for (size_t lane = 0; lane < active; lane++) {
            uint32_t state = lanes->states[lane];
            uint64_t entry = table[state & mask];
            uint32_t low = (uint32_t)entry, high = (uint32_t)(entry >> 32), advance;
            if (wide) {
                state = ((low & 0xffff) + 1) * (state >> model->precision) + (low >> 16);
                advance = model->advances[high];
                high = model->payloads[high];
            } else {
                state = (low >> 20) * (state >> model->precision) + (low >> 8 & 0xfff);
                advance = low & 0xff;
            }
            if (has_raw) {
                uint32_t codes = 0u - (advance != model->gaps);
                advance = (advance << model->raw) + (((state & raw_mask) + 1) & codes);
                state >>= model->raw & codes;
            }
            uint32_t takes = 0u - (state < ANS_LOW); /* all bits or none: a branch would be foretold wrongly every third time */
            lanes->states[lane] = state << (takes & 16) | (ans_load16(at) & takes);
            at += takes & 2;
            lanes->ends[lane] += advance;
            pairs->ends[t * lanes->lanes + lane] = lanes->ends[lane];
            pairs->payloads[t * lanes->lanes + lane] = high;
        }
    lanes->at = at;
}

#ifdef GAP_VECTORS
#define GAP_512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt")))
#define GAP_512_INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2,popcnt")))
#define GAP_256 __attribute__((target("avx2,fma,bmi,bmi2,popcnt")))

typedef struct {
    __m512i mask, evens, odds, twelve, low, raw_mask, gaps, one;
    __m128i precision, raw;
} Ans512;

GAP_512_INLINE Ans512 ans_constants(const AnsModel *model) {
    return (Ans512){
        .mask = _mm512_set1_epi32((1 << model->precision) - 1),
        .evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
        .odds = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31),
        .twelve = _mm512_set1_epi32(0xfff),
        .low = _mm512_set1_epi32(ANS_LOW),
        .raw_mask = _mm512_set1_epi32((1 << model->raw) - 1),
        .gaps = _mm512_set1_epi32((int)model->gaps),
        .one = _mm512_set1_epi32(1),
        .precision = _mm_cvtsi32_si128(model->precision),
        .raw = _mm_cvtsi32_si128(model->raw),
    };
}

/* One symbol of 16 lanes: the new states before renormalisation, how far to go on, the payloads. */
GAP_512_INLINE __m512i ans_symbol(const AnsModel *model, const Ans512 *c, __m512i state, __m512i *advance, __m512i *payload,
                                  bool wide, bool has_raw) {
    __m512i slot = _mm512_and_si512(state, c->mask), rest = _mm512_srl_epi32(state, c->precision);
    __m512i first = _mm512_i32gather_epi64(_mm512_castsi512_si256(slot), model->table, 8);
    __m512i second = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(slot, 1), model->table, 8);
    __m512i entry = _mm512_permutex2var_epi32(first, c->evens, second);
    *payload = _mm512_permutex2var_epi32(first, c->odds, second);
    if (wide) {
        __m512i frequency = _mm512_add_epi32(_mm512_and_si512(entry, _mm512_set1_epi32(0xffff)), c->one);
        state = _mm512_add_epi32(_mm512_mullo_epi32(frequency, rest), _mm512_srli_epi32(entry, 16));
        *advance = _mm512_and_si512(_mm512_i32gather_epi32(*payload, model->advances, 1), _mm512_set1_epi32(0xff));
        *payload = _mm512_i32gather_epi32(*payload, model->payloads, 4);
    } else {
        __m512i offset = _mm512_and_si512(_mm512_srli_epi32(entry, 8), c->twelve);
        state = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(entry, 20), rest), offset);
        *advance = _mm512_and_si512(entry, _mm512_set1_epi32(0xff));
    }
    if (has_raw) {
        __mmask16 codes = _mm512_cmpneq_epi32_mask(*advance, c->gaps);
        __m512i raw = _mm512_maskz_add_epi32(codes, _mm512_and_si512(state, c->raw_mask), c->one);
        *advance = _mm512_add_epi32(_mm512_sll_epi32(*advance, c->raw), raw);
        state = _mm512_mask_srl_epi32(state, codes, state, c->raw);
    }
    return state;
}

/* States below 2^16 take a word each. */
GAP_512_INLINE __m512i ans_renormalise(const Ans512 *c, __m512i state, const uint8_t **at) {
    __mmask16 takes = _mm512_cmplt_epu32_mask(state, c->low);
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)*at));
    *at += 2 * (size_t)_mm_popcnt_u32(takes);
    return _mm512_or_si512(_mm512_mask_slli_epi32(state, takes, state, 16), _mm512_maskz_expand_epi32(takes, words));
}

GAP_512_INLINE void ans_pairs_512(const AnsModel *model, AnsLanes *lanes, GapPairs *pairs, size_t steps, int vectors, bool wide,
                                  bool has_raw) {
    const Ans512 c = ans_constants(model);
    const uint8_t *at = lanes->at;
    __m512i states[4], ends[4];
    for (int i = 0; i < vectors; i++) {
        states[i] = _mm512_loadu_si512(lanes->states + 16 * i);
        ends[i] = _mm512_loadu_si512(lanes->ends + 16 * i);
    }
    for (size_t t = 0; t < steps; t++) {
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++) {
            __m512i advance, payload;
            states[i] = ans_symbol(model, &c, states[i], &advance, &payload, wide, has_raw);
            ends[i] = _mm512_add_epi32(ends[i], advance);
            _mm512_storeu_si512(pairs->ends + t * lanes->lanes + 16 * i, ends[i]);
            _mm512_storeu_si512(pairs->payloads + t * lanes->lanes + 16 * i, payload);
        }
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++) states[i] = ans_renormalise(&c, states[i], &at);
    }
    for (int i = 0; i < vectors; i++) {
        _mm512_storeu_si512(lanes->states + 16 * i, states[i]);
        _mm512_storeu_si512(lanes->ends + 16 * i, ends[i]);
    }
    lanes->at = at;
}

/* Ends of rows: the sums of lanes that passed one go to y. At most one lane passes the end of any one row, because the lanes'
 * runs of positions do not overlap; so plain stores do, and what else the row gets is added after the steps. */
GAP_512_INLINE __mmask16 ans_end_rows(__m512i *columns_of, __m512i *rows_of, __m512 *sums, __mmask16 over, __m512i columns,
                                      __m512i last_row, float *y) {
    _mm512_mask_i32scatter_ps(y, over, *rows_of, *sums, 4);
    *sums = _mm512_mask_mov_ps(*sums, over, _mm512_setzero_ps());
    do {
        *rows_of = _mm512_mask_add_epi32(*rows_of, over, *rows_of, _mm512_set1_epi32(1));
        *columns_of = _mm512_mask_sub_epi32(*columns_of, over, *columns_of, columns);
        over = _mm512_cmpgt_epu32_mask(*columns_of, columns);
    } while (NETPRESS_UNLIKELY(over));
    *rows_of = _mm512_min_epu32(*rows_of, last_row); /* a false stream must not write elsewhere */
    return over;
}

/* All full steps of a block by a vector x: y (rows) must be zero before. rows_of and lanes->ends: row and column of each lane. */
GAP_512_INLINE bool ans_vector_512(const AnsModel *model, AnsLanes *lanes, size_t steps, uint32_t columns, uint32_t rows,
                                   uint32_t *rows_of, float *sums_of, const float *x, float *y, int vectors, bool wide,
                                   bool has_raw) {
    const Ans512 c = ans_constants(model);
    const uint8_t *at = lanes->at;
    const __m512i width = _mm512_set1_epi32((int)columns), last_row = _mm512_set1_epi32((int)rows - 1);
    const char *before_x = (const char *)x - 4; /* columns are counted from 1: the end of a position */
    __m512i states[4], ends[4], at_rows[4];
    __m512 sums[4];
    for (int i = 0; i < vectors; i++) {
        states[i] = _mm512_loadu_si512(lanes->states + 16 * i);
        ends[i] = _mm512_loadu_si512(lanes->ends + 16 * i);
        at_rows[i] = _mm512_loadu_si512(rows_of + 16 * i);
        sums[i] = _mm512_setzero_ps();
    }
    for (size_t t = 0; t < steps; t++) {
        __m512i payloads[4];
        __mmask16 over[4];
        unsigned any = 0;
        if (t % GAP_STEPS == 0 && at > lanes->stop) return false;
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++) {
            __m512i advance;
            states[i] = ans_symbol(model, &c, states[i], &advance, &payloads[i], wide, has_raw);
            ends[i] = _mm512_add_epi32(ends[i], advance);
            over[i] = _mm512_cmpgt_epu32_mask(ends[i], width);
            any |= over[i];
        }
        if (NETPRESS_UNLIKELY(any)) {
#pragma GCC unroll 4
            for (int i = 0; i < vectors; i++)
                if (over[i]) ans_end_rows(&ends[i], &at_rows[i], &sums[i], over[i], width, last_row, y);
        }
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++) {
            sums[i] = _mm512_fmadd_ps(_mm512_castsi512_ps(payloads[i]), _mm512_i32gather_ps(ends[i], before_x, 4), sums[i]);
            states[i] = ans_renormalise(&c, states[i], &at);
        }
    }
    for (int i = 0; i < vectors; i++) {
        _mm512_storeu_si512(lanes->states + 16 * i, states[i]);
        _mm512_storeu_si512(lanes->ends + 16 * i, ends[i]);
        _mm512_storeu_si512(rows_of + 16 * i, at_rows[i]);
        _mm512_storeu_ps(sums_of + 16 * i, sums[i]);
    }
    lanes->at = at;
    return at <= lanes->stop;
}
#endif
#endif
