/* UTF-8 and JSON strings. */
#ifndef SKYEXPORT_TEXT_H
#define SKYEXPORT_TEXT_H

#include "buffer.h"
#include "skyexport.h"

/* Size of the character at *at*, which is not ASCII; 0 when this is not valid UTF-8. */
static inline size_t sky_character_size(const unsigned char *at, const unsigned char *end)
{
    uint32_t four = sky_load_four(at, end);
    if ((four & 0xc0e0) == 0x80c0) {
        return (four & 0x1e) != 0 ? 2 : 0; /* else overlong */
    }
    if ((four & 0xc0c0f0) == 0x8080e0) {
        uint32_t first_bits = four & 0x200f;
        return first_bits != 0 && first_bits != 0x200d ? 3 : 0; /* else overlong, or a surrogate */
    }
    if ((four & 0xc0c0c0f8) == 0x808080f0) {
        uint32_t first_bits = (four & 0x07) << 2 | (four >> 12 & 0x03);
        return first_bits >= 0x01 && first_bits <= 0x10 ? 4 : 0; /* else overlong, or beyond U+10FFFF */
    }
    return 0;
}

int sky_is_utf8(struct sky_span text);

/* Whether a character of three bytes is U+2028 or U+2029. */
static inline int sky_is_line_separator(const unsigned char *at)
{
    return at[0] == 0xe2 && at[1] == 0x80 && (at[2] | 1) == 0xa9;
}

/* Marks bytes that a JSON string does not have as they are, and those that are not ASCII, as `sky_zeros` does. */
static inline uint64_t sky_specials(uint64_t eight)
{
    /* In ASCII, a byte below the subtracted one borrows, and that sets its highest bit. */
    uint64_t control = eight - SKY_EACH(0x20);
    uint64_t quote = (eight ^ SKY_EACH('"')) - SKY_EACH(0x01);
    uint64_t backslash = (eight ^ SKY_EACH('\\')) - SKY_EACH(0x01);
    return (eight | control | quote | backslash) & SKY_EACH(0x80);
}

static inline int sky_is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

enum { SKY_SINGLE_CHARACTERS = 8 }; /* to look at one by one, before trying eight bytes at once again */

/* A text as a JSON string, with its quotes. */
enum sky_status sky_put_json_string(struct sky_out *out, struct sky_span text);

/* Valid UTF-8 in which nothing but U+2028 and U+2029 is escaped. */
int sky_put_with_separators_escaped(struct sky_out *out, struct sky_span text);

/* A number in decimal digits. */
int sky_put_integer(struct sky_out *out, int64_t number);

#endif
