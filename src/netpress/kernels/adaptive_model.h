/* What the adaptive coder believes about the next level of a matrix of integers.
 *
 * A level is a string of binary answers: is it zero; its sign; is its class above 1, above 2, ...; the place within the class.
 * Classes are 1, 2, 3, 4, then two an octave (5-6, 7-8, 9-12, ...). Each answer is predicted from INPUTS contexts: for every
 * context a slot keeps how often the answer was yes, and the slots' opinions are mixed in the logistic domain by weights that learn
 * as they go (Mahoney 2005, "Adaptive weighing of context models for lossless data compression"; the contexts are ours).
 * Everything is integers, tables included: an encoder and a decoder agree on every machine.
 */
#ifndef NETPRESS_ADAPTIVE_MODEL_H
#define NETPRESS_ADAPTIVE_MODEL_H

#include "common.h"

#define INPUTS 8         /* contexts */
#define MIXED 16         /* what the mixer sees: their opinions, and 8 measures of the neighbourhood as they are */
#define BINS 36          /* zero?, sign, and a question for each of the classes 1 to 32 */
#define CLASSES 33
#define TREE_DEPTH 6     /* bits of the place within a class that have a tree of slots; the rest one slot a bit */
#define TREE 80
#define LOGIT_MOST 2900  /* of 256ths: the chance of 1 in 83,000 */
#define WEIGHT_ONE (1 << 20)
#define OPINION_WEIGHT (WEIGHT_ONE / 7) /* at the start, of a context's opinion */
#define MEASURE_WEIGHT (WEIGHT_ONE / 21)
#define COUNT_MOST 1023
#define CURVES 16     /* for the class of the level before */
#define KNOTS 24      /* of a curve that corrects the mixed opinion */

static uint16_t squash_table[2 * LOGIT_MOST + 1];
static int16_t stretch_table[1 << 14];
static uint32_t rate_table[COUNT_MOST + 1];
static int32_t haste_table[COUNT_MOST + 1]; /* what weights learn faster at first */

/* 65536 / (1 + exp(-x / 256)) and its inverse, from integers alone. */
static void build_tables(void) {
    uint64_t power = (uint64_t)1 << 31; /* exp(-i / 256), of 2^31 */
    for (int i = 0; i <= LOGIT_MOST; i++) {
        uint32_t p = (uint32_t)(((power << 16) + ((((uint64_t)1 << 31) + power) >> 1)) / (((uint64_t)1 << 31) + power));
        p = p < 1 ? 1 : p;
        squash_table[LOGIT_MOST - i] = (uint16_t)p;
        squash_table[LOGIT_MOST + i] = (uint16_t)(65536 - p);
        power = (power * 4278222805u + ((uint64_t)1 << 31)) >> 32; /* 2^32 exp(-1 / 256) */
    }
    int x = 0;
    for (int i = 0; i < 1 << 14; i++) {
        while (x < 2 * LOGIT_MOST && squash_table[x] < 4 * i + 2) x++;
        stretch_table[i] = (int16_t)(x - LOGIT_MOST);
    }
    for (int n = 0; n <= COUNT_MOST; n++) {
        rate_table[n] = 655360u / (10 * (uint32_t)n + 16);
        haste_table[n] = n < COUNT_MOST ? 8192 / (n + 32) : 0;
    }
}

/* About log2 of x (16.16 fixed point) in steps of 1 / 2^fraction octaves, from 2^-9 on: below 25 << fraction. */
NETPRESS_INLINE uint32_t octaves(uint32_t x, int fraction) {
    x += 128;
#if defined(__GNUC__)
    int top = 31 - __builtin_clz(x);
#else
    int top = 31;
    while (!(x >> top)) top--;
#endif
    return ((uint32_t)(top - 7) << fraction) | ((x >> (top - fraction)) & ((1u << fraction) - 1));
}

NETPRESS_INLINE int class_of(uint32_t magnitude) {
    if (magnitude < 5) return (int)magnitude;
    uint32_t x = magnitude - 1;
#if defined(__GNUC__)
    int top = 31 - __builtin_clz(x);
#else
    int top = 31;
    while (!(x >> top)) top--;
#endif
    return 5 + 2 * (top - 2) + (int)((x >> (top - 1)) & 1);
}
/* Bits of the place within a class, and its first magnitude. */
NETPRESS_INLINE int class_bits(int class) { return class < 5 ? 0 : (class - 5) / 2 + 1; }
NETPRESS_INLINE uint32_t class_start(int class) {
    if (class < 5) return (uint32_t)class;
    int top = (class - 5) / 2 + 2;
    return (((2u | ((uint32_t)(class - 5) & 1))) << (top - 1)) + 1;
}

/* Where each input's slots begin, in contexts of BINS slots. */
enum {
    AT0 = 0,
    AT1 = AT0 + 4,
    AT2 = AT1 + 256,
    AT3 = AT2 + 100,
    AT4 = AT3 + 200,
    AT5 = AT4 + 256,
    AT6 = AT5 + 100,
    AT7 = AT6 + 3300,
    CONTEXTS = AT7 + 1024
};
#define PLACES 128  /* places of a kernel that are told apart */
#define SELECT_A 32 /* sets of weights, chosen by row or place, and by the column's mean; a prediction adds one of each */
#define SELECT_B 12

typedef struct {
    Py_ssize_t rows, columns, period, row_period; /* period: columns that make one channel */
    Py_ssize_t breadth;                           /* places of a row of the kernel; the period itself: columns are an image */
    bool image;
    int32_t low, high;                            /* least and greatest level */
    int limit, speed;                             /* slots: most sightings counted; weights: how fast they learn in the end */
    /* what has been learnt */
    uint32_t *slots;   /* CONTEXTS * BINS: 22 bits of chance, 10 of count */
    uint32_t *tree;    /* 2 * CLASSES * TREE */
    uint32_t *curves;  /* CURVES * BINS * KNOTS */
    int32_t *weights_a, *weights_b;
    uint16_t *seen;    /* for each set of weights of A: how often it learnt */
    /* the matrix so far */
    int32_t *history;                            /* ring of padded rows of levels */
    Py_ssize_t pad, width, depth, row, index;    /* padding at both sides; padded width; rows of the ring; the row at work */
    uint32_t *column_mean, *channel_mean;        /* of magnitudes, 16.16 */
    uint32_t row_mean, row_slow, all_mean, row_count, run;
    uint32_t column_rate;
    int32_t *here, *above, *above2; /* rows of the ring, past the padding */
    const int32_t *near[8];         /* neighbours in the kernel and beyond, at column 0 */
    int32_t valid[PLACES][8];          /* by place: -1 where a neighbour belongs to the same kernel, else 0 */
    int place;
    Py_ssize_t channel;
    /* the question at hand */
    uint32_t base[INPUTS], sign_base[INPUTS];
    int select_row, select_mean, select_place;
    uint32_t *asked[INPUTS];
    int32_t stretched[MIXED], raw[8], raw_sign[8];
    int class_left;
    int32_t *set_a, *set_b;
    uint16_t *set_seen;
    uint32_t *corner; /* the nearer knot of the curve */
    uint32_t p;       /* before the curve: what the weights answer for */
    void *memory;
} Model;

NETPRESS_INLINE uint32_t magnitude_of(int32_t level) { return level < 0 ? (uint32_t)-level : (uint32_t)level; }
NETPRESS_INLINE uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static size_t model_bytes(const Model *m) {
    return sizeof(uint32_t) * (CONTEXTS * BINS + 2 * CLASSES * TREE + CURVES * BINS * KNOTS + 2 * (size_t)m->width) +
           sizeof(int32_t) * ((SELECT_A + SELECT_B) * BINS * MIXED + (size_t)(m->depth * m->width)) +
           sizeof(uint16_t) * SELECT_A * BINS + 64;
}

/* Which of the places {left, 2 left, above, above left, above right} and 2 above lie in the same kernel (or anywhere in an image). */
static void find_valid(Model *m, Py_ssize_t group) {
    int w = (int)m->breadth;
    for (int place = 0; place < PLACES; place++) {
        int x = w > 1 ? place % w : place;
        bool alone = group == 1, below = w > 1 && (m->image || place >= w);
        const bool valid[8] = {alone || x > 0,   alone || x > 1, below, below && x > 0, below && x < w - 1, true, true,
                               w > 1 && (m->image || place >= 2 * w)};
        for (int i = 0; i < 8; i++) m->valid[place][i] = valid[i] ? -1 : 0;
    }
}

/* Fills in what follows from rows, columns, periods, low, high, limit and speed; false when there is no memory. */
static bool model_start(Model *m) {
    if (m->period < 1 || m->period > m->columns) m->period = 1;
    if (m->row_period < 1 || m->row_period >= m->rows || m->row_period > PLACES) m->row_period = 1;
    Py_ssize_t group = m->period > 1 ? m->period : m->row_period;
    if (m->breadth < 1 || m->breadth >= m->columns || m->breadth > 4096 || group % m->breadth) m->breadth = 1;
    m->image = m->period > 1 && m->breadth == m->period;
    m->pad = (m->period > 3 ? m->period : 3) + 2 * m->breadth + 1;
    find_valid(m, group);
    m->width = m->columns + 2 * m->pad;
    m->depth = m->row_period > 1 ? m->row_period + 1 + 2 * m->breadth : 3;
    char *memory = calloc(1, model_bytes(m));
    m->memory = memory;
    if (!memory) return false;
    m->slots = (uint32_t *)memory, memory += sizeof(uint32_t) * CONTEXTS * BINS;
    m->tree = (uint32_t *)memory, memory += sizeof(uint32_t) * 2 * CLASSES * TREE;
    m->curves = (uint32_t *)memory, memory += sizeof(uint32_t) * CURVES * BINS * KNOTS;
    m->column_mean = (uint32_t *)memory + m->pad, memory += sizeof(uint32_t) * m->width;
    m->channel_mean = (uint32_t *)memory, memory += sizeof(uint32_t) * m->width;
    m->weights_a = (int32_t *)memory, memory += sizeof(int32_t) * SELECT_A * BINS * MIXED;
    m->weights_b = (int32_t *)memory, memory += sizeof(int32_t) * SELECT_B * BINS * MIXED;
    m->history = (int32_t *)memory, memory += sizeof(int32_t) * m->depth * m->width;
    m->seen = (uint16_t *)memory;
    for (int i = 0; i < SELECT_A * BINS * MIXED; i++) {
        bool sign = i / MIXED % BINS == 1;
        m->weights_a[i] = i % MIXED < INPUTS ? OPINION_WEIGHT : sign ? 0 : MEASURE_WEIGHT;
    }
    for (int i = 0; i < 2 * CLASSES * TREE; i++) m->tree[i] = 1u << 31;
    for (int i = 0; i < 4 * BINS; i++) m->slots[i] = 1u << 31;
    for (int i = 0; i < CURVES * BINS * KNOTS; i++) {
        int x = i % KNOTS * 256;
        m->curves[i] = (uint32_t)squash_table[x > 2 * LOGIT_MOST ? 2 * LOGIT_MOST : x] << 16 | 20;
    }
    m->all_mean = 1 << 14;
    m->row = m->index = -1;
    return true;
}

static void model_end(Model *m) { free(m->memory); }

/* Back to the first row, with all that was learnt. */
static void model_rewind(Model *m) {
    m->row = m->index = -1;
    memset(m->history, 0, sizeof(int32_t) * (size_t)(m->depth * m->width));
}

NETPRESS_INLINE void begin_row(Model *m) {
    m->row++;
    m->index++;
    m->here = m->history + (m->row % m->depth) * m->width + m->pad;
    m->above = m->history + ((m->row + m->depth - 1) % m->depth) * m->width + m->pad;
    m->above2 = m->history + ((m->row + m->depth - (m->row_period > 1 ? m->row_period : 2)) % m->depth) * m->width + m->pad;
    Py_ssize_t w = m->breadth;
    if (m->row_period > 1) {
        const Py_ssize_t back[8] = {1, 2, w, w + 1, w - 1, m->row_period, 0, 2 * w};
        for (int i = 0; i < 8; i++) m->near[i] = m->history + ((m->row + m->depth - back[i]) % m->depth) * m->width + m->pad;
        m->near[6]--;
    } else {
        const Py_ssize_t back[8] = {1, 2, w, w + 1, w - 1, m->period > 1 ? m->period : 3, 0, 2 * w};
        for (int i = 0; i < 8; i++) m->near[i] = m->here - back[i];
        m->near[6] = m->above;
    }
    m->column_rate = m->row == 0 ? 0 : rate_table[m->row < 40 ? m->row : 40];
    m->row_mean = m->row_slow = m->all_mean;
    m->row_count = 4;
    m->run = 0;
    m->place = 0;
    m->channel = 0;
    if (m->row_period > 1) m->place = (int)(m->index % m->row_period);
}

/* A row that is known to hold zeros alone: to the rows after it as if it were not there, unless they count places by it. */
NETPRESS_INLINE void skip_row(Model *m) {
    if (m->row_period == 1) return;
    begin_row(m);
    memset(m->here, 0, sizeof(int32_t) * (size_t)m->columns);
}

/* Eighths of an octave to 256ths of a natural logarithm. */
NETPRESS_INLINE int32_t to_logit(int32_t eighths) {
    int32_t x = eighths * 22;
    return x > 2047 ? 2047 : x < -2047 ? -2047 : x;
}

/* Finds the contexts of the level in column c; those of its sign wait until it is not zero. */
NETPRESS_INLINE void find_contexts(Model *m, Py_ssize_t c) {
    const int32_t *here = m->here + c, *above = m->above + c, *above2 = m->above2 + c;
    Py_ssize_t period = m->period > 1 ? m->period : 3;
    uint32_t a = magnitude_of(here[-1]), b = magnitude_of(here[-2]), d = magnitude_of(here[-period]);
    uint32_t u = magnitude_of(above[0]), v = magnitude_of(above2[0]);
    uint32_t ul = magnitude_of(above[-1]), ur = magnitude_of(above[1]);
    if (m->row == 0) m->column_mean[c] = m->all_mean;
    uint32_t column = m->column_mean[c];
    uint32_t sides = (m->column_mean[c - 1] >> 2) + (m->column_mean[c + 1] >> 2) + (column >> 1);
    if (m->image) sides = (sides >> 1) + (m->column_mean[c - m->period] >> 2) + (m->column_mean[c + m->period] >> 2);
    uint32_t near = 3 * a + 2 * b + 2 * d + 3 * u + 2 * v + ul + ur; /* of 14 */
    uint32_t qnear = octaves(least(near, 1 << 19) << 12, 2);
    uint32_t *base = m->base;
    base[0] = AT0;
    base[1] = AT1 + least((uint32_t)class_of(a), 15) * 16 + least((uint32_t)class_of(b), 15);
    base[2] = AT2 + octaves(column, 2);
    base[3] = AT3 + ((octaves(column, 3) + octaves(m->row_slow, 3)) >> 1); /* scales of a matrix are often of rank one */
    base[4] = AT4 + least((uint32_t)class_of(u), 15) * 16 + least((uint32_t)class_of(d), 15);
    base[5] = AT5 + qnear;
    base[6] = AT6 + ((m->period > 1 || m->row_period > 1) && !m->image
                         ? (least((uint32_t)m->place, PLACES - 1) * 25 + octaves(m->channel_mean[m->channel], 0))
                         : octaves(sides, 2));
    base[7] = AT7 + least(m->run ? 1 + octaves(m->run << 7, 0) : 0, 15) * 50 + octaves(m->row_slow, 1);
    const int32_t *valid = m->valid[least((uint32_t)m->place, PLACES - 1)];
    uint32_t inside = 0;
    for (int i = 0; i < 5; i++) inside += magnitude_of(m->near[i][c] & valid[i]);
    int32_t usual = (int32_t)octaves(m->all_mean, 3);
    const uint32_t measures[7] = {column, m->row_slow, m->row_mean, least(near, 1 << 19) << 12, m->channel_mean[m->channel],
                                  least(inside, 1 << 17) << 14, sides};
    for (int i = 0; i < 7; i++) m->raw[i] = to_logit((int32_t)octaves(measures[i], 3) - usual);
    m->raw[7] = 256;
    m->class_left = (int)least((uint32_t)class_of(a), 15);
    m->select_row = (int)least((uint32_t)m->row, 3);
    m->select_place = m->period > 1 || m->row_period > 1 ? (int)least((uint32_t)m->place, 27) + 4 : m->select_row;
    m->select_mean = (int)least(octaves(column, 0), SELECT_B - 1);
}

NETPRESS_INLINE uint32_t sign3(int32_t level) { return level < 0 ? 2 : level > 0; }

NETPRESS_INLINE void find_sign_contexts(Model *m, Py_ssize_t c) {
    const int32_t *here = m->here + c, *above = m->above + c, *above2 = m->above2 + c;
    Py_ssize_t period = m->period > 1 ? m->period : 3;
    uint32_t a = sign3(here[-1]), b = sign3(here[-2]), d = sign3(here[-period]), u = sign3(above[0]), v = sign3(above2[0]);
    const int32_t *valid = m->valid[least((uint32_t)m->place, PLACES - 1)];
    for (int i = 0; i < 8; i++) {
        int32_t level = m->near[i][c] & valid[i];
        m->raw_sign[i] = (level > 4 ? 4 : level < -4 ? -4 : level) * 128;
    }
    uint32_t *base = m->sign_base;
    base[0] = AT0;
    base[1] = AT1 + a * 3 + b;
    base[2] = AT2 + u * 3 + v;
    base[3] = AT3 + (a * 3 + u) * 3 + d;
    base[4] = AT4 + d * 3 + sign3(above[-1]);
    base[5] = AT5 + sign3(above[1]) * 3 + u;
    base[6] = AT6 + least((uint32_t)m->place, PLACES - 1) * 9 + a * 3 + d;
    base[7] = AT7 + (((a * 3 + b) * 3 + u) * 3 + d) * 3 + v;
}

/* The chance (of 65536) that the answer to question `bin` is yes. */
NETPRESS_INLINE uint32_t predict(Model *m, const uint32_t *base, int bin) {
    memcpy(m->stretched + INPUTS, bin == 1 ? m->raw_sign : m->raw, sizeof m->raw);
    uint32_t *first = m->slots + base[0] * BINS + bin;
    m->asked[0] = first;
    m->stretched[0] = stretch_table[*first >> 18];
    for (int i = 1; i < INPUTS; i++) {
        uint32_t *slot = m->slots + base[i] * BINS + bin;
        if (NETPRESS_UNLIKELY(!*slot)) *slot = (*first & ~1023u) | 2; /* never seen: think what all think */
        m->asked[i] = slot;
        m->stretched[i] = stretch_table[*slot >> 18];
    }
    int select = bin < 2 ? m->select_place : m->select_row;
    m->set_a = m->weights_a + (select * BINS + bin) * MIXED;
    m->set_b = m->weights_b + (m->select_mean * BINS + bin) * MIXED;
    m->set_seen = m->seen + select * BINS + bin;
    int32_t sum = 0;
    for (int i = 0; i < MIXED; i++) sum += ((m->set_a[i] + m->set_b[i]) >> 7) * m->stretched[i];
    sum >>= 13;
    sum = sum > LOGIT_MOST ? LOGIT_MOST : sum < -LOGIT_MOST ? -LOGIT_MOST : sum;
    m->p = squash_table[sum + LOGIT_MOST];
    int cell = (sum + LOGIT_MOST) >> 8, part = (sum + LOGIT_MOST) & 255;
    uint32_t *curve = m->curves + (m->class_left * BINS + bin) * KNOTS + cell;
    m->corner = curve + (part >> 7);
    uint32_t refined = ((curve[0] >> 16) * (256 - (uint32_t)part) + (curve[1] >> 16) * (uint32_t)part) >> 8;
    refined = (3 * m->p + refined + 2) >> 2;
    return refined < 1 ? 1 : refined > 65535 ? 65535 : refined;
}

/* A slot after one more answer: `rate` (of 65536) of the way to it. The product is split so that it fits 32 bits. */
NETPRESS_INLINE uint32_t moved_by(uint32_t slot, int32_t aim, int32_t rate, uint32_t limit) {
    uint32_t count = slot & 1023;
    int32_t p = (int32_t)(slot >> 10), way = aim - p;
    p += ((way >> 8) * rate + (((way & 255) * rate) >> 8)) >> 8;
    return (uint32_t)p << 10 | (count + (count < limit));
}
NETPRESS_INLINE uint32_t moved(uint32_t slot, int bit, int limit) {
    return moved_by(slot, bit ? (1 << 22) - 1 : 0, (int32_t)rate_table[slot & 1023], (uint32_t)limit);
}

/* Learns the answer to the question that was predicted last. */
NETPRESS_INLINE void learn(Model *m, int bit) {
    int32_t seen = *m->set_seen;
    int32_t error = (((bit << 16) - (int32_t)m->p) * (m->speed + haste_table[seen])) >> 4;
    *m->set_seen = (uint16_t)(seen + (seen < COUNT_MOST));
    error = error > 1 << 19 ? 1 << 19 : error < -(1 << 19) ? -(1 << 19) : error;
    for (int i = 0; i < MIXED; i++) {
        int32_t step = (error * m->stretched[i] + (1 << 13)) >> 14;
        int32_t a = m->set_a[i] + step, b = m->set_b[i] + step;
        m->set_a[i] = a > 2 * WEIGHT_ONE ? 2 * WEIGHT_ONE : a < -2 * WEIGHT_ONE ? -2 * WEIGHT_ONE : a;
        m->set_b[i] = b > 2 * WEIGHT_ONE ? 2 * WEIGHT_ONE : b < -2 * WEIGHT_ONE ? -2 * WEIGHT_ONE : b;
    }
    *m->corner = moved(*m->corner, bit, m->limit);
    uint32_t slots[INPUTS];
    int32_t rates[INPUTS], aim = bit ? (1 << 22) - 1 : 0;
    for (int i = 0; i < INPUTS; i++) slots[i] = *m->asked[i];
    for (int i = 0; i < INPUTS; i++) rates[i] = (int32_t)rate_table[slots[i] & 1023];
    for (int i = 0; i < INPUTS; i++) slots[i] = moved_by(slots[i], aim, rates[i], (uint32_t)m->limit);
    for (int i = 0; i < INPUTS; i++) *m->asked[i] = slots[i];
}

NETPRESS_INLINE void step_on(Model *m) {
    if (m->period > 1) {
        if (++m->place == m->period) m->place = 0, m->channel++;
    } else {
        m->channel++;
    }
}

/* Enters a level that has been coded (or was known) into what the next contexts are made of. */
NETPRESS_INLINE void enter(Model *m, Py_ssize_t c, int32_t level) {
    int64_t magnitude = (int64_t)least(magnitude_of(level), 32767) << 16;
    m->here[c] = level;
    m->column_mean[c] += (int32_t)(((magnitude - m->column_mean[c]) * m->column_rate) >> 16);
    m->row_mean += (int32_t)(((magnitude - m->row_mean) * rate_table[m->row_count < 24 ? m->row_count : 24]) >> 16);
    m->row_slow += (int32_t)(((magnitude - m->row_slow) * rate_table[m->row_count]) >> 16);
    m->row_count += m->row_count < 200;
    m->all_mean += (int32_t)((magnitude - m->all_mean) >> 10);
    uint32_t *channel = m->channel_mean + m->channel;
    *channel += (int32_t)((magnitude - *channel) >> 5);
    m->run = level ? 0 : m->run + 1;
    step_on(m);
}

/* A column that is known to hold zeros alone. */
NETPRESS_INLINE void pass_over(Model *m, Py_ssize_t c) {
    m->here[c] = 0;
    step_on(m);
}

#endif
