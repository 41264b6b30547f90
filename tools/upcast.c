/* upcast.c: shell commands as upcasters: a payload on standard input, that of the next major version on standard output.
 *
 * CMD is a filter as jq is one. The newline at its end is its way to end a line, and no part of the payload. Exit 0 with a
 * payload, or the event is a dead letter (no_version) with the last line of its standard error as the reason; 69 is not the
 * event's fault, as of --exec, nor are 126 and 127, by which the shell says that there is no such command. Checked by tests/cli/test_versions.sh. */
#include "upcast.h"
#include "exec.h"
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *upcast(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    struct upcast_command *command = context;
    struct exec_result result;
    char *text = NULL;
    int exit_code = exec_filter(command->text, from, &text, out_len, &result);
    if (exit_code != EXIT_DONE)
        command->exit_code = exit_code;
    if (exit_code == EXIT_DONE && result.outcome == EVBUS_DONE) {
        while (*out_len > 0 && strchr("\r\n", text[*out_len - 1]) != NULL)
            --*out_len;
        text[*out_len] = '\0';
        return text;
    }
    memcpy(error, result.error, sizeof result.error);
    errno = result.outcome == EVBUS_RELEASE || result.outcome == EVBUS_DEFER || result.is_missing ? EAGAIN : 0;
    return NULL;
}

int upcasts_make(const struct arg_texts *given, struct upcasts *out)
{
    *out = (struct upcasts){.n = given->n};
    for (size_t i = 0; i < given->n; ++i) {
        const char *text = given->at[i], *command = strchr(text, '=');
        size_t len = command != NULL ? (size_t)(command - text) : 0;
        uint16_t version[2];
        if (command == NULL || memchr(text, '.', len) != NULL || !args_read_version(text, len, version))
            return complain(EXIT_USAGE, "--upcast \"%s\": expected MAJOR=CMD, e.g. 1='jq -c ...'", text);
        if (command[1 + strspn(command + 1, " \t\n")] == '\0')
            return complain(EXIT_USAGE, "--upcast \"%s\": which command?", text);
        out->commands[i].text = command + 1;
        out->upcasters[i] = (struct evbus_upcaster){
            .from_major = version[0], .upcast = upcast, .context = &out->commands[i]};
    }
    return EXIT_DONE;
}

int upcasts_exit_code(const struct upcasts *upcasts)
{
    int exit_code = EXIT_DONE;
    for (size_t i = 0; i < upcasts->n && exit_code == EXIT_DONE; ++i)
        exit_code = upcasts->commands[i].exit_code;
    return exit_code;
}
