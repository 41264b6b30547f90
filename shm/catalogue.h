/* catalogue.h: who may publish, who must receive. See catalogue.c. */
#ifndef EVBUS_CATALOGUE_H
#define EVBUS_CATALOGUE_H

#include "version.h"

#define CATALOGUE_NAME_MAX       127   /* bytes of a topic's, log's name */
#define CATALOGUE_SERVICE_MAX    63    /* bytes of a service's, group's, bus's name */
#define CATALOGUE_BYTES_MAX      65536 /* of the JSON text */
#define CATALOGUE_LOGS_MAX       64
#define CATALOGUE_PARTITIONS_MAX 64
#define CATALOGUE_TOPICS_MAX     256 /* in one log */

struct catalogue_log {
    const char *name; /* "lomash.orders" */
    uint32_t n_partitions;
    uint64_t ring_bytes; /* of cells; a power of two */
    enum evbus_ack ack;
    bool visible_synced;  /* readers see what is on disk */
    bool visible_is_said; /* else it follows from ack */
    bool journal;
    uint64_t retention_ns;
    uint64_t retention_bytes; /* 0: no limit */
    uint32_t n_topics;
};

struct catalogue_topic {
    const char *name;
    uint32_t log; /* index in logs */
    const char **producers;
    size_t n_producers;
    const char **groups;
    size_t n_groups;
};

struct catalogue_group {
    const char *name;
    uint64_t retry_ns[14]; /* waits before attempts 2, 3, ... */
    uint32_t n_retry;
    uint64_t handler_timeout_ns; /* 0: none */
    bool parks;                  /* "on_dead": "park" */
    struct version_accepts accepts;
    uint32_t outage_events; /* so many different ones that fail the same way pause it; 0: never */
};

struct catalogue {
    const char *name_space;
    bool open;          /* any service may publish on any topic of the catalogue */
    size_t payload_max; /* bytes */
    const char **here;
    size_t n_here;
    struct catalogue_log *logs;
    size_t n_logs; /* in the order in which their first topics stand in the text */
    struct catalogue_topic *topics;
    size_t n_topics; /* in the order of the text */
    struct catalogue_group *groups;
    size_t n_groups; /* every group that a topic names, with its settings */
};

/* Parses and checks. *out_catalogue is to be freed by catalogue_free(), and points nowhere into the text. EVBUS_OK,
 * EVBUS_ECATALOGUE, EVBUS_ENOSPC (memory). */
int catalogue_parse(const char *text, size_t len_bytes, struct catalogue **out_catalogue, struct error *err);
void catalogue_free(struct catalogue *catalogue); /* NULL is fine */

/* Index of a topic by name, or -1. */
ptrdiff_t catalogue_find_topic(const struct catalogue *catalogue, const char *topic);

/* May this service publish on it? `service` NULL: nobody. */
bool catalogue_may_publish(const struct catalogue *catalogue, const struct catalogue_topic *topic, const char *service);

#endif
