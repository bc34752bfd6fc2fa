/* Bytes that are read, and the two places that bytes go to: a target of fixed size, and buffers that grow. */
#ifndef SKYEXPORT_BUFFER_H
#define SKYEXPORT_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of somebody else, never NULL. */
struct sky_span {
    const unsigned char *at;
    size_t size;
};

/* The part of a place that is still free. Nothing is ever written at its end or beyond. */
struct sky_out {
    unsigned char *at;
    unsigned char *end;
};

/* Memory from sqlite3_realloc64. */
struct sky_buffer {
    unsigned char *bytes;
    size_t capacity;
};

struct sky_context;

/* Have a buffer hold this many bytes at least; what it holds stays. 0 when there is no memory: it stays as it was. */
int sky_buffer_grow(struct sky_context *context, struct sky_buffer *buffer, size_t capacity);

static inline size_t sky_room(const struct sky_out *out)
{
    return (size_t)(out->end - out->at);
}

/* 0 when there is no room; then nothing is written. So it is with all functions named sky_put… */
static inline int sky_put(struct sky_out *out, const void *bytes, size_t size)
{
    if (sky_room(out) < size) {
        return 0;
    }
    memcpy(out->at, bytes, size);
    out->at += size;
    return 1;
}

/* The same at the end of what is free. */
static inline int sky_put_last(struct sky_out *out, const void *bytes, size_t size)
{
    if (sky_room(out) < size) {
        return 0;
    }
    out->end -= size;
    memcpy(out->end, bytes, size);
    return 1;
}

static inline int sky_put_byte(struct sky_out *out, unsigned char byte)
{
    if (out->at == out->end) {
        return 0;
    }
    *out->at++ = byte;
    return 1;
}

/* A short text that is put very often: it is copied as a whole where there is room for that. */
enum { SKY_WORD_BYTES = 32 };

struct sky_word {
    unsigned char bytes[SKY_WORD_BYTES];
    size_t size;
};

static inline int sky_put_word(struct sky_out *out, const struct sky_word *word)
{
    if (sky_room(out) < SKY_WORD_BYTES) {
        return sky_put(out, word->bytes, word->size);
    }
    memcpy(out->at, word->bytes, SKY_WORD_BYTES);
    out->at += word->size;
    return 1;
}

/* Copies short bytes of which more follow: as many as a word has, where there is room and they are there. */
static inline int sky_put_short(struct sky_out *out, struct sky_span span, const unsigned char *end)
{
    if (span.size > SKY_WORD_BYTES || sky_room(out) < SKY_WORD_BYTES || end - span.at < SKY_WORD_BYTES) {
        return sky_put(out, span.at, span.size);
    }
    memcpy(out->at, span.at, SKY_WORD_BYTES);
    out->at += span.size;
    return 1;
}

#define SKY_EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Eight bytes at once, the first one lowest. */
static inline uint64_t sky_load(const unsigned char *at)
{
    static const union {
        uint16_t number;
        unsigned char first;
    } one = {1};
    uint64_t eight;
    memcpy(&eight, at, sizeof eight);
    if (one.first != 1) { /* known to the compiler: the highest byte comes first on this machine */
        eight = (eight & UINT64_C(0x00ff00ff00ff00ff)) << 8 | (eight >> 8 & UINT64_C(0x00ff00ff00ff00ff));
        eight = (eight & UINT64_C(0x0000ffff0000ffff)) << 16 | (eight >> 16 & UINT64_C(0x0000ffff0000ffff));
        eight = eight << 32 | eight >> 32;
    }
    return eight;
}

/* Four bytes at once, the first one lowest; zeros where the end comes before. */
static inline uint32_t sky_load_four(const unsigned char *at, const unsigned char *end)
{
    if (end - at >= 4) {
        return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    }
    uint32_t four = 0;
    for (int i = 0; i < end - at; i++) {
        four |= (uint32_t)at[i] << (8 * i);
    }
    return four;
}

/* Marks bytes that are zero by their highest bit. The lowest mark is right; above it there may be false ones. */
static inline uint64_t sky_zeros(uint64_t eight)
{
    return (eight - SKY_EACH(0x01)) & ~eight & SKY_EACH(0x80);
}

/* How many bytes are below the lowest mark, of which there is one. */
static inline size_t sky_before_mark(uint64_t marks)
{
    uint64_t lowest = marks >> 7;
    return (size_t)(((lowest - 1) & ~lowest & SKY_EACH(0x01)) * SKY_EACH(0x01) >> 56);
}

#endif
