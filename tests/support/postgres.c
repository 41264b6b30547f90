/* postgres.c: a PostgreSQL of the test program's own. See postgres.h.
 *
 * Criterion's tests are processes of their own and the hooks run in their parent; so the url goes to them by the environment. */
#include "postgres.h"

#include "await.h"
#include "child.h"

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define URL_NAME     "EVBUS_TEST_POSTGRES_URL"
#define MISSING_NAME "EVBUS_TEST_POSTGRES_MISSING"

static char dir[64];  /* the server's folder; "": there is none */
static char bin[300]; /* where its programs are */
static struct child server;

/* The newest that is installed. */
static bool find_programs(void)
{
    static const char *const patterns[] = {"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb",
                                           "/usr/local/pgsql/bin/initdb", "/usr/local/bin/initdb", "/usr/bin/initdb"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0] && bin[0] == '\0'; i++) {
        glob_t found;
        if (glob(patterns[i], 0, NULL, &found) != 0)
            continue;
        const char *last = found.gl_pathv[found.gl_pathc - 1];
        snprintf(bin, sizeof bin, "%.*s", (int)(strrchr(last, '/') - last), last);
        globfree(&found);
    }
    return bin[0] != '\0';
}

/* In a child: from here on as somebody whom initdb accepts, with the folder's log for output. */
static bool become_server(void)
{
    char log[128];
    snprintf(log, sizeof log, "%s/log", dir);
    if (geteuid() == 0) {
        const struct passwd *user = getpwnam("postgres");
        if (user == NULL)
            user = getpwnam("nobody");
        if (user == NULL || chown(dir, user->pw_uid, user->pw_gid) != 0 || setgroups(0, NULL) != 0 ||
            setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)
            return false;
    }
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    prctl(PR_SET_PDEATHSIG,
          SIGQUIT); /* an immediate shutdown. Who becomes another user loses it, so it is set behind that */
    return fd >= 0 && chdir(dir) == 0 && dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0;
}

static int be_initdb(void *context)
{
    char program[320], data[128];
    (void)context;
    snprintf(program, sizeof program, "%s/initdb", bin);
    snprintf(data, sizeof data, "%s/data", dir);
    if (become_server())
        execl(program, program, "-D", data, "-U", "evbus", "-A", "trust", "-N", "--locale=C", "-E", "UTF8",
              (char *)NULL);
    return 1;
}

static int be_server(void *context)
{
    char program[320], data[128];
    (void)context;
    snprintf(program, sizeof program, "%s/postgres", bin);
    snprintf(data, sizeof data, "%s/data", dir);
    if (become_server())
        execl(program, program, "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c",
              "dynamic_shared_memory_type=mmap", "-c", "autovacuum=off", "-c", "shared_buffers=8MB", "-c",
              "max_wal_senders=0", "-c", "lc_messages=C", (char *)NULL);
    return 1;
}

static bool is_ready(void)
{
    char path[128], text[1000] = "";
    snprintf(path, sizeof path, "%s/data/postmaster.pid", dir);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    return strstr(text, "\nready") != NULL;
}

static void show_log(void)
{
    char line[300];
    snprintf(line, sizeof line, "%s/log", dir);
    FILE *file = fopen(line, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        fprintf(stderr, "postgres: %s", line);
    if (file != NULL)
        fclose(file);
}

static void end(void)
{
    char command[100];
    if (dir[0] == '\0')
        return;
    if (server.pid > 0) {
        kill(server.pid, SIGQUIT);
        child_join(&server);
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", dir);
    dir[0] = '\0';
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    char url[160];
    if (tests->tests == 0)
        return;
    if (!find_programs()) {
        setenv(MISSING_NAME, "1", 1);
        return;
    }
    snprintf(dir, sizeof dir, "/tmp/evbus-pg.XXXXXX"); /* short, as a socket's path must be */
    if (mkdtemp(dir) == NULL)
        return;
    struct child initdb = child_start(be_initdb, NULL);
    if (child_join(&initdb) == 0) {
        server = child_start(be_server, NULL);
        if (await_that(is_ready() || !child_is_running(&server)) && is_ready()) {
            snprintf(url, sizeof url, "host=%s user=evbus dbname=postgres", dir);
            setenv(URL_NAME, url, 1);
            return;
        }
    }
    show_log();
    end();
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    (void)stats;
    end();
}

const char *postgres_url(void)
{
    const char *url = getenv(URL_NAME);
    if (url == NULL && getenv(MISSING_NAME) != NULL)
        cr_skip_test("PostgreSQL is not installed");
    cr_assert_not_null(url, "PostgreSQL did not start");
    return url;
}
