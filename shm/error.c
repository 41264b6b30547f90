/* error.c: code -> text, and this thread's last message.
 *
 * The message lives in thread-local memory, not on a handle: a failed open has no handle, and two threads that fail at the
 * same time must not read each other's text. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct error of_thread;

struct error *error_of_thread(void)
{
    return &of_thread;
}

int error_set(struct error *err, enum evbus_code code, const char *format, ...)
{
    if (err != NULL) {
        struct error made; /* an argument may be the old message */
        va_list args;
        va_start(args, format);
        vsnprintf(made.text, sizeof made.text, format, args);
        va_end(args);
        *err = made;
    }
    return code;
}

int error_prefix(struct error *err, int code, const char *format, ...)
{
    if (err != NULL) {
        struct error made;
        va_list args;
        va_start(args, format);
        int n = vsnprintf(made.text, sizeof made.text, format, args);
        va_end(args);
        size_t used = n < 0 ? 0 : (size_t)n < sizeof made.text ? (size_t)n : sizeof made.text - 1;
        size_t room = sizeof made.text - used;
        if (room > 3) {
            size_t len = strnlen(err->text, room - 3);
            memcpy(made.text + used, ": ", 2);
            memcpy(made.text + used + 2, err->text, len);
            made.text[used + 2 + len] = '\0';
        }
        *err = made;
    }
    return code;
}

EVBUS_API const char *evbus_message(const struct evbus *bus)
{
    (void)bus;
    return of_thread.text;
}

EVBUS_API const char *evbus_strerror(int code)
{
    switch ((enum evbus_code)code) {
    case EVBUS_OK:
        return "all is well";
    case EVBUS_ENOTFOUND:
        return "there is no such thing";
    case EVBUS_ETIMEOUT:
        return "nothing came in time";
    case EVBUS_EINVAL:
        return "an argument is wrong";
    case EVBUS_ENOBUS:
        return "there is no such bus";
    case EVBUS_ESTALE:
        return "the bus was removed";
    case EVBUS_ELAYOUT:
        return "the bus was made by another build";
    case EVBUS_ECORRUPT:
        return "shared memory is damaged";
    case EVBUS_ENOSPC:
        return "there is no memory left";
    case EVBUS_ELIMIT:
        return "all places are taken";
    case EVBUS_EIO:
        return "the operating system failed";
    case EVBUS_EFULL:
        return "the ring is full";
    case EVBUS_EAGAIN:
        return "try again";
    case EVBUS_EPAUSED:
        return "it is paused";
    case EVBUS_EDENIED:
        return "the catalogue does not allow it";
    case EVBUS_EPERM:
        return "permission denied";
    case EVBUS_ECATALOGUE:
        return "the catalogue is wrong";
    case EVBUS_ECONFIG:
        return "the configuration is wrong";
    case EVBUS_EBUSY:
        return "this thread is inside another call";
    case EVBUS_EFORKED:
        return "the handle belongs to the parent process";
    case EVBUS_EFENCED:
        return "somebody else has taken over";
    case EVBUS_EDUPLICATE:
        return "it exists already";
    case EVBUS_ECONFLICT:
        return "something else stands there";
    case EVBUS_EEXHAUSTED:
        return "the partition has used up its positions";
    }
    return "an unknown code";
}

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

EVBUS_API const char *evbus_version(void)
{
    return TEXT(EVBUS_VERSION_MAJOR) "." TEXT(EVBUS_VERSION_MINOR) "." TEXT(EVBUS_VERSION_PATCH);
}
