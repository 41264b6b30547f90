/* conductor.h: the demo's own side: it makes the buses, starts the services, does harm, and checks. */
#ifndef DEMO_CONDUCTOR_H
#define DEMO_CONDUCTOR_H

#include "board.h"
#include "service.h"

#include <evbus/admin.h>

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILDREN_MAX 24
#define HOSTS_MAX    2
#define LETTERS_MAX  256 /* one is right; what is beyond is not looked at */

enum role { PRODUCER, CONSUMER, BRIDGE, BROKER };

/* A process of ours. */
struct child {
    const char *name;
    enum role role;
    const struct service_kind *kind; /* of a service; NULL: it is a program of its own */
    unsigned member;
    pid_t pid;            /* 0: it has ended */
    bool is_to_end;       /* else its end is a failure */
    char log[PATH_BYTES]; /* of a program: where it says why */
};

/* One of the groups, as evbus_groups() has it. */
struct group_state {
    uint32_t n_members;
    uint64_t lag;
    uint32_t n_pending;
    uint64_t redelivered;
    uint64_t dead_letters;
};

/* A dead letter. */
struct letter {
    enum group group;
    enum topic topic;
    size_t n_attempts;
    char order[256];
    char error[EVBUS_ERROR_MAX];
    enum evbus_dead_letter_state state;
    uint32_t n_replays;
    char settled_by[64];
};

/* What the restart of the host took, and what it had to leave. */
struct restart {
    unsigned n_killed;
    bool is_memory_gone;
    uint64_t noted[N_TOPICS]; /* as sent, by the producers, when they were killed */
    uint64_t found[N_TOPICS]; /* of before that moment, in the journal */
};

struct demo;

/* What is played: the buses it needs, its course, and what must be so at its end. All are given the first host. */
struct act {
    const char *title;
    struct {
        const char *name;        /* NULL: it is the only one */
        const char *const *here; /* the services that live there; NULL: all */
    } hosts[HOSTS_MAX];
    size_t n_hosts;
    unsigned n_partitions;                  /* of each log */
    unsigned n_bookings;                    /* that are published */
    bool (*is_possible)(struct demo *demo); /* may be NULL: always; false: it has complained */
    bool (*conduct)(struct demo *demo);
    void (*draw)(struct demo *demo); /* how far all is: the rest of a line */
    void (*print_table)(struct demo *demo);
    unsigned (*check)(struct demo *demo); /* prints a line per check; how many do not hold */
    void (*close)(void);                  /* may be NULL */
};

extern const struct act first_act, second_act;

/* A host of the demo: a bus, a folder, a board, and the processes there. */
struct demo {
    const struct act *act;
    size_t host;         /* which of the act's */
    struct demo *other;  /* the host beside it; NULL: there is none */
    const char *program; /* our own file, to start the services by */
    const char *data;
    char bus_name[64];
    char dir[PATH_BYTES];
    struct evbus *bus;
    struct board *board;
    struct child children[CHILDREN_MAX];
    size_t n_children;
    struct group_state groups[N_GROUPS];
    struct letter letters[LETTERS_MAX];
    size_t n_letters;
    uint64_t begun_ns;
    uint64_t deadline_ns;
    uint64_t drawn_ns;
    bool is_terminal;
    uint64_t posts_before;                      /* published before the group sitemap was added */
    uint64_t stopped_handled, beside_handled;   /* while a member stood still: by it, and by the one beside it */
    uint64_t stopped_published, stopped_others; /* meanwhile: published, and handled by all others */
    struct restart restart;
};

extern volatile sig_atomic_t demo_is_stopping; /* SIGINT, SIGTERM */

/* conductor.c: the first act, and what both need */
bool open_bus(struct demo *demo); /* false, as below: it has complained */
bool await(struct demo *demo, bool (*is_so)(struct demo *demo), const char *what);
bool see_groups(struct demo *demo);
bool consumers_are_there(struct demo *demo);
bool producers_are_done(struct demo *demo);
bool nothing_is_left(struct demo *demo);
bool end_consumers(struct demo *demo);
uint64_t all_published(struct demo *demo);

/* restart.c */
bool restart_host(struct demo *demo);

/* children.c. Those of all: of this host and of the one beside it. */
struct child *child_start(struct demo *demo, const struct service_kind *kind, unsigned member);
/* A program, its output into a file of the host's folder. The arguments end with NULL; the first is its name. */
struct child *program_start(struct demo *demo, enum role role, const char *path, const char *const *arguments,
                            const char *log);
/* Beside us, where a build has it, or in PATH. false: nowhere; it has not complained. */
bool program_find(const struct demo *demo, const char *name, char out_path[PATH_BYTES]);
bool children_look(struct demo *demo); /* false: one has ended that should not have; it has complained */
void child_signal(struct child *child, int signal_number);
bool child_await_stop(struct child *child);
void child_kill(struct child *child);                 /* and wait for its end */
unsigned children_kill(struct demo *demo);            /* all that are left, at once; how many */
void children_end(struct demo *demo, enum role role); /* tell them to */
bool children_are_gone(const struct demo *demo, enum role role);

/* catalogue.c */
char *demo_catalogue(const struct demo *demo, bool has_sitemap); /* free() it; NULL: it has complained */

/* progress.c */
__attribute__((format(printf, 2, 3))) void progress_say(struct demo *demo, const char *format, ...);
void progress_draw(struct demo *demo);
void progress_end(struct demo *demo);
void progress_of_services(struct demo *demo); /* the first act's draw() */
void format_ns(uint64_t ns, char out_text[32]);

/* letters.c */
bool letters_read(struct demo *demo);
bool letters_replay(struct demo *demo);

/* table.c */
void table_print(struct demo *demo);
void table_print_flow(struct demo *demo, enum topic topic, enum group group, uint64_t n_published);
void table_print_times(const char *what, struct samples *const *lists, size_t n);
extern const char table_flow_head[], table_time_head[];

/* check.c */
unsigned check_all(struct demo *demo);

#endif
