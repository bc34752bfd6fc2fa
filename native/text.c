#include "text.h"

static int is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

size_t sky_character_size(const unsigned char *at, const unsigned char *end)
{
    size_t left = (size_t)(end - at);
    unsigned char first = at[0];
    if (first < 0xc2 || first > 0xf4 || left < 2) {
        return 0;
    }
    if (first < 0xe0) {
        return is_continuation(at[1]) ? 2 : 0;
    }
    /* The second byte tells what is overlong, a surrogate, or beyond U+10FFFF. */
    unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < least || at[1] > most || left < 3 || !is_continuation(at[2])) {
        return 0;
    }
    if (first < 0xf0) {
        return 3;
    }
    return left >= 4 && is_continuation(at[3]) ? 4 : 0;
}

int sky_is_utf8(struct sky_span text)
{
    const unsigned char *at = text.at;
    const unsigned char *end = text.at + text.size;
    while (at < end) {
        if (end - at >= 8 && (sky_load(at) & SKY_EACH(0x80)) == 0) {
            at += 8;
        } else if (*at < 0x80) {
            at++;
        } else {
            size_t size = sky_character_size(at, end);
            if (size == 0) {
                return 0;
            }
            at += size;
        }
    }
    return 1;
}

static int put_escape(struct sky_out *out, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    static const char letters[] = "btn.fr"; /* from U+0008 on */
    unsigned char escape[6] = {'\\', byte, '0', '0', 0, 0};
    if (byte >= 0x20) {
        return sky_put(out, escape, 2);
    }
    if (byte >= 0x08 && byte <= 0x0d && byte != 0x0b) {
        escape[1] = (unsigned char)letters[byte - 0x08];
        return sky_put(out, escape, 2);
    }
    escape[1] = 'u';
    escape[4] = (unsigned char)digits[byte >> 4];
    escape[5] = (unsigned char)digits[byte & 0x0f];
    return sky_put(out, escape, 6);
}

static int put_character(struct sky_out *out, const unsigned char *at, size_t size)
{
    if (size == 3 && sky_is_line_separator(at)) {
        return sky_put(out, at[2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
    }
    return sky_put(out, at, size);
}

/* Copies ASCII that needs no escape, eight bytes at a time and then singly up to the first that is something else. */
static const unsigned char *copy_plain(struct sky_out *out, const unsigned char *at, const unsigned char *end)
{
    unsigned char *to = out->at;
    size_t left = (size_t)(end - at);
    size_t room = sky_room(out);
    const unsigned char *stop = at + (left < room ? left : room);
    while (stop - at >= 8) {
        uint64_t eight = sky_load(at);
        if (sky_is_special(eight)) {
            break;
        }
        memcpy(to, &eight, sizeof eight);
        at += 8;
        to += 8;
    }
    while (at < stop && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\') {
        *to++ = *at++;
    }
    out->at = to;
    return at;
}

enum sky_status sky_put_json_string(struct sky_out *out, struct sky_span text)
{
    const unsigned char *at = text.at;
    const unsigned char *end = text.at + text.size;
    if (!sky_put_byte(out, '"')) {
        return SKY_TOO_LARGE;
    }
    for (;;) {
        at = copy_plain(out, at, end);
        if (at == end) {
            return sky_put_byte(out, '"') ? SKY_GOING_ON : SKY_TOO_LARGE;
        }
        if (*at < 0x80) {
            /* Plain as well, when there was no room for it; then there is none now. */
            if (out->at == out->end || !put_escape(out, *at)) {
                return SKY_TOO_LARGE;
            }
            at++;
            continue;
        }
        do {
            size_t size = sky_character_size(at, end);
            if (size == 0) {
                return SKY_NOT_USUAL;
            }
            if (!put_character(out, at, size)) {
                return SKY_TOO_LARGE;
            }
            at += size;
        } while (at < end && *at >= 0x80);
    }
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
        if (!sky_put(out, copied, (size_t)(at - copied)) || !put_character(out, at, 3)) {
            return 0;
        }
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
