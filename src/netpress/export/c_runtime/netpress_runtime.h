/* Runs networks that netpress exported: layers multiply with weights as they are coded, one filter at a time.
 *
 * C99; nothing is allocated, nothing but memcpy and expf is called. Values are in the order (channels, height, width): float32, or bytes, of
 * which a grid says what they stand for; where a grid is NULL, the value is float32.
 * Every function reads a coded weight within its arrays only, whatever their bytes are: a damaged stream gives wrong sums, no
 * wrong access.
 */
#ifndef NETPRESS_RUNTIME_H
#define NETPRESS_RUNTIME_H

#include <stdint.h>

#define NP_EVENTS 32  /* weights that are decoded at a time */
#define NP_LONGEST 15 /* bits of the longest code */
#define NP_FAST 8     /* bits of a code that one look-up decodes */

/* How a weight lies in memory, row by row:
 * NP_DENSE    float32 values
 * NP_PALETTE  of each value its number in a palette, in `bits` bits, the first in the lowest bits
 * NP_MASK     of each value one bit, the first lowest: whether it is other than zero; the others' float32 values in order
 * NP_INT8     of each value one byte of the stream, a whole number
 * NP_GAPS     the stream of netpress' codec gap_huffman, one lane: canonical Huffman codes, the first bit lowest, of symbols
 *             quotient * values + value: pass (quotient << raw) + raw bits zeros, then comes the value. The last symbol, the
 *             skip, passes (quotients << raw) zeros and has no value. */
enum { NP_DENSE, NP_PALETTE, NP_MASK, NP_GAPS, NP_INT8 };

typedef struct {
    uint8_t form, bits, raw, quotients; /* bits: of a number (NP_PALETTE), of the longest code (NP_GAPS) */
    uint16_t values;                    /* of the palette */
    uint32_t symbols;                   /* NP_GAPS: of the stream; NP_MASK: values other than zero */
    uint32_t bytes;                     /* of the stream */
    const uint8_t *stream;
    const uint8_t *lengths; /* NP_GAPS: bits of each symbol's code, two in a byte, the first lowest */
    const float *palette;   /* the values; NULL: multiples of a step */
    const int8_t *levels;
    float step;
} np_weight;

/* Whole numbers low ... high times scale; inverse is 1 / scale. A byte counts from the lowest. */
typedef struct {
    float scale, inverse;
    int16_t low, high;
} np_grid;

/* y = act(scale * (W x) + bias [+ add]), act(v) = min(max(v, low), high); scale and bias, one a row, may be NULL.
 * Where x is bytes, W is whole numbers (NP_INT8, or a palette of levels), W x is a sum of int32, and the scale is of both. */
typedef struct {
    np_weight weight;
    const float *scale, *bias;
    const np_grid *x, *add, *y;
    float low, high;
    uint16_t rows;
    uint32_t columns;
} np_linear;

enum { NP_MAX, NP_MEAN, NP_MEAN_INSIDE }; /* NP_MEAN_INSIDE: padding does not count */

/* Windows over one channel. Adaptive ones (kernel 0) are as even as they can be. divisor: 0, or what sums are divided by. */
typedef struct {
    uint8_t kind;
    uint16_t height, width, out_height, out_width;
    uint16_t kernel[2], stride[2], pad[2], dilation[2];
    uint32_t divisor;
} np_pool;

typedef struct {
    np_weight weight;
    const float *scale, *bias;
    const np_grid *x, *add, *y; /* y: NULL where there is a pool */
    const np_pool *pool; /* over each filter's plane, last of all; or NULL */
    float low, high;
    uint16_t filters, groups, channels, height, width, out_height, out_width;
    uint16_t kernel[2], stride[2], dilation[2];
    int16_t pad[2]; /* above and left */
} np_conv;

/* Place i of an axis holds place start + (i - before) * step of the input where i - before is in [0, length), else `fill`. */
typedef struct {
    uint16_t size[3], out[3], before[3], length[3], start[3], step[3];
    float fill;
} np_view;

/* Decoding tables that layers with NP_GAPS share: NP_TABLE_ITEMS of uint16_t, `symbols` as many as the largest alphabet has. */
#define NP_TABLE_ITEMS(symbols) ((1u << NP_FAST) + (symbols))

/* add: like y, or NULL; it may be y itself, unless it is bytes and y is not. plane: room for one filter's (out_height, out_width), or
 * NULL where neither pooling, nor sharing of memory, nor a y of bytes needs it; sums: the same where x is bytes. y may be x where every filter reads its
 * own channel alone and is no larger. */
void np_run_linear(const np_linear *layer, const void *x, const void *add, void *y, uint16_t *tables);
void np_run_conv(const np_conv *layer, const void *x, const void *add, void *y, float *plane, int32_t *sums, uint16_t *tables);

/* y may be x, but for padded pools and views. Of a view, grid is of both. */
void np_run_pool(const np_pool *pool, uint32_t channels, const float *x, float *y);
void np_run_view(const np_view *view, const np_grid *grid, const void *x, void *y);
void np_run_add(const np_grid *a_grid, const np_grid *b_grid, const np_grid *y_grid, const void *a, const void *b, void *y,
                uint32_t count, float low, float high);
void np_run_clamp(const np_grid *x_grid, const np_grid *y_grid, const void *x, void *y, uint32_t count, float low, float high);
void np_run_affine(const float *scale, const float *shift, uint32_t channels, uint32_t count, const float *x, float *y, float low,
                   float high);
void np_run_round(const np_grid *grid, const float *x, float *y, uint32_t count); /* stays float32 */
void np_run_softmax(const float *x, float *y, uint32_t count);

/* Stored bytes (height, width, channels) to (channels, height, width): byte * scale + shift of the channel; count = height * width. */
void np_run_bytes(const uint8_t *pixels, const float *scale, const float *shift, uint32_t channels, uint32_t count, float *y);

#endif
