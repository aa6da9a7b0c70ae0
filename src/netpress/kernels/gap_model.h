/* The model that both (gap, value) codecs share: one symbol says how many zeros to pass and which value follows.
 *
 * Positions of a block of rows run on over the ends of rows. A gap of g zeros is (g >> raw): its lowest `raw` bits go into the
 * stream as they are. The alphabet has `gaps` * `values` symbols (quotient of the gap, then value) and one *skip* behind them,
 * which passes (gaps << raw) zeros and has no value: for gaps without memory the skip costs nothing. The weight of a symbol is
 * the product of a gap's weight and a value's, each 2^(-level / 4): a file holds gaps + 1 + values small numbers, and the
 * frequencies follow from them by integers alone, alike on every machine.
 */
#ifndef NETPRESS_GAP_MODEL_H
#define NETPRESS_GAP_MODEL_H

#include "common.h"

#define GAP_MOST_LEVEL 79
#define GAP_MOST_GAPS 255
#define GAP_MOST_RAW 6
#define GAP_PAD 8192 /* bytes behind a stream that may be read (not used) */
#define GAP_MOST_LANES 64
#define GAP_STEPS 16 /* symbols of each lane between two checks of bounds */

/* round(2^(20 - i/4)) */
static const uint32_t GAP_QUARTERS[4] = {1048576, 881744, 741455, 623487};

NETPRESS_INLINE uint64_t gap_weight(uint8_t level) {
    uint64_t weight = GAP_QUARTERS[level & 3] >> (level >> 2);
    return weight ? weight : 1;
}

/* Weights of all symbols, gap by gap, the skip last; their sum stays below 2^58. A level above GAP_MOST_LEVEL: no such symbol. */
static uint64_t gap_weights(const uint8_t *value_levels, size_t values, const uint8_t *gap_levels, size_t gaps,
                            uint64_t *weights) {
    uint64_t all_values = 0, total = 0;
    for (size_t v = 0; v < values; v++) all_values += gap_weight(value_levels[v]);
    for (size_t g = 0; g < gaps; g++)
        for (size_t v = 0; v < values; v++)
            total += weights[g * values + v] = gap_weight(gap_levels[g]) * gap_weight(value_levels[v]);
    weights[gaps * values] = gap_levels[gaps] > GAP_MOST_LEVEL ? 0 : gap_weight(gap_levels[gaps]) * all_values;
    return total + weights[gaps * values];
}

/* Whether the sizes of a model can be: called before anything is allocated. */
static bool gap_model_fits(Py_ssize_t values, Py_ssize_t gaps, int precision, int raw) {
    return values >= 1 && values <= 65536 && gaps >= 1 && gaps <= GAP_MOST_GAPS && precision >= 1 && precision <= 16 &&
           raw >= 0 && raw <= GAP_MOST_RAW && precision + raw <= 16 && values * gaps <= (Py_ssize_t)1 << precision;
}

static bool gap_levels_fit(const uint8_t *value_levels, size_t values, const uint8_t *gap_levels, size_t gaps) {
    for (size_t v = 0; v < values; v++)
        if (value_levels[v] > GAP_MOST_LEVEL) return false;
    for (size_t g = 0; g < gaps; g++)
        if (gap_levels[g] > GAP_MOST_LEVEL) return false;
    return true;
}

/* One symbol of a block's sequence: its number, and the raw bits that follow it. */
typedef struct {
    uint32_t symbol;
    uint16_t raw, raw_bits;
} GapSymbol;

/* How many symbols `count` events take. */
static size_t gap_count_symbols(const uint32_t *gaps_of, size_t count, size_t gaps, int raw) {
    size_t total = count;
    uint32_t span = (uint32_t)(gaps << raw);
    for (size_t i = 0; i < count; i++)
        if (gaps_of[i] >= span) total += gaps_of[i] / span;
    return total;
}

/* The symbols of `count` events (zeros before it, number of the value) in order. */
static void gap_symbols(const uint32_t *gaps_of, const uint16_t *values_of, size_t count, size_t values, size_t gaps, int raw,
                        GapSymbol *symbols) {
    uint32_t span = (uint32_t)(gaps << raw);
    for (size_t i = 0; i < count; i++) {
        uint32_t gap = gaps_of[i];
        while (gap >= span) {
            *symbols++ = (GapSymbol){(uint32_t)(gaps * values), 0, 0};
            gap -= span;
        }
        *symbols++ = (GapSymbol){(uint32_t)((gap >> raw) * values + values_of[i]), (uint16_t)(gap & ((1u << raw) - 1)),
                                 (uint16_t)raw};
    }
}

/* Where one block of a coded matrix lies; what Python passes as rows of an int64 array. */
typedef struct {
    int64_t offset, length, symbols;
} GapBlock;

/* A lane's share of a block's symbols: all have as many, the first ones one more. */
NETPRESS_INLINE size_t gap_lane_symbols(size_t symbols, size_t lanes, size_t lane) {
    return symbols / lanes + (lane < symbols % lanes);
}
#endif
