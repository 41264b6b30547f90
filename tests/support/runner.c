/* runner.c: runs Criterion's test sources without Criterion, for ThreadSanitizer, under valgrind and under an emulator.
 *
 * Criterion starts each test as a new program with memory at an address that ThreadSanitizer needs, so it cannot start;
 * valgrind takes a second to start each; and an emulator cannot start a program. EVBUS_LEAVE_OUT names a file of
 * patterns, SUITE/TEST each: what is not run here. Its macros only put a pointer per test into the section cr_tst, one
 * per hook into another, and call a dozen functions; here they are. A test runs in a fork, under an alarm; it passes when
 * it ends as its declaration says: by .signal, or with .exit_code, and no assertion failed. Linked instead of
 * libcriterion. */
#include <criterion/criterion.h>
#include <criterion/options.h>
#include <criterion/parameterized.h>

#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, TIMEOUT_S = 60, SLOWER = 5 }; /* ThreadSanitizer takes its time */

extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak)), *__stop_cr_sts[] __attribute__((weak));
extern void (*__start_cr_pra[])(struct criterion_test_set *) __attribute__((weak));
extern void (*__stop_cr_pra[])(struct criterion_test_set *) __attribute__((weak));
extern void (*__start_cr_poa[])(struct criterion_global_stats *) __attribute__((weak));
extern void (*__stop_cr_poa[])(struct criterion_global_stats *) __attribute__((weak));
struct criterion_options criterion_options;

static struct criterion_test *test;
static const struct criterion_test_extra_data *suite;
static struct criterion_test_params params;
static size_t row;
static int failed;
static jmp_buf aborted;

static void say(const char *what, const char *format, va_list values)
{
    fprintf(stderr, "%s: ", what);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
}

void cri_asserts_passed_incr(void)
{
}

char *cr_translate_assert_msg(int index, ...)
{
    (void)index;
    return strdup("assertion failed");
}

int cr_asprintf(char **out, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int len = vasprintf(out, format, values);
    va_end(values);
    return len;
}

void cr_asprintf_free(char *text)
{
    free(text);
}

void cr_log(enum criterion_severity severity, const char *format, ...)
{
    va_list values;
    (void)severity;
    va_start(values, format);
    say("log", format, values);
    va_end(values);
}

void criterion_send_assert(struct criterion_assert_stats *stats)
{
    if (stats->passed)
        return;
    fprintf(stderr, "%s:%u: %s/%s: %s\n", stats->file, stats->line, test->category, test->name, stats->message);
    failed = 1;
}

void criterion_abort_test(void)
{
    if (gettid() != getpid()) /* a thread of the test: there is no way back to main() from here */
        _exit(EXIT_FAILURE);
    longjmp(aborted, 1);
}

void criterion_continue_test(void)
{
}

void criterion_skip_test(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    say("skipped", format, values);
    va_end(values);
    _exit(SKIPPED);
}

void criterion_test_die(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    say("died", format, values);
    va_end(values);
    _exit(EXIT_FAILURE);
}

void criterion_internal_test_setup(void)
{
    if (suite != NULL && suite->init != NULL)
        suite->init();
    if (test->data->init != NULL)
        test->data->init();
}

void criterion_internal_test_main(void (*body)(void))
{
    if (setjmp(aborted) != 0)
        return;
    if (test->data->kind_ == CR_TEST_PARAMETERIZED)
        ((void (*)(void *))body)((char *)params.params + row * params.size);
    else
        body();
}

void criterion_internal_test_teardown(void)
{
    if (test->data->fini != NULL)
        test->data->fini();
    if (suite != NULL && suite->fini != NULL)
        suite->fini();
}

static const struct criterion_test_extra_data *suite_of(const char *category)
{
    for (struct criterion_suite **at = __start_cr_sts; at < __stop_cr_sts; at++)
        if (*at != NULL && strcmp((*at)->name, category) == 0)
            return (*at)->data;
    return NULL;
}

/* The exit status of a shell for what became of one row of one test: 0 passed. */
static int run(void)
{
    int status = 0;
    double timeout = test->data->timeout > 0 ? test->data->timeout : suite != NULL ? suite->timeout : 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(SLOWER * (timeout > 0 ? (unsigned)timeout + 1 : TIMEOUT_S));
        test->test();
        exit(failed);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return EXIT_FAILURE;
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == test->data->signal ? 0 : 128 + WTERMSIG(status);
    if (WEXITSTATUS(status) == SKIPPED)
        return SKIPPED;
    return test->data->signal == 0 && WEXITSTATUS(status) == test->data->exit_code ? 0 : EXIT_FAILURE;
}

/* Is it in the list of what cannot run here? A line: pattern, blank, why. */
static bool is_left_out(void)
{
    char name[256];
    char pattern[256];
    bool is_in = false;
    const char *path = getenv("EVBUS_LEAVE_OUT");
    FILE *list = path != NULL ? fopen(path, "r") : NULL;
    if (list == NULL)
        return false;
    snprintf(name, sizeof name, "%s/%s", test->category, test->name);
    while (!is_in && fscanf(list, "%255s%*[^\n]", pattern) == 1)
        is_in = fnmatch(pattern, name, 0) == 0;
    fclose(list);
    return is_in;
}

int main(void)
{
    int n_passed = 0, n_failed = 0, n_skipped = 0;
    struct criterion_test_set set = {.tests = (size_t)(__stop_cr_tst - __start_cr_tst)};
    for (void (**hook)(struct criterion_test_set *) = __start_cr_pra; hook < __stop_cr_pra; hook++)
        if (*hook != NULL)
            (*hook)(&set);
    for (struct criterion_test **at = __start_cr_tst; at < __stop_cr_tst; at++) {
        if (*at == NULL)
            continue;
        test = *at;
        suite = suite_of(test->category);
        if (test->data->disabled || (suite != NULL && suite->disabled) || is_left_out()) {
            n_skipped++;
            continue;
        }
        size_t n_rows = 1;
        if (test->data->kind_ == CR_TEST_PARAMETERIZED) {
            params = test->data->param_();
            n_rows = params.length;
        }
        for (row = 0; row < n_rows; row++) {
            int rc = run();
            if (rc == 0)
                n_passed++;
            else if (rc == SKIPPED)
                n_skipped++;
            else {
                n_failed++;
                fprintf(stderr, "FAILED %s/%s (row %zu): status %d\n", test->category, test->name, row, rc);
            }
        }
    }
    struct criterion_global_stats stats = {.tests_passed = (size_t)n_passed, .tests_failed = (size_t)n_failed};
    for (void (**hook)(struct criterion_global_stats *) = __start_cr_poa; hook < __stop_cr_poa; hook++)
        if (*hook != NULL)
            (*hook)(&stats);
    fprintf(stderr, "%d passed, %d failed, %d skipped\n", n_passed, n_failed, n_skipped);
    return n_failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
