/* main.c: evbus-demo: the customer's decision record (ADR 003) come to life, in two acts: seven services on one host, hurt
 * while they work; then two hosts and the Redis between them, which is killed. At the end of each it is checked that
 * nothing was lost and nothing happened twice.
 *
 *     evbus-demo                    the conductor: buses, folder, services, faults, table, checks; then all is removed
 *     evbus-demo --service NAME     one service; the conductor starts these, each a process of its own
 *
 *   those that publish   order_payment.c appointment.c content.c
 *   those that handle    product.c customer.c notification.c analytics.c sitemap.c
 *   what they share      service.c, the frame of each; ledger.c, one effect per event; outbox.c, no event unsaid;
 *                        board.c, counts; orders.c, data
 *   the conductor        conductor.c, the first act; two_hosts*.c, the second, with redis.c records.c; for the first
 *                        restart.c letters.c; for both children.c catalogue.c progress.c table.c check*.c
 *
 * Exit code: 0 everything is as the orders say, 1 it is not, or the demo could not be run, 2 command line, 69 the
 * second act lacks a program, 130 interrupted. */
#include "conductor.h"

#include <evbus/admin.h>

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_NS (55 * NS_PER_S)

enum { EXIT_NOT_THERE = 69 }; /* sysexits.h's EX_UNAVAILABLE */

volatile sig_atomic_t demo_is_stopping;

static const char usage[] =
    "usage: evbus-demo [--act N] [-b NAME] [--data DIR] [--keep]\n\n"
    "Two acts of some ten seconds each, the same services and the same 830 orders in both.\n\n"
    "Act 1: seven services of the ADR on a bus of their own: orders, in two versions at once, and their\n"
    "payments, bookings, blog posts. One service is killed, one is stopped, one mail bounces: its dead\n"
    "letter is looked at, and replayed when the address is mended. In the middle the host restarts, so to\n"
    "say: all of them are killed, the bus's shared memory is thrown away, and it comes back from its\n"
    "journal. One service is added. At the end stock, points and mails are checked against the orders.\n\n"
    "Act 2: two hosts, so to say: two buses, each with an evbus-bridge, and one Redis between them. Orders\n"
    "and payments are published at the checkout, mails and points are made at the office. In the middle\n"
    "Redis is killed, and started again when a third of the orders has been published without it. At the\n"
    "end it is checked that each event is in Redis once and at the office once, in order; and stock, points\n"
    "and mails against the orders. It needs redis-server in PATH (Debian: apt-get install redis-server),\n"
    "and starts it in a folder of its own, on no port.\n\n"
    "      --act N      1 or 2: that one alone\n"
    "  -b, --bus NAME   the bus that is made for this, and removed; default: demo-<process id>. Act 2 makes\n"
    "                   NAME-checkout and NAME-office\n"
    "      --data DIR   where northwind-orders.ndjson and northwind-products.ndjson are\n"
    "      --keep       keep databases, mails, sitemap and logs, and say where they are\n"
    "  -h, --help       this text\n\n"
    "exit codes: 0 all is right, 1 it is not, 2 command line, 69 no redis-server or evbus-bridge for act 2,\n"
    "130 interrupted\n";

/* What the command line says. */
struct asked {
    const char *service; /* NULL: we are the conductor */
    const char *dir;
    const char *bus;
    const char *data;
    unsigned member;
    unsigned act; /* 0: all of them */
    bool keep;
};

static const struct act *const acts[] = {&first_act, &second_act};
enum { N_ACTS = sizeof acts / sizeof acts[0] };

static void stop(int signal_number)
{
    (void)signal_number;
    demo_is_stopping = 1;
}

/* -1: go on; else exit with it. */
static int read_arguments(int argc, char **argv, struct asked *asked)
{
    static const struct option options[] = {
        {"bus", required_argument, NULL, 'b'},
        {"data", required_argument, NULL, 'd'},
        {"keep", no_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {"service", required_argument, NULL, 's'},
        {"member", required_argument, NULL, 'm'},
        {"dir", required_argument, NULL, 'D'},
        {"act", required_argument, NULL, 'a'},
        {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "b:h", options, NULL)) != -1) {
        switch (option) {
        case 'b':
            asked->bus = optarg;
            break;
        case 'd':
            asked->data = optarg;
            break;
        case 'k':
            asked->keep = true;
            break;
        case 's':
            asked->service = optarg;
            break;
        case 'm':
            asked->member = optarg[0] == '1';
            break;
        case 'D':
            asked->dir = optarg;
            break;
        case 'a':
            asked->act = optarg[0] == '1' ? 1 : optarg[0] == '2' ? 2 : 0;
            if (asked->act == 0 || optarg[1] != '\0') {
                complain("--act takes 1 or 2; \"%s\" is neither", optarg);
                return 2;
            }
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return EXIT_SUCCESS;
        default:
            return 2; /* getopt has complained */
        }
    }
    if (optind < argc) {
        complain("\"%s\" is too much; see --help", argv[optind]);
        return 2;
    }
    return -1;
}

static int serve(const struct asked *asked)
{
    struct service service = {
        .kind = service_kind(asked->service),
        .bus_name = asked->bus,
        .dir = asked->dir,
        .data = asked->data,
        .member = asked->member,
    };
    if (service.kind == NULL || service.bus_name == NULL || service.dir == NULL || service.data == NULL) {
        complain("--service, --bus, --dir and --data are the conductor's");
        return 2;
    }
    return service_main(&service);
}

/* Installed: ../share/evbus beside the folder we are in. Not yet: the source's share. */
static const char *find_data(const char *program, char out_path[PATH_BYTES])
{
    char file[PATH_BYTES];
    const char *slash = strrchr(program, '/');
    int len = snprintf(out_path, PATH_BYTES, "%.*s/../share/evbus", slash != NULL ? (int)(slash - program) : 0,
                       program);
    if (len > 0 && len < PATH_BYTES && path_in(file, out_path, "northwind-orders.ndjson") && access(file, R_OK) == 0)
        return out_path;
    return DEMO_DATA;
}

static int remove_one(const char *path, const struct stat *found, int type, struct FTW *walk)
{
    (void)found;
    (void)type;
    (void)walk;
    return remove(path);
}

static bool make_bus(struct demo *demo)
{
    char *text = demo_catalogue(demo, false);
    if (text == NULL)
        return false;
    int rc = evbus_init(&(struct evbus_init_options){
        .size = sizeof(struct evbus_init_options), .bus = demo->bus_name, .catalogue = text});
    free(text);
    if (rc != EVBUS_OK)
        complain("%s", evbus_message(NULL));
    return rc == EVBUS_OK;
}

/* Folder and bus of each host. What was made is counted, for it is removed whatever happens then. */
static bool make_hosts(struct demo *demo, const struct act *act, size_t *out_n_buses)
{
    for (*out_n_buses = 0; demo != NULL; demo = demo->other, *out_n_buses += 1) {
        if (act->n_hosts > 1 && mkdir(demo->dir, 0700) != 0) {
            complain("cannot make the folder %s: %s", demo->dir, strerror(errno));
            return false;
        }
        if (!make_bus(demo))
            return false;
    }
    return true;
}

static int report(struct demo *demo)
{
    double seconds = (double)(monotonic_ns() - demo->begun_ns) / (double)NS_PER_S;
    demo->act->print_table(demo);
    unsigned n_wrong = demo->act->check(demo);
    if (n_wrong == 0)
        (void)printf("\nNothing was lost, nothing happened twice, in %.1f s.\n", seconds);
    else
        (void)printf("\nNOT as it must be: %u of the checks above.\n", n_wrong);
    return n_wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool open_host(struct demo *demo)
{
    demo->board = board_open(demo->dir);
    return demo->board != NULL && open_bus(demo);
}

static void close_hosts(struct demo *demo)
{
    for (; demo != NULL; demo = demo->other) {
        evbus_close(demo->bus);
        board_close(demo->board);
    }
}

static int demonstrate(struct demo *demo, const char *kept)
{
    int exit_code = EXIT_FAILURE;
    progress_say(demo, "bus %s%s%s made, the ADR's 17 topics; removed at the end", demo->bus_name,
                 demo->other != NULL ? " and bus " : "", demo->other != NULL ? demo->other->bus_name : "");
    bool is_done = open_host(demo) && (demo->other == NULL || open_host(demo->other)) && demo->act->conduct(demo);
    (void)children_kill(demo);
    progress_end(demo);
    if (kept != NULL)
        (void)printf("kept: %s\n", kept);
    if (is_done)
        exit_code = report(demo);
    else if (demo_is_stopping)
        exit_code = 130;
    if (!is_done)
        (void)printf("%s\n", exit_code == 130 ? "interrupted" : "FAILED: the demo did not come to its end.");
    if (demo->act->close != NULL)
        demo->act->close();
    close_hosts(demo);
    return exit_code;
}

/* Bus and folder of each host, by its name. false: too long. */
static bool name_hosts(struct demo hosts[HOSTS_MAX], const struct act *act, const char *dir, const char *bus)
{
    bool fits = true;
    for (size_t i = 0; i < act->n_hosts; i++) {
        const char *name = act->hosts[i].name;
        hosts[i] = hosts[0];
        hosts[i].host = i;
        hosts[i].other = i + 1 < act->n_hosts ? &hosts[i + 1] : NULL;
        int bus_len = snprintf(hosts[i].bus_name, sizeof hosts[i].bus_name, "%s%s%s", bus, name != NULL ? "-" : "",
                               name != NULL ? name : "");
        int dir_len = snprintf(hosts[i].dir, sizeof hosts[i].dir, "%s%s%s", dir, name != NULL ? "/" : "",
                               name != NULL ? name : "");
        fits = fits && bus_len > 0 && (size_t)bus_len < sizeof hosts[i].bus_name && dir_len > 0 &&
               (size_t)dir_len < sizeof hosts[i].dir;
    }
    return fits;
}

/* One act, in a folder of its own. */
static int play_in(struct demo *hosts, const struct act *act, const char *dir, const char *bus, bool keep)
{
    size_t n_buses = 0;
    int exit_code = EXIT_FAILURE;
    if (!name_hosts(hosts, act, dir, bus))
        complain("%s: too long for the name of a bus", bus);
    else if (make_hosts(hosts, act, &n_buses))
        exit_code = demonstrate(hosts, keep ? dir : NULL);
    for (size_t i = 0; i < n_buses; i++)
        if (evbus_remove(hosts[i].bus_name) != EVBUS_OK)
            complain("%s", evbus_message(NULL));
    if (n_buses < act->n_hosts || !keep)
        (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return exit_code;
}

static int play(const struct act *act, const struct asked *asked, const char *program)
{
    static struct demo hosts[HOSTS_MAX]; /* large */
    char data[PATH_BYTES];
    char dir[PATH_BYTES];
    const char *temporary = getenv("TMPDIR");
    char bus[32];
    (void)snprintf(bus, sizeof bus, "demo-%d", (int)getpid());
    hosts[0] = (struct demo){
        .act = act,
        .program = program,
        .data = asked->data != NULL ? asked->data : find_data(program, data),
        .begun_ns = monotonic_ns(),
        .is_terminal = isatty(STDOUT_FILENO) && getenv("TERM") != NULL && strcmp(getenv("TERM"), "dumb") != 0,
    };
    hosts[0].deadline_ns = hosts[0].begun_ns + PATIENCE_NS;
    (void)printf("%s\n", act->title);
    (void)fflush(stdout);
    if (act->is_possible != NULL && !act->is_possible(hosts))
        return EXIT_NOT_THERE;
    if (!path_in(dir, temporary != NULL && temporary[0] == '/' ? temporary : "/tmp", "evbus-demo-XXXXXX") ||
        mkdtemp(dir) == NULL) {
        complain("cannot make the folder %s: %s", dir, strerror(errno));
        return EXIT_FAILURE;
    }
    return play_in(hosts, act, dir, asked->bus != NULL ? asked->bus : bus, asked->keep);
}

static int conduct_all(const struct asked *asked)
{
    char program[PATH_BYTES] = "";
    struct sigaction act = {.sa_handler = stop};
    int exit_code = EXIT_SUCCESS;
    (void)sigemptyset(&act.sa_mask);
    (void)sigaction(SIGINT, &act, NULL); /* cannot fail: signals that may be handled */
    (void)sigaction(SIGTERM, &act, NULL);
    (void)sigaction(SIGHUP, &act, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* whoever reads us may have seen enough: buses and folder still must go */
    if (readlink("/proc/self/exe", program, sizeof program - 1) <= 0) {
        complain("/proc/self/exe: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    for (unsigned i = 0; i < N_ACTS && exit_code == EXIT_SUCCESS; i++) {
        if (asked->act != 0 && asked->act != i + 1)
            continue;
        if (asked->act == 0 && i > 0)
            (void)putchar('\n');
        exit_code = demo_is_stopping ? 130 : play(acts[i], asked, program);
    }
    return exit_code;
}

int main(int argc, char **argv)
{
    struct asked asked = {0};
    int exit_code = read_arguments(argc, argv, &asked);
    if (exit_code < 0)
        exit_code = asked.service != NULL ? serve(&asked) : conduct_all(&asked);
    return exit_code;
}
