/* beside.c: another program of ours, in place of this one.
 *
 * It stands beside this program when both are installed, in a folder that the caller knows in a build tree, else in PATH. */
#include "beside.h"

#include "output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* From the folder of the program that is running; returns when there is none. */
static void run_beside(const char *where, char **argv)
{
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 64);
    if (len <= 0)
        return;
    path[len] = '\0';
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        return;
    (void)snprintf(slash + 1, 64, "%s", where);
    (void)execv(path, argv);
}

int beside_run(const char *program, const char *in_build, const char *const *arguments, size_t n)
{
    union {
        const char **given;
        char **taken; /* exec changes none of them, but says so to nobody */
    } argv = {.given = calloc(n + 2, sizeof(char *))};
    if (argv.given == NULL)
        return complain(EXIT_CANNOT_CREATE, "out of memory");
    argv.given[0] = program;
    if (n > 0)
        memcpy(argv.given + 1, arguments, n * sizeof *arguments);
    output_flush();
    run_beside(program, argv.taken);
    run_beside(in_build, argv.taken);
    (void)execvp(program, argv.taken);
    int number = errno;
    free(argv.given);
    if (number == ENOENT)
        return complain(EXIT_NO, "%s is neither beside this program nor in PATH", program);
    return complain(EXIT_IO, "%s: %s", program, strerror(number));
}
