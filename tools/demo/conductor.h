/* conductor.h: the demo's own side: it makes the bus, starts the services, does them harm, and checks. */
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
#define LETTERS_MAX  256 /* one is right; what is beyond is not looked at */

/* A service's process. */
struct child {
    const struct service_kind *kind;
    unsigned member;
    pid_t pid;      /* 0: it has ended */
    bool is_to_end; /* else its end is a failure */
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

struct demo {
    const char *program; /* our own file, to start the services by */
    const char *bus_name;
    const char *dir;
    const char *data;
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

/* conductor.c */
bool conduct(struct demo *demo);
bool open_bus(struct demo *demo); /* false, as below: it has complained */
bool await(struct demo *demo, bool (*is_so)(struct demo *demo), const char *what);
bool see_groups(struct demo *demo);
bool consumers_are_there(struct demo *demo);

/* restart.c */
bool restart_host(struct demo *demo);

/* children.c */
struct child *child_start(struct demo *demo, const struct service_kind *kind, unsigned member);
bool children_look(struct demo *demo); /* false: one has ended that should not have; it has complained */
void child_signal(struct child *child, int signal_number);
bool child_await_stop(struct child *child);
void child_kill(struct child *child);                           /* and wait for its end */
unsigned children_kill(struct demo *demo);                      /* all that are left, at once; how many */
bool children_are_gone(const struct demo *demo, bool handling); /* those that handle events, or those that do not */

/* catalogue.c */
char *demo_catalogue(bool has_sitemap); /* free() it; NULL: it has complained */

/* progress.c */
__attribute__((format(printf, 2, 3))) void progress_say(struct demo *demo, const char *format, ...);
void progress_draw(struct demo *demo);
void progress_end(struct demo *demo);
void format_ns(uint64_t ns, char out_text[32]);

/* letters.c */
bool letters_read(struct demo *demo);
bool letters_replay(struct demo *demo);

/* table.c */
void table_print(struct demo *demo);

/* check.c: prints a line per check. How many of them do not hold. */
unsigned check_all(struct demo *demo);

#endif
