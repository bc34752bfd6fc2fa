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

/* Eight bytes at a time: the first one is the lowest byte or the highest, which no test below depends on. */
static inline uint64_t sky_load(const unsigned char *at)
{
    uint64_t eight;
    memcpy(&eight, at, sizeof eight);
    return eight;
}

#define SKY_EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Not zero when one of eight bytes is zero. */
static inline uint64_t sky_has_zero(uint64_t eight)
{
    return (eight - SKY_EACH(0x01)) & ~eight & SKY_EACH(0x80);
}

#endif
