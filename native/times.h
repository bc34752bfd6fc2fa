/* Stored times. */
#ifndef SKYEXPORT_TIMES_H
#define SKYEXPORT_TIMES_H

#include "buffer.h"

enum { SKY_TIME_BYTES = 35 };

/* A time as it is stored: local, and how far from UTC. */
struct sky_time {
    const unsigned char *text; /* date, space or T, time of day, fraction */
    int fraction_digits;       /* 0 to 9, the trailing zeros left out */
    int offset_minutes;
    int year, month, day, hour, minute, second;
};

/* Reads a time in one of the usual spellings: as Go prints it, or RFC 3339. 0 when it is none, or no real date. */
int sky_read_time(struct sky_span stored, struct sky_time *time);

/* Writes RFC 3339, at most SKY_TIME_BYTES, and says how many. */
size_t sky_write_time(const struct sky_time *time, int with_fraction, unsigned char *text);

/* Microseconds since 1970-01-01T00:00:00Z, what is less cut off. 0 when that is not in the years 0 to 9999. */
int sky_microseconds(const struct sky_time *time, int64_t *microseconds);

#endif
