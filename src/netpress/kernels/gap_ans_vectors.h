/* The vector decoders for each shape of table, and the decoder for eight lanes. Part of gap_ans.c. */
#ifndef NETPRESS_GAP_ANS_VECTORS_H
#define NETPRESS_GAP_ANS_VECTORS_H

#include "gap_ans.h"

#ifdef GAP_VECTORS
#define GAP_BY_VECTORS(CALL, WIDE, RAW)            \
    switch (lanes->lanes) {                        \
        case 16: return CALL(1, WIDE, RAW);        \
        case 32: return CALL(2, WIDE, RAW);        \
        default: return CALL(4, WIDE, RAW);        \
    }
#define GAP_BY_SHAPE(CALL)                                          \
    if (model->wide && model->raw) GAP_BY_VECTORS(CALL, true, true) \
    if (model->wide) GAP_BY_VECTORS(CALL, true, false)              \
    if (model->raw) GAP_BY_VECTORS(CALL, false, true)               \
    GAP_BY_VECTORS(CALL, false, false)

GAP_512 static void ans_pairs_dispatch_512(const AnsModel *model, AnsLanes *lanes, GapPairs *pairs, size_t steps) {
#define CALL(VECTORS, WIDE, RAW) ans_pairs_512(model, lanes, pairs, steps, VECTORS, WIDE, RAW)
    GAP_BY_SHAPE(CALL)
#undef CALL
}

GAP_512 static bool ans_vector_dispatch_512(const AnsModel *model, AnsLanes *lanes, size_t steps, uint32_t columns, uint32_t rows,
                                            uint32_t *rows_of, float *sums, const float *x, float *y) {
#define CALL(VECTORS, WIDE, RAW) ans_vector_512(model, lanes, steps, columns, rows, rows_of, sums, x, y, VECTORS, WIDE, RAW)
    GAP_BY_SHAPE(CALL)
#undef CALL
}

/* Which of the next words each lane of eight takes, for each mask of lanes that take one. */
static uint8_t ans_expand[256][8];

static void ans_fill_expand(void) {
    for (int mask = 0; mask < 256; mask++)
        for (int lane = 0, next = 0; lane < 8; lane++) ans_expand[mask][lane] = (uint8_t)(mask >> lane & 1 ? next++ : 0);
}

/* Narrow tables, lanes a multiple of 8. */
GAP_256 static void ans_pairs_256(const AnsModel *model, AnsLanes *lanes, GapPairs *pairs, size_t steps) {
    const __m256i mask = _mm256_set1_epi32((1 << model->precision) - 1), twelve = _mm256_set1_epi32(0xfff);
    const __m256i byte = _mm256_set1_epi32(0xff), raw_mask = _mm256_set1_epi32((1 << model->raw) - 1);
    const __m256i gaps = _mm256_set1_epi32((int)model->gaps), one = _mm256_set1_epi32(1), zero = _mm256_setzero_si256();
    const __m128i precision = _mm_cvtsi32_si128(model->precision), raw = _mm_cvtsi32_si128(model->raw);
    const long long *table = (const long long *)model->table;
    const uint8_t *at = lanes->at;
    for (size_t t = 0; t < steps; t++)
        for (size_t l = 0; l < lanes->lanes; l += 8) {
            __m256i state = _mm256_loadu_si256((const __m256i *)(lanes->states + l));
            __m256i slot = _mm256_and_si256(state, mask);
            __m256 first = _mm256_castsi256_ps(_mm256_i32gather_epi64(table, _mm256_castsi256_si128(slot), 8));
            __m256 second = _mm256_castsi256_ps(_mm256_i32gather_epi64(table, _mm256_extracti128_si256(slot, 1), 8));
            __m256i entry = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0x88));
            __m256i payload = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0xdd));
            entry = _mm256_permute4x64_epi64(entry, 0xd8);
            payload = _mm256_permute4x64_epi64(payload, 0xd8);
            __m256i offset = _mm256_and_si256(_mm256_srli_epi32(entry, 8), twelve), advance = _mm256_and_si256(entry, byte);
            state = _mm256_mullo_epi32(_mm256_srli_epi32(entry, 20), _mm256_srl_epi32(state, precision));
            state = _mm256_add_epi32(state, offset);
            if (model->raw) {
                __m256i skips = _mm256_cmpeq_epi32(advance, gaps);
                __m256i low = _mm256_add_epi32(_mm256_and_si256(state, raw_mask), one);
                advance = _mm256_add_epi32(_mm256_sll_epi32(advance, raw), _mm256_andnot_si256(skips, low));
                state = _mm256_blendv_epi8(_mm256_srl_epi32(state, raw), state, skips);
            }
            __m256i takes = _mm256_cmpeq_epi32(_mm256_srli_epi32(state, 16), zero);
            unsigned bits = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(takes));
            __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at));
            __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)ans_expand[bits]));
            words = _mm256_or_si256(_mm256_slli_epi32(state, 16), _mm256_permutevar8x32_epi32(words, order));
            at += 2 * (size_t)_mm_popcnt_u32(bits);
            _mm256_storeu_si256((__m256i *)(lanes->states + l), _mm256_blendv_epi8(state, words, takes));
            __m256i ends = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(lanes->ends + l)), advance);
            _mm256_storeu_si256((__m256i *)(lanes->ends + l), ends);
            _mm256_storeu_si256((__m256i *)(pairs->ends + t * lanes->lanes + l), ends);
            _mm256_storeu_si256((__m256i *)(pairs->payloads + t * lanes->lanes + l), payload);
        }
    lanes->at = at;
}

#endif

/* Bits of the vectors that are used: 512, 256, or 0 for none. */
static int ans_vectors;

/* The widest vectors that the processor has, up to `most` bits. */
static int ans_ask_processor(int most) {
#ifdef GAP_VECTORS
    ans_fill_expand();
    __builtin_cpu_init();
    if (most >= 512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2"))
        return 512;
    if (most >= 256 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return 256;
#else
    (void)most;
#endif
    return 0;
}
#endif
