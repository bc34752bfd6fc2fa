/* UTF-8 and JSON strings. */
#ifndef SKYEXPORT_TEXT_H
#define SKYEXPORT_TEXT_H

#include "buffer.h"
#include "skyexport.h"

/* Size of the character at *at*, which is not ASCII; 0 when this is not valid UTF-8. */
size_t sky_character_size(const unsigned char *at, const unsigned char *end);

int sky_is_utf8(struct sky_span text);

/* Whether a character of three bytes is U+2028 or U+2029. */
static inline int sky_is_line_separator(const unsigned char *at)
{
    return at[0] == 0xe2 && at[1] == 0x80 && (at[2] | 1) == 0xa9;
}

/* Not zero unless all of eight bytes are ASCII that a JSON string has as it is. */
static inline uint64_t sky_is_special(uint64_t eight)
{
    /* In ASCII, a byte below the subtracted one borrows, and that sets its highest bit. */
    uint64_t control = eight - SKY_EACH(0x20);
    uint64_t quote = (eight ^ SKY_EACH('"')) - SKY_EACH(0x01);
    uint64_t backslash = (eight ^ SKY_EACH('\\')) - SKY_EACH(0x01);
    return (eight | control | quote | backslash) & SKY_EACH(0x80);
}

/* A text as a JSON string, with its quotes. */
enum sky_status sky_put_json_string(struct sky_out *out, struct sky_span text);

/* Valid UTF-8 in which nothing but U+2028 and U+2029 is escaped. */
int sky_put_with_separators_escaped(struct sky_out *out, struct sky_span text);

/* A number in decimal digits. */
int sky_put_integer(struct sky_out *out, int64_t number);

#endif
