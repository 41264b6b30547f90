/* service.h: what a service of the demo is made of. */
#ifndef DEMO_SERVICE_H
#define DEMO_SERVICE_H

#include "board.h"

#include <evbus/evbus.h>

#include <stdbool.h>

#define PATH_BYTES 4096
#define NS_PER_MS  UINT64_C(1000000)
#define NS_PER_S   UINT64_C(1000000000)

/* One process's service: what it was started with, and what is open. */
struct service {
    const struct service_kind *kind;
    const char *bus_name;
    const char *dir;  /* of this demo: databases, mails, board */
    const char *data; /* where the orders and products are */
    unsigned member;  /* which of its group, from 0 */
    struct evbus *bus;
    struct board *board;
    bool has_brought_back; /* the bus had lost its memory; we were the first to open it */
};

/* One kind per service of the ADR: it publishes, or handles, or both. */
struct service_kind {
    const char *name;
    enum group group;                      /* N_GROUPS: it handles nothing */
    bool (*open)(struct service *service); /* may be NULL; false: it has complained */
    evbus_handler *handle;                 /* its context is the service */
    const char *const *accepts;            /* versions of payloads; NULL: the lowest, as before there was a second */
    size_t n_accepts;
    bool (*publish)(struct service *service);
    void (*close)(void); /* may be NULL */
};

extern const struct service_kind order_payment_service, appointment_service, content_service, product_service,
    customer_service, notification_service, analytics_service, sitemap_service;

const struct service_kind *service_kind(const char *name); /* NULL: none */

/* The main() of a service: exit code. */
int service_main(struct service *service);

/* Gives the conductor a cue, and waits for its SIGKILL; once. */
void service_wait_to_be_killed(_Atomic bool *cue);

__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);
bool path_in(char out_path[PATH_BYTES], const char *dir, const char *name); /* false: too long */
void format_id(const uint8_t id[16], char out_text[37]);
uint64_t monotonic_ns(void);
uint64_t wall_ns(void); /* since 1970 */
void sleep_until(uint64_t monotonic);

#endif
