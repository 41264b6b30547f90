/* error.c: code -> text, and this thread's last message.
 *
 * The message lives in thread-local memory, not on a handle: a failed open has no handle, and two threads that fail at the
 * same time must not read each other's text. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct error of_thread;

/* Not inline: a compiler that sees that it is an address asks for it (__tls_get_addr) wherever it is used, in each call of the library. */
__attribute__((noinline)) struct error *error_of_thread(void)
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

const char *error_mend(int number)
{
    switch (number) {
    case ENOSPC:
        return "; make /dev/shm larger (docker: --shm-size) or the catalogue's rings smaller";
    case ENOMEM:
        return "; free memory, or raise the limit (ulimit -v; the cgroup's memory)";
    case EMFILE:
        return "; close descriptors of this process, or raise its limit of them (ulimit -n)";
    case ENFILE:
        return "; close descriptors on this host, or raise fs.file-max";
    case EAGAIN: /* of a thread; of a mapping after mlockall() */
        return "; end threads or unlock memory, or raise their limits (ulimit -u, -l; the cgroup's pids.max)";
    case EACCES:
    case EPERM:
        return "; run as a user of the bus's group, or as its owner";
    case EROFS:
        return "; remount it writable";
    case ENOSYS:
        return "; does a seccomp filter forbid it, or is the kernel too old?";
    default:
        return "; try again, and see the kernel's log (dmesg) if it stays";
    }
}

int error_no_memory(struct error *err, const char *format, ...)
{
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return error_set(err, EVBUS_ENOSPC, "no memory for %s%s", what, error_mend(ENOMEM));
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
