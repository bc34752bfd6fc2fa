#include "times.h"

enum { NOT_DIGITS = 100, DATE_AND_TIME_BYTES = 19, MOST_FRACTION_DIGITS = 9, MOST_ZONE_LETTERS = 6 };

static int is_digit(unsigned char byte)
{
    return byte >= '0' && byte <= '9';
}

static int is_letter(unsigned char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

static int two_digits(const unsigned char *at)
{
    if (!is_digit(at[0]) || !is_digit(at[1])) {
        return NOT_DIGITS;
    }
    return 10 * (at[0] - '0') + (at[1] - '0');
}

static int days_in_month(int year, int month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

static int read_date_and_time(const unsigned char *at, struct sky_time *time)
{
    static const unsigned char places[] = {0, 2, 5, 8, 11, 14, 17};
    int pairs[sizeof places];
    unsigned others = 0;
    for (size_t i = 0; i < sizeof places; i++) {
        unsigned tens = at[places[i]] - (unsigned)'0';
        unsigned ones = at[places[i] + 1] - (unsigned)'0';
        others |= (tens > 9) | (ones > 9);
        pairs[i] = (int)(10 * tens + ones);
    }
    if (others || at[4] != '-' || at[7] != '-' || (at[10] != ' ' && at[10] != 'T') || at[13] != ':' || at[16] != ':') {
        return 0;
    }
    time->text = at;
    time->year = 100 * pairs[0] + pairs[1];
    time->month = pairs[2];
    time->day = pairs[3];
    time->hour = pairs[4];
    time->minute = pairs[5];
    time->second = pairs[6];
    return time->month >= 1 && time->month <= 12 && time->day >= 1 &&
           time->day <= days_in_month(time->year, time->month) && time->hour <= 23 && time->minute <= 59 &&
           time->second <= 59;
}

/* Reads a fraction, if there is one; NULL when it is none or finer than nanoseconds. */
static const unsigned char *read_fraction(const unsigned char *at, const unsigned char *end, struct sky_time *time)
{
    time->fraction_digits = 0;
    if (at == end || *at != '.') {
        return at;
    }
    const unsigned char *first = ++at;
    while (at < end && is_digit(*at)) {
        at++;
        if (at[-1] != '0') {
            time->fraction_digits = (int)(at - first);
        }
    }
    return at == first || at - first > MOST_FRACTION_DIGITS ? NULL : at;
}

/* Reads the name of a zone behind its offset, with the space before it, if there is one; else gives *at* back. */
static const unsigned char *read_zone_name(const unsigned char *at, const unsigned char *end)
{
    const unsigned char *name = at + 1;
    if (end - at < 2 || *at != ' ') {
        return at;
    }
    if (*name == '+' || *name == '-') {
        if (end - name < 3 || two_digits(name + 1) == NOT_DIGITS) {
            return at;
        }
        return end - name >= 5 && two_digits(name + 3) != NOT_DIGITS ? name + 5 : name + 3;
    }
    const unsigned char *letter = name;
    while (letter < end && is_letter(*letter)) {
        letter++;
    }
    int is_name = letter > name && letter - name <= MOST_ZONE_LETTERS && (letter == end || *letter != '=');
    return is_name ? letter : at;
}

/* Reads Z, or an offset with or without a space before it, a colon in it, and the name of its zone behind it. */
static const unsigned char *read_zone(const unsigned char *at, const unsigned char *end, struct sky_time *time)
{
    time->offset_minutes = 0;
    if (at < end && *at == 'Z') {
        return at + 1;
    }
    if (at < end && *at == ' ') {
        at++;
    }
    if (end - at < 5 || (*at != '+' && *at != '-')) {
        return NULL;
    }
    int sign = *at == '-' ? -1 : 1;
    int hours = two_digits(at + 1);
    at += 3;
    if (*at == ':') {
        at++;
    }
    int minutes = end - at < 2 ? NOT_DIGITS : two_digits(at);
    if (hours > 23 || minutes > 59) {
        return NULL;
    }
    time->offset_minutes = sign * (60 * hours + minutes);
    return read_zone_name(at + 2, end);
}

/* Whether there is nothing more, or only the reading of a monotonic clock, as in ` m=+12.345`. */
static int is_end(const unsigned char *at, const unsigned char *end)
{
    if (at == end) {
        return 1;
    }
    if (end - at < 5 || memcmp(at, " m=", 3) != 0 || (at[3] != '+' && at[3] != '-')) {
        return 0;
    }
    for (at += 4; at < end; at++) {
        if (!is_digit(*at) && *at != '.') {
            return 0;
        }
    }
    return 1;
}

int sky_read_time(struct sky_span stored, struct sky_time *time)
{
    const unsigned char *end = stored.at + stored.size;
    if (stored.size <= DATE_AND_TIME_BYTES || !read_date_and_time(stored.at, time)) {
        return 0;
    }
    const unsigned char *at = read_fraction(stored.at + DATE_AND_TIME_BYTES, end, time);
    if (at != NULL) {
        at = read_zone(at, end, time);
    }
    return at != NULL && is_end(at, end);
}

static void write_two(unsigned char *text, int number)
{
    text[0] = (unsigned char)('0' + number / 10);
    text[1] = (unsigned char)('0' + number % 10);
}

size_t sky_write_time(const struct sky_time *time, int with_fraction, unsigned char *text)
{
    unsigned char *at = text;
    memcpy(at, time->text, DATE_AND_TIME_BYTES);
    at[10] = 'T';
    at += DATE_AND_TIME_BYTES;
    if (with_fraction && time->fraction_digits > 0) {
        size_t size = 1 + (size_t)time->fraction_digits;
        memcpy(at, time->text + DATE_AND_TIME_BYTES, size);
        at += size;
    }
    if (time->offset_minutes == 0) {
        *at++ = 'Z';
        return (size_t)(at - text);
    }
    int minutes = time->offset_minutes < 0 ? -time->offset_minutes : time->offset_minutes;
    at[0] = time->offset_minutes < 0 ? '-' : '+';
    write_two(at + 1, minutes / 60);
    at[3] = ':';
    write_two(at + 4, minutes % 60);
    return (size_t)(at + 6 - text);
}

/* Days from 1970-01-01 to a day of the Gregorian calendar, which begins a year in March here: the day that leap years
 * have more is its last then. Source: https://howardhinnant.github.io/date_algorithms.html#days_from_civil */
static int64_t days_since_1970(int year, int month, int day)
{
    int from_march = month > 2 ? month - 3 : month + 9;
    int shifted = (month > 2 ? year : year - 1) + 400; /* never negative */
    int era = shifted / 400;
    int year_of_era = shifted % 400;
    int day_of_year = (153 * from_march + 2) / 5 + day - 1;
    int day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (int64_t)(era - 1) * 146097 + day_of_era - 719468;
}

int sky_microseconds(const struct sky_time *time, int64_t *microseconds)
{
    int64_t minutes = days_since_1970(time->year, time->month, time->day) * 1440 + 60 * time->hour + time->minute -
                      time->offset_minutes;
    int64_t micro = 0;
    for (int place = 0; place < 6; place++) {
        int digit = place < time->fraction_digits ? time->text[DATE_AND_TIME_BYTES + 1 + place] - '0' : 0;
        micro = 10 * micro + digit;
    }
    *microseconds = (60 * minutes + time->second) * 1000000 + micro;
    return minutes >= days_since_1970(0, 1, 1) * 1440 && minutes < days_since_1970(10000, 1, 1) * 1440;
}
