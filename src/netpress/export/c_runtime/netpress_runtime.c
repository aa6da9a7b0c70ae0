/* See netpress_runtime.h. Part of netpress, Apache License 2.0. */
#include "netpress_runtime.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* ---------------------------------------------------------------- decoding weights */

typedef union {
    float real;
    int32_t level;
} np_number;

typedef struct {
    const np_weight *weight;
    uint16_t *fast, *order; /* by the next bits: symbol << 4 | bits of its code, 0: a longer one; symbols in the order of codes */
    uint16_t counts[NP_LONGEST + 1];
    uint32_t columns, row, column; /* column: the next one to look at; NP_GAPS: of the value that waits, which may lie beyond */
    uint32_t at, window, left;     /* the stream's next byte; its next bits; symbols, or values, that are left */
    uint32_t taken;                /* NP_MASK: values so far */
    uint8_t held, waits, whole;    /* bits in the window; whether a value waits for its row; whether values are whole numbers */
    np_number value;
} np_reader;

static uint32_t np_length(const np_weight *w, uint32_t symbol) { return w->lengths[symbol >> 1] >> (4 * (symbol & 1)) & 15; }

static uint32_t np_alphabet(const np_weight *w) { return (uint32_t)w->values * w->quotients + 1; }

/* Canonical codes: shorter ones first, equals by symbol; a code's first bit is its highest, and the lowest in the stream. */
static void np_build(np_reader *r) {
    const np_weight *w = r->weight;
    const uint32_t symbols = np_alphabet(w);
    uint32_t place[NP_LONGEST + 2] = {0}, next[NP_LONGEST + 2] = {0};
    memset(r->counts, 0, sizeof r->counts);
    memset(r->fast, 0, sizeof(uint16_t) << NP_FAST);
    for (uint32_t s = 0; s < symbols; s++) r->counts[np_length(w, s)]++;
    r->counts[0] = 0;
    for (uint32_t l = 1; l <= NP_LONGEST; l++) {
        place[l + 1] = place[l] + r->counts[l];
        next[l + 1] = (next[l] + r->counts[l]) << 1;
    }
    for (uint32_t s = 0; s < symbols; s++) {
        const uint32_t bits = np_length(w, s);
        if (!bits) continue;
        r->order[place[bits]++] = (uint16_t)s;
        const uint32_t code = next[bits]++;
        uint32_t reversed = 0;
        for (uint32_t b = 0; b < bits; b++) reversed |= (code >> b & 1) << (bits - 1 - b);
        if (bits <= NP_FAST)
            for (; reversed < 1u << NP_FAST; reversed += 1u << bits) r->fast[reversed] = (uint16_t)(s << 4 | bits);
    }
}

static void np_open(np_reader *r, const np_weight *w, uint32_t columns, int whole, uint16_t *tables) {
    memset(r, 0, sizeof *r);
    r->weight = w;
    r->columns = columns;
    r->whole = (uint8_t)whole;
    r->left = w->symbols;
    if (w->form == NP_GAPS) {
        r->fast = tables;
        r->order = tables + (1u << NP_FAST);
        np_build(r);
    }
}

/* Makes sure of at least 25 bits, zeros behind the stream's end. */
static void np_fill(np_reader *r) {
    for (; r->held <= 24; r->held = (uint8_t)(r->held + 8))
        if (r->at < r->weight->bytes) r->window |= (uint32_t)r->weight->stream[r->at++] << r->held;
}

static uint32_t np_bits(np_reader *r, uint32_t bits) {
    const uint32_t value = r->window & ((1u << bits) - 1);
    r->window >>= bits;
    r->held = (uint8_t)(r->held - bits);
    return value;
}

/* A value of the palette. */
static np_number np_value(const np_reader *r, uint32_t number) {
    const np_weight *w = r->weight;
    np_number value = {0.0f};
    if (r->whole) value.level = number < w->values && w->levels ? w->levels[number] : 0;
    else if (number < w->values) value.real = w->palette ? w->palette[number] : (float)w->levels[number] * w->step;
    return value;
}

static int np_is_zero(const np_reader *r, np_number value) { return r->whole ? value.level == 0 : value.real == 0.0f; }

/* The next symbol; the alphabet's size where the bits are no code. */
static uint32_t np_symbol(np_reader *r) {
    uint32_t code = 0, first = 0, place = 0;
    if (!r->weight->bits) return 0; /* an only symbol takes no bits */
    const uint32_t entry = r->fast[r->window & ((1u << NP_FAST) - 1)];
    if (entry) {
        np_bits(r, entry & 15);
        return entry >> 4;
    }
    for (uint32_t l = 1; l <= r->weight->bits && l <= NP_LONGEST; l++) {
        code |= r->window >> (l - 1) & 1;
        const uint32_t count = r->counts[l];
        if (code < first + count && code >= first) {
            np_bits(r, l);
            return r->order[place + (code - first)];
        }
        place += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    return np_alphabet(r->weight);
}

/* Decodes until a value waits in r->value at r->column, counted from the row's begin, or none is left. */
static void np_await(np_reader *r) {
    const np_weight *w = r->weight;
    const uint32_t skip = np_alphabet(w) - 1;
    while (!r->waits && r->left) {
        np_fill(r);
        const uint32_t symbol = np_symbol(r);
        uint32_t gap = (uint32_t)w->quotients << w->raw;
        r->left--;
        if (symbol < skip) {
            const uint32_t quotient = symbol / w->values;
            gap = (quotient << w->raw) + np_bits(r, w->raw);
            r->value = np_value(r, symbol - quotient * w->values);
            r->waits = 1;
        }
        r->column += gap;
        if (symbol > skip || r->column >= UINT32_MAX - 0xffff) r->left = 0, r->waits = 0; /* a damaged stream ends here */
    }
}

/* Up to NP_EVENTS of the row's values that are left: their columns and values, in order; 0 at its end, and the next row begins. */
static uint32_t np_take(np_reader *r, uint32_t *columns, np_number *values) {
    const np_weight *w = r->weight;
    uint32_t n = 0;
    if (w->form == NP_GAPS) {
        while (n < NP_EVENTS) {
            np_await(r);
            if (!r->waits || r->column >= r->columns) break;
            columns[n] = r->column++;
            values[n++] = r->value;
            r->waits = 0;
        }
        if (!n && (r->waits || r->column >= r->columns)) r->column -= r->columns;
        return n;
    }
    for (; n < NP_EVENTS && r->column < r->columns; r->column++) {
        np_number value = {0.0f};
        if (w->form == NP_INT8) {
            const int32_t level = r->at < w->bytes ? (int8_t)w->stream[r->at++] : 0;
            if (r->whole) value.level = level;
            else value.real = (float)level;
        } else if (w->form == NP_DENSE) {
            if (!r->whole) value.real = w->palette[r->row * r->columns + r->column];
        } else {
            np_fill(r);
            const uint32_t number = np_bits(r, w->bits);
            if (w->form == NP_PALETTE) value = np_value(r, number);
            else if (number && r->taken < w->symbols && !r->whole) value.real = w->palette[r->taken++];
        }
        if (w->form != NP_DENSE && np_is_zero(r, value)) continue;
        columns[n] = r->column;
        values[n++] = value;
    }
    if (!n) r->column = 0, r->row++;
    return n;
}

/* ---------------------------------------------------------------- layers */

static float np_within(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

/* The nearest whole number of the grid, halves to even; the least of what is no number. */
static int32_t np_level(const np_grid *grid, float v) {
    v *= grid->inverse;
    if (!(v > (float)grid->low)) return grid->low;
    if (v >= (float)grid->high) return grid->high;
    const int32_t whole = (int32_t)v; /* towards 0 */
    const float rest = v - (float)whole;
    if (rest > 0.5f || (rest == 0.5f && whole & 1)) return whole + 1;
    if (rest < -0.5f || (rest == -0.5f && whole & 1)) return whole - 1;
    return whole;
}

static float np_get(const void *x, const np_grid *grid, uint32_t i) {
    return grid ? (float)(((const uint8_t *)x)[i] + grid->low) * grid->scale : ((const float *)x)[i];
}

static void np_put(void *y, const np_grid *grid, uint32_t i, float v) {
    if (grid) ((uint8_t *)y)[i] = (uint8_t)(np_level(grid, v) - grid->low);
    else ((float *)y)[i] = v;
}

void np_run_linear(const np_linear *layer, const void *x, const void *add, void *y, uint16_t *tables) {
    np_reader reader;
    uint32_t columns[NP_EVENTS], n;
    np_number values[NP_EVENTS];
    const uint8_t *bytes = x;
    const float *reals = x;
    np_open(&reader, &layer->weight, layer->columns, layer->x != NULL, tables);
    for (uint32_t row = 0; row < layer->rows; row++) {
        float sum = 0.0f;
        int32_t whole = 0;
        while ((n = np_take(&reader, columns, values)) > 0)
            if (layer->x)
                for (uint32_t i = 0; i < n; i++) whole += values[i].level * (bytes[columns[i]] + layer->x->low);
            else
                for (uint32_t i = 0; i < n; i++) sum += values[i].real * reals[columns[i]];
        if (layer->x) sum = (float)whole;
        if (layer->scale) sum *= layer->scale[row];
        if (layer->bias) sum += layer->bias[row];
        if (add) sum += np_get(add, layer->add, row);
        np_put(y, layer->y, row, np_within(sum, layer->low, layer->high));
    }
}

/* The places [first, last) of an output axis whose input place, place * stride + shift, lies in [0, size). */
static void np_reach(int32_t shift, int32_t stride, int32_t size, int32_t out, int32_t *first, int32_t *last) {
    *first = shift < 0 ? (stride - 1 - shift) / stride : 0;
    *last = size > shift ? (size - shift - 1) / stride + 1 : 0;
    if (*last > out) *last = out;
}

/* Where one weight of a filter reaches: rows top ... bottom of the plane, `count` places from `left` of each, and the input's place for
 * the first of them; what lies outside of the input is zero. */
typedef struct {
    int32_t top, bottom, left, count, from;
} np_span;

static np_span np_spanned(const np_conv *c, uint32_t column) {
    const uint32_t width = c->kernel[1], area = (uint32_t)c->kernel[0] * width, channel = column / area, place = column - channel * area;
    const int32_t ky = (int32_t)(place / width), kx = (int32_t)(place - (place / width) * width);
    const int32_t down = ky * c->dilation[0] - c->pad[0], right = kx * c->dilation[1] - c->pad[1];
    np_span s;
    int32_t end;
    np_reach(down, c->stride[0], c->height, c->out_height, &s.top, &s.bottom);
    np_reach(right, c->stride[1], c->width, c->out_width, &s.left, &end);
    s.count = end - s.left;
    if (s.count <= 0) s.bottom = s.top;
    s.from = (int32_t)(channel * ((uint32_t)c->height * c->width)) + (s.top * c->stride[0] + down) * (int32_t)c->width +
             s.left * c->stride[1] + right;
    return s;
}

/* Adds one weight times its channel, as far as it reaches, to the plane. */
static void np_spread(const np_conv *c, const float *restrict x, uint32_t column, float value, float *restrict plane) {
    const np_span s = np_spanned(c, column);
    const int32_t step = c->stride[1];
    const float *from = x + s.from;
    for (int32_t i = s.top; i < s.bottom; i++, from += c->stride[0] * (int32_t)c->width) {
        float *to = plane + (i * (int32_t)c->out_width + s.left);
        if (step == 1)
            for (int32_t j = 0; j < s.count; j++) to[j] += value * from[j];
        else
            for (int32_t j = 0; j < s.count; j++) to[j] += value * from[j * step];
    }
}

/* The same of integers; bytes count from `low`. */
static void np_spread_bytes(const np_conv *c, const uint8_t *restrict x, uint32_t column, int32_t value, int32_t *restrict plane) {
    const np_span s = np_spanned(c, column);
    const int32_t step = c->stride[1], low = c->x->low;
    const uint8_t *from = x + s.from;
    for (int32_t i = s.top; i < s.bottom; i++, from += c->stride[0] * (int32_t)c->width) {
        int32_t *to = plane + (i * (int32_t)c->out_width + s.left);
        if (step == 1)
            for (int32_t j = 0; j < s.count; j++) to[j] += value * (from[j] + low);
        else
            for (int32_t j = 0; j < s.count; j++) to[j] += value * (from[j * step] + low);
    }
}

void np_run_conv(const np_conv *layer, const void *x, const void *add, void *y, float *plane, int32_t *sums, uint16_t *tables) {
    np_reader reader;
    uint32_t columns[NP_EVENTS], n;
    np_number values[NP_EVENTS];
    const uint32_t area = (uint32_t)layer->out_height * layer->out_width, share = layer->channels / layer->groups;
    const uint32_t wide = share * layer->kernel[0] * layer->kernel[1], together = layer->filters / layer->groups;
    np_open(&reader, &layer->weight, wide, layer->x != NULL, tables);
    for (uint32_t row = 0; row < layer->filters; row++) {
        const uint32_t from = row / together * share * layer->height * layer->width;
        float *reals = plane ? plane : (float *)y + row * area; /* not touched where there are integers */
        for (uint32_t i = 0; i < area; i++)
            if (layer->x) sums[i] = 0;
            else reals[i] = 0.0f;
        while ((n = np_take(&reader, columns, values)) > 0)
            for (uint32_t i = 0; i < n; i++)
                if (layer->x) np_spread_bytes(layer, (const uint8_t *)x + from, columns[i], values[i].level, sums);
                else np_spread(layer, (const float *)x + from, columns[i], values[i].real, reals);
        const float scale = layer->scale ? layer->scale[row] : 1.0f, bias = layer->bias ? layer->bias[row] : 0.0f;
        for (uint32_t i = 0; i < area; i++) {
            const float more = add ? np_get(add, layer->add, row * area + i) + bias : bias;
            const float made = np_within((layer->x ? (float)sums[i] : reals[i]) * scale + more, layer->low, layer->high);
            if (layer->pool) plane[i] = made;
            else np_put(y, layer->y, row * area + i, made);
        }
        if (layer->pool)
            np_run_pool(layer->pool, 1, plane, (float *)y + row * ((uint32_t)layer->pool->out_height * layer->pool->out_width));
    }
}

/* ---------------------------------------------------------------- pools */

/* The window of place `i` along an axis: from `first`, every `step`, before `last`; gives how long it is, padding included. */
static int32_t np_window(const np_pool *p, int axis, int32_t i, int32_t *first, int32_t *last, int32_t *step) {
    const int32_t size = axis ? p->width : p->height, out = axis ? p->out_width : p->out_height;
    *step = 1;
    if (!p->kernel[axis]) {
        *first = i * size / out;
        *last = ((i + 1) * size + out - 1) / out;
        return *last - *first;
    }
    *step = p->dilation[axis];
    const int32_t begin = i * p->stride[axis] - p->pad[axis], end = begin + (p->kernel[axis] - 1) * *step + 1;
    *first = begin < 0 ? begin + (*step - 1 - begin) / *step * *step : begin;
    *last = end < size ? end : size;
    return (end < size + p->pad[axis] ? end : size + p->pad[axis]) - begin;
}

static void np_pool_plane(const np_pool *p, const float *x, float *y) {
    int32_t top, bottom, left, right, down, across;
    for (int32_t i = 0; i < p->out_height; i++) {
        const int32_t high = np_window(p, 0, i, &top, &bottom, &down);
        for (int32_t j = 0; j < p->out_width; j++) {
            const int32_t wide = np_window(p, 1, j, &left, &right, &across);
            float found = p->kind == NP_MAX ? -HUGE_VALF : 0.0f;
            for (int32_t k = top; k < bottom; k += down)
                for (int32_t l = left; l < right; l += across) {
                    const float v = x[k * (int32_t)p->width + l];
                    if (p->kind != NP_MAX) found += v;
                    else if (v > found) found = v;
                }
            if (p->kind != NP_MAX) {
                const int32_t inside = bottom > top && right > left ? (bottom - top) * (right - left) : 1;
                found /= p->divisor ? (float)p->divisor : (float)(p->kind == NP_MEAN ? high * wide : inside);
            }
            y[i * (int32_t)p->out_width + j] = found;
        }
    }
}

void np_run_pool(const np_pool *pool, uint32_t channels, const float *x, float *y) {
    const uint32_t area = (uint32_t)pool->height * pool->width, out = (uint32_t)pool->out_height * pool->out_width;
    for (uint32_t c = 0; c < channels; c++) np_pool_plane(pool, x + c * area, y + c * out);
}

/* ---------------------------------------------------------------- everything else */

/* The input's place on an axis, or the axis' size where there is none. */
static uint32_t np_source(const np_view *v, int axis, uint32_t i) {
    if (i < v->before[axis] || i - v->before[axis] >= v->length[axis]) return v->size[axis];
    return v->start[axis] + (i - v->before[axis]) * v->step[axis];
}

void np_run_view(const np_view *view, const np_grid *grid, const void *x, void *y) {
    const uint8_t *bytes = x;
    const float *reals = x;
    uint32_t at = 0;
    for (uint32_t c = 0; c < view->out[0]; c++) {
        const uint32_t from_c = np_source(view, 0, c);
        for (uint32_t i = 0; i < view->out[1]; i++) {
            const uint32_t from_i = np_source(view, 1, i);
            for (uint32_t j = 0; j < view->out[2]; j++, at++) {
                const uint32_t from_j = np_source(view, 2, j);
                const int there = from_c < view->size[0] && from_i < view->size[1] && from_j < view->size[2];
                const uint32_t from = there ? (from_c * view->size[1] + from_i) * view->size[2] + from_j : 0;
                if (grid) ((uint8_t *)y)[at] = there ? bytes[from] : (uint8_t)-grid->low; /* what it fills with is 0 */
                else ((float *)y)[at] = there ? reals[from] : view->fill;
            }
        }
    }
}

void np_run_add(const np_grid *a_grid, const np_grid *b_grid, const np_grid *y_grid, const void *a, const void *b, void *y,
                uint32_t count, float low, float high) {
    for (uint32_t i = 0; i < count; i++) np_put(y, y_grid, i, np_within(np_get(a, a_grid, i) + np_get(b, b_grid, i), low, high));
}

void np_run_clamp(const np_grid *x_grid, const np_grid *y_grid, const void *x, void *y, uint32_t count, float low, float high) {
    for (uint32_t i = 0; i < count; i++) np_put(y, y_grid, i, np_within(np_get(x, x_grid, i), low, high));
}

void np_run_affine(const float *scale, const float *shift, uint32_t channels, uint32_t count, const float *x, float *y, float low,
                   float high) {
    for (uint32_t c = 0; c < channels; c++)
        for (uint32_t i = 0; i < count; i++, x++, y++) *y = np_within(*x * scale[c] + shift[c], low, high);
}

void np_run_round(const np_grid *grid, const float *x, float *y, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) y[i] = (float)np_level(grid, x[i]) * grid->scale;
}

void np_run_softmax(const float *x, float *y, uint32_t count) {
    float most = x[0], sum = 0.0f;
    for (uint32_t i = 1; i < count; i++)
        if (x[i] > most) most = x[i];
    for (uint32_t i = 0; i < count; i++) sum += y[i] = expf(x[i] - most);
    for (uint32_t i = 0; i < count; i++) y[i] /= sum;
}

void np_run_bytes(const uint8_t *pixels, const float *scale, const float *shift, uint32_t channels, uint32_t count, float *y) {
    for (uint32_t c = 0; c < channels; c++)
        for (uint32_t i = 0; i < count; i++) y[c * count + i] = (float)pixels[i * channels + c] * scale[c] + shift[c];
}
