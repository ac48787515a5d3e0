/* SPDX-FileCopyrightText: 2026 hosting.aup contributors
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The clock that only the lab can move. Preloaded into a command of the lab's controller, it adds
 * AUPLAB_CLOCK_OFFSET seconds to the time of day and leaves the monotonic clock alone, so that sleeping and
 * time-outs go on as they are. (libfaketime 0.9.10, of Debian 12 and Ubuntu, can't: with its monotonic clock
 * left alone an absolute clock_nanosleep, which is how Python sleeps, fails with EINVAL; with it moved, waits
 * with a time-out last as long as the offset.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset(void)
{
    const char *text = getenv("AUPLAB_CLOCK_OFFSET");
    return text ? strtol(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *store)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (store)
        *store = now.tv_sec;
    return now.tv_sec;
}
