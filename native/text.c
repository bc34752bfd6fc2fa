#include "text.h"

int sky_is_utf8(struct sky_span text)
{
    const unsigned char *at = text.at;
    const unsigned char *end = text.at + text.size;
    for (;;) {
        while (end - at >= 8) {
            uint64_t marks = sky_load(at) & SKY_EACH(0x80);
            if (marks != 0) {
                at += sky_before_mark(marks);
                break;
            }
            at += 8;
        }
        for (int i = 0; i < SKY_SINGLE_CHARACTERS; i++) {
            if (at == end) {
                return 1;
            }
            size_t size = *at < 0x80 ? 1 : sky_character_size(at, end);
            if (size == 0) {
                return 0;
            }
            at += size;
        }
    }
}

/* Writes the escape of a character. Gives where it ends, or NULL when there is no room. */
static unsigned char *put_escape(struct sky_out out, const unsigned char *at)
{
    static const char digits[] = "0123456789abcdef";
    static const char letters[] = "btn.fr"; /* from U+0008 on */
    unsigned char byte = *at;
    unsigned char escape[6] = {'\\', byte, '0', '0', 0, 0};
    size_t size = 2;
    if (byte >= 0x80) { /* a line separator */
        memcpy(escape, at[2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
        size = 6;
    } else if (byte >= 0x08 && byte <= 0x0d && byte != 0x0b) {
        escape[1] = (unsigned char)letters[byte - 0x08];
    } else if (byte < 0x20) {
        escape[1] = 'u';
        escape[4] = (unsigned char)digits[byte >> 4];
        escape[5] = (unsigned char)digits[byte & 0x0f];
        size = 6;
    }
    return sky_put(&out, escape, size) ? out.at : NULL;
}

static inline int needs_escape(const unsigned char *at, size_t size)
{
    return size == 1 ? !sky_is_plain(*at) : size == 3 && sky_is_line_separator(at);
}

/* Copies plain ASCII, eight bytes at a time: up to something else, or to where there are no eight bytes any more. */
static inline const unsigned char *copy_plain(struct sky_out *out, const unsigned char *at, const unsigned char *end)
{
    unsigned char *to = out->at;
    const unsigned char *stop = out->end;
    while (end - at >= 8 && stop - to >= 8) {
        uint64_t specials = sky_specials(sky_load(at));
        memcpy(to, at, 8);
        if (specials != 0) {
            size_t plain = sky_before_mark(specials);
            at += plain;
            to += plain;
            break;
        }
        at += 8;
        to += 8;
    }
    out->at = to;
    return at;
}

/* Copies a character as it is. */
static inline int copy_character(struct sky_out *out, const unsigned char *at, size_t size, const unsigned char *end)
{
    if (end - at < 4 || sky_room(out) < 4) {
        return sky_put(out, at, size);
    }
    memcpy(out->at, at, 4);
    out->at += size;
    return 1;
}

/* Copies a few characters one by one. */
static inline enum sky_status copy_characters(struct sky_out *out, const unsigned char **from, const unsigned char *end)
{
    const unsigned char *at = *from;
    for (int i = 0; i < SKY_SINGLE_CHARACTERS && at < end; i++) {
        size_t size = *at < 0x80 ? 1 : sky_character_size(at, end);
        if (size == 0) {
            return SKY_NOT_USUAL;
        }
        if (needs_escape(at, size)) {
            unsigned char *after = put_escape(*out, at);
            if (after == NULL) {
                return SKY_TOO_LARGE;
            }
            out->at = after;
        } else if (!copy_character(out, at, size, end)) {
            return SKY_TOO_LARGE;
        }
        at += size;
    }
    *from = at;
    return SKY_GOING_ON;
}

enum sky_status sky_put_json_string(struct sky_out *out, struct sky_span text)
{
    const unsigned char *at = text.at;
    const unsigned char *end = text.at + text.size;
    struct sky_out rest = *out; /* a copy in registers: for all that the compiler knows, *out* may be written into */
    if (!sky_put_byte(&rest, '"')) {
        return SKY_TOO_LARGE;
    }
    while (at < end) {
        at = copy_plain(&rest, at, end);
        enum sky_status status = copy_characters(&rest, &at, end);
        if (status != SKY_GOING_ON) {
            return status;
        }
    }
    if (!sky_put_byte(&rest, '"')) {
        return SKY_TOO_LARGE;
    }
    *out = rest;
    return SKY_GOING_ON;
}

int sky_put_with_separators_escaped(struct sky_out *out, struct sky_span text)
{
    const unsigned char *at = text.at;
    const unsigned char *end = text.at + text.size;
    const unsigned char *copied = at;
    while (at < end) {
        if (end - at < 3 || !sky_is_line_separator(at)) {
            at++;
            continue;
        }
        if (!sky_put(out, copied, (size_t)(at - copied))) {
            return 0;
        }
        unsigned char *after = put_escape(*out, at);
        if (after == NULL) {
            return 0;
        }
        out->at = after;
        at += 3;
        copied = at;
    }
    return sky_put(out, copied, (size_t)(at - copied));
}

int sky_put_integer(struct sky_out *out, int64_t number)
{
    unsigned char digits[20];
    unsigned char *first = digits + sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        *--first = (unsigned char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (number < 0) {
        *--first = '-';
    }
    return sky_put(out, first, (size_t)(digits + sizeof digits - first));
}
