/* UTF-8 and JSON strings. */
#ifndef SKYEXPORT_TEXT_H
#define SKYEXPORT_TEXT_H

#include "buffer.h"
#include "skyexport.h"

static inline int sky_is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Size of the character at *at*, which is not ASCII; 0 when this is not valid UTF-8. */
static inline size_t sky_character_size(const unsigned char *at, const unsigned char *end)
{
    size_t left = (size_t)(end - at);
    unsigned char first = at[0];
    if (first < 0xc2 || first > 0xf4 || left < 2) {
        return 0;
    }
    if (first < 0xe0) {
        return sky_is_continuation(at[1]) ? 2 : 0;
    }
    /* The second byte tells what is overlong, a surrogate, or beyond U+10FFFF. */
    unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < least || at[1] > most || left < 3 || !sky_is_continuation(at[2])) {
        return 0;
    }
    if (first < 0xf0) {
        return 3;
    }
    return left >= 4 && sky_is_continuation(at[3]) ? 4 : 0;
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
